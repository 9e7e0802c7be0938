"""Which structure is in which part: training, validation, test."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.io.atomic import atomic_write

PARTS = ("train", "validation", "test")
LEFT_OUT = ""
"""Part of a structure that a list given by the user does not name."""

_SUFFIXES = (".gz", ".xsf", ".extxyz", ".xyz")


@dataclass(frozen=True)
class Split:
    """The part of each structure.

    Attributes:
        names: of all structures of the store, in its order.
        parts: for each one of `PARTS`, or `LEFT_OUT`.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]

    def indices(self, part: str) -> NDArray[np.int64]:
        """Positions in the store of the structures of one part, ascending."""
        return np.array([k for k, own in enumerate(self.parts) if own == part], dtype=np.int64)

    def write(self, path: Path, groups: Sequence[str]) -> None:
        """Write `split.csv`: structure, part, group; structures that are left out have no row."""
        with atomic_write(path) as handle:
            table = csv.writer(handle, lineterminator="\n")
            table.writerow(["structure", "part", "group"])
            rows = zip(self.names, self.parts, groups, strict=True)
            table.writerows(row for row in rows if row[1] != LEFT_OUT)

    def covers(self, path: Path) -> bool:
        """Whether a `split.csv` names only structures that the store has, and at least one to train on."""
        try:
            rows = read_parts(path)
        except InputError:
            return False
        return set(rows) <= set(self.names) and "train" in rows.values()


def random_split(
    names: Sequence[str], groups: Sequence[str], validation: float, test: float, seed: int
) -> Split:
    """Divide at random; groups stay together.

    Args:
        names: of the structures.
        groups: group of each structure; for a split structure by structure, the names themselves.
        validation, test: fractions of the structures.
        seed: of the permutation of the groups.
    """
    members: dict[str, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    order = np.random.default_rng([seed, 0x5B117]).permutation(len(members))
    names_of_groups = sorted(members)
    wanted = {"test": round(test * len(names)), "validation": round(validation * len(names))}
    if validation > 0 and len(names) > 1:
        wanted["validation"] = max(1, wanted["validation"])
    parts = ["train"] * len(names)
    for position in order:
        chosen = members[names_of_groups[position]]
        for part, left in wanted.items():
            # a group larger than what a part still lacks would make that part too large: it trains
            if 0 < len(chosen) <= left:
                for index in chosen:
                    parts[index] = part
                wanted[part] -= len(chosen)
                break
    return Split(tuple(names), tuple(parts))


def read_split(path: Path, names: Sequence[str], validation: float, seed: int) -> Split:
    """A division that the user gives.

    Either a CSV with the columns structure and part, or a bare list of names, one a line, that are to train. If no
    structure is in the validation part, that fraction of the training part is drawn for it. Structures that
    are not named are left out. Names may be file names.

    Args:
        path: the file.
        names: of the structures of the store.
        validation: fraction to draw.
        seed: of the draw.

    Raises:
        InputError: not such a file, an unknown part, a structure twice, or none that the store has.
    """
    rows = read_parts(path)
    parts = [rows.get(name, LEFT_OUT) for name in names]
    unknown = [name for name in rows if name not in set(names)]
    if len(unknown) == len(rows):
        raise InputError(
            f"expected names of extracted structures, got {len(unknown)} unknown ones such as {unknown[0]!r}",
            file=str(path),
        )
    if "validation" not in parts:
        chosen = [k for k, part in enumerate(parts) if part == "train"]
        drawn = random_split([names[k] for k in chosen], [names[k] for k in chosen], validation, 0.0, seed)
        for k, part in zip(chosen, drawn.parts, strict=True):
            parts[k] = part
    if "train" not in parts:
        raise InputError("expected at least one structure to train on, got none", file=str(path))
    return Split(tuple(names), tuple(parts))


def read_parts(path: Path) -> dict[str, str]:
    """The part of each structure that a file names.

    Raises:
        InputError: not such a file, an unknown part, or a structure twice.
    """
    file = str(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"expected a readable file, got: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise InputError("expected UTF-8 text, got other bytes", file=file) from None
    table = list(csv.reader(lines))
    header = [cell.strip() for cell in table[0]] if table else []
    if "structure" in header and "part" in header:
        columns = header.index("structure"), header.index("part")
        numbered = [(n, row) for n, row in enumerate(table[1:], start=2) if row]
        for n, row in numbered:
            if len(row) <= max(columns):
                raise InputError(f"expected {len(header)} columns, got {len(row)}", file=file, line=n)
        entries = [(n, row[columns[0]].strip(), row[columns[1]].strip()) for n, row in numbered]
    else:
        entries = [(n, line.strip(), "train") for n, line in enumerate(lines, start=1) if line.strip()]
    parts: dict[str, str] = {}
    for n, name, part in entries:
        if part not in PARTS:
            raise InputError(f"expected a part among {', '.join(PARTS)}, got {part!r}", file=file, line=n)
        if (stem := _stem(name)) in parts:
            raise InputError(f"expected each structure once, got {name!r} again", file=file, line=n)
        parts[stem] = part
    if not parts:
        raise InputError("expected names of structures, got an empty file", file=file)
    return parts


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
