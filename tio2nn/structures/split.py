"""The split of structures into training set, validation set and test set."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError, unreadable
from tio2nn.files.strict_json import quote
from tio2nn.files.tables import write_csv
from tio2nn.files.text import quoted
from tio2nn.structures.coverage import with_every_kind_in_training
from tio2nn.structures.names import stem, uncompressed
from tio2nn.wording import counted

SETS = ("train", "validation", "test")
LEFT_OUT = ""
"""Part of a structure that the user's split does not name."""

# a name with one of these, also compressed, is a file name
_SUFFIXES = (".xsf", ".axsf", ".extxyz", ".xyz")


@dataclass(frozen=True)
class Split:
    """The part of each structure.

    Attributes:
        names: of all structures in the store, in its order.
        parts: one of `SETS`, or `LEFT_OUT`, for each structure.
        unknown: names in the user's split that are not in the store.
        replaces_another: whether it was drawn because the split of the project was made for other structures.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    unknown: tuple[str, ...] = field(default=(), compare=False)
    replaces_another: bool = field(default=False, compare=False)

    def indices(self, part: str) -> NDArray[np.int64]:
        """Indices into the store of the structures in one part, ascending."""
        return np.array([k for k, own in enumerate(self.parts) if own == part], dtype=np.int64)

    def restricted_to(self, chosen: NDArray[np.bool_]) -> Split:
        """The same split, with all other structures left out; `chosen` is (n_structures,)."""
        pairs = zip(self.parts, chosen.tolist(), strict=True)
        return replace(self, parts=tuple([part if is_chosen else LEFT_OUT for part, is_chosen in pairs]))

    def write(self, path: Path, groups: Sequence[str]) -> None:
        """Write `split.csv`: structure, part, group.

        The part is empty for structures that the user's split does not name. Structures that training excludes for
        their energy or forces keep their part.
        """
        rows = zip(self.names, self.parts, groups, strict=True)
        write_csv(path, ["structure", "part", "group"], rows)


def covers(parts: Mapping[str, str], names: Sequence[str]) -> bool:
    """Whether a split, as `read_parts` gives it, names exactly these structures and trains on at least one."""
    return set(parts) == set(names) and "train" in parts.values()


def random_split(
    names: Sequence[str],
    groups: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    compositions: NDArray[np.integer] | None = None,
    has_forces: NDArray[np.bool_] | None = None,
) -> Split:
    """Split at random; groups stay together, and the training set has every element, and forces.

    Args:
        names: of the structures.
        groups: group of each structure; the names themselves to split structure by structure.
        validation, test: fractions of the structures.
        seed: for the permutation of the groups.
        compositions: (n_structures, n_elements) number of atoms, a row of zeros for structures that will not be used;
            rare elements and compositions then move to the training set, see `with_every_kind_in_training`.
        has_forces: (n_structures,) rare forces move there, too.
    """
    members: dict[str, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    order = np.random.default_rng([seed, 0x5B117]).permutation(len(members))
    names_of_groups = sorted(members)
    most = max(0, len(names) - 1)  # training needs one
    n_validation = min(most, max(1, round(validation * len(names)))) if validation > 0 else 0
    wanted = {"test": min(most - n_validation, round(test * len(names))), "validation": n_validation}
    parts = ["train"] * len(names)
    for position in order:
        chosen = members[names_of_groups[position]]
        for part, left in wanted.items():
            # a group that does not fit into what a part still needs goes to the training set
            if 0 < len(chosen) <= left:
                for index in chosen:
                    parts[index] = part
                wanted[part] -= len(chosen)
                break
    if n_validation > 0 and "validation" not in parts:
        # all groups are large, but validation needs one
        training = [group for group in names_of_groups if parts[members[group][0]] == "train"]
        if len(training) > 1:
            for index in members[min(training, key=lambda group: len(members[group]))]:
                parts[index] = "validation"
    if compositions is not None:
        units = [members[names_of_groups[position]] for position in order]
        parts = with_every_kind_in_training(parts, units, compositions, has_forces)
    return Split(tuple(names), tuple(parts))


def read_split(
    path: Path,
    names: Sequence[str],
    validation: float,
    seed: int,
    compositions: NDArray[np.integer] | None = None,
    has_forces: NDArray[np.bool_] | None = None,
) -> Split:
    """Read a split given by the user.

    The file is a CSV table with the columns structure and part, or a plain list of the names in the training set, one
    per line. If the validation set is empty, a fraction of the training set is drawn for it. Structures that are not
    named are left out. Names may be file names.

    Args:
        path: the file.
        names: of the structures in the store.
        validation: fraction to draw.
        seed: for the draw.
        compositions, has_forces: as for `random_split`.

    Raises:
        InputError: the file is no split, names an unknown part or a structure twice, or no structure of the store.
    """
    known = set(names)
    rows = _by_name(path, [row._replace(name=_known_name(row.name, known)) for row in _rows(path)])
    unknown = [name for name in rows if name not in known]
    if len(unknown) == len(rows):
        more = ", ..." if len(unknown) > 1 else ""
        raise InputError(
            f"expected names of extracted structures, got {counted(len(unknown), 'unknown name')}: "
            f"{quote(unknown[0])}{more}",
            file=str(path),
        )
    parts = [rows.get(name, LEFT_OUT) for name in names]
    if "validation" not in parts:
        chosen = [k for k, part in enumerate(parts) if part == "train"]
        own = [names[k] for k in chosen]
        drawn = random_split(
            own,
            own,
            validation,
            0.0,
            seed,
            None if compositions is None else compositions[chosen],
            None if has_forces is None else has_forces[chosen],
        )
        for k, part in zip(chosen, drawn.parts, strict=True):
            parts[k] = part
    if "train" not in parts:
        raise InputError("expected at least one structure in the training set, got none", file=str(path))
    return Split(tuple(names), tuple(parts), tuple(unknown))


def read_parts(path: Path) -> dict[str, str]:
    """The part of each structure that a file names, by the names in the file.

    Raises:
        InputError: the file is no split, or names an unknown part or a structure twice.
    """
    return _by_name(path, _rows(path))


class _Row(NamedTuple):
    line: int
    name: str
    part: str


def _rows(path: Path) -> list[_Row]:
    file = str(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(unreadable(error), file=file) from None
    except UnicodeDecodeError:
        raise InputError("expected UTF-8 text, got another encoding", file=file) from None
    try:
        table = list(csv.reader(lines))
    except csv.Error as error:
        raise InputError(f"expected a CSV table or a list of names, got: {error}", file=file) from None
    header = [cell.strip() for cell in table[0]] if table else []
    if len(header) > 1 and ("structure" in header) != ("part" in header):
        got = quoted(lines[0])
        raise InputError(f"expected the columns structure and part, got {got}", file=file, line=1)
    if "structure" not in header or "part" not in header:
        return [_Row(n, line.strip(), "train") for n, line in enumerate(lines, start=1) if line.strip()]
    name, part = header.index("structure"), header.index("part")
    rows = []
    for n, cells in enumerate(table[1:], start=2):
        if not cells:
            continue
        if len(cells) <= max(name, part):
            raise InputError(f"expected {len(header)} columns, got {len(cells)}", file=file, line=n)
        rows.append(_Row(n, cells[name].strip(), cells[part].strip()))
    return rows


def _by_name(path: Path, rows: Sequence[_Row]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for line, name, part in rows:
        if part not in (*SETS, LEFT_OUT):
            raise InputError(
                f"expected the part {', '.join(SETS[:-1])} or {SETS[-1]}, got {quote(part)}",
                file=str(path),
                line=line,
            )
        if name in parts:
            raise InputError(
                f"expected each structure once, got {quote(name)} twice", file=str(path), line=line
            )
        parts[name] = part
    if not parts:
        raise InputError("expected names of structures, got an empty file", file=str(path))
    return parts


def _known_name(name: str, known: Collection[str]) -> str:
    """The name of the structure that is called this, or comes from a file called this."""
    if name in known or not uncompressed(name.lower()).endswith(_SUFFIXES):
        return name
    return stem(name)
