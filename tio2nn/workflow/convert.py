"""The verb convert: write the structures of a project in formats of other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from tio2nn.errors import InputError, UsageError, naming
from tio2nn.files.atomic import atomic_folder, atomic_write
from tio2nn.files.paths import AnyPath
from tio2nn.io.database import write_database
from tio2nn.io.labeled_text import exact_extxyz, exact_xsf
from tio2nn.io.labels import RunnerUnits
from tio2nn.io.runner import write_runner
from tio2nn.parallel.progress import Track, silent
from tio2nn.parameters.validation import known
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import SETS, covers, read_parts
from tio2nn.structures.structure import Structure

StructureFormat = Literal["extxyz", "db", "runner", "xsf"]
STRUCTURE_FORMATS: tuple[StructureFormat, ...] = get_args(StructureFormat)
_OF_SUFFIX: dict[str, StructureFormat] = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".db": "db",
    ".data": "runner",
}


@dataclass(frozen=True)
class ConvertSummary:
    """Result of a conversion.

    Attributes:
        path: of the file, or of the folder of XSF files.
        n_structures: number of structures in it.
        rejected: why others cannot be expressed.
        n_without_stress: structures whose stress is left out, for lack of a place.
        n_without_forces: structures whose unknown forces are written as zeros, for lack of a way to leave them out.
    """

    path: Path
    n_structures: int
    rejected: tuple[InputError, ...] = ()
    n_without_forces: int = 0
    n_without_stress: int = 0


def known_structure_format(form: str | None, path: AnyPath) -> StructureFormat:
    """The format of this name, by default that of the suffix; a path without a suffix is a folder of XSF files.

    Raises:
        UsageError: there is none.
    """
    if form is not None:
        return known(form, STRUCTURE_FORMATS, "--format")
    suffix = Path(path).suffix.lower()
    found = _OF_SUFFIX.get(suffix, "xsf" if not suffix else None)
    if found is None:
        expected = ", ".join(STRUCTURE_FORMATS)
        raise UsageError(f"expected --format with one of {expected} for the suffix {suffix}, got none")
    return found


def convert(
    project: Project | Snapshot | AnyPath,
    path: AnyPath,
    form: StructureFormat,
    *,
    part: str | None = None,
    units: RunnerUnits = "Bohr,Ha",
    track: Track = silent,
) -> ConvertSummary:
    """Write the structures of a project, with labels, and with name, file, group, part of the split and outliers.

    Args:
        project: the project, or its directory.
        path: new file; of XSF, a new or empty folder.
        form: its format.
        part: "train", "validation" or "test"; by default all structures.
        units: of `input.data` of RuNNer; numbers in Å and eV lose no digit.
        track: reports progress, one step per structure.

    Raises:
        UsageError: an unknown part.
        MissingInputError: there are no structures, or no split that has parts.
        InputError: the file exists, or no structure can be written.
        OSError: it cannot be written.
    """
    snapshot, path = Snapshot.of(project), Path(path)
    project, store = snapshot.project, snapshot.structures
    if part is not None:
        known(part, SETS, "--only")
    parts = _parts(project, store, needed=part is not None)
    chosen = [k for k, name in enumerate(store.names) if part is None or parts.get(name) == part]
    if not chosen:
        raise InputError(f"expected structures in the part {part}, got none", file=str(project.split_file))
    if path.exists() and not (form == "xsf" and path.is_dir() and not any(path.iterdir())):
        raise InputError("expected a new file or an empty folder, got one that exists", file=str(path))

    def rows() -> Iterator[tuple[Structure, Mapping[str, str]]]:
        with track("writing structures", len(chosen)) as advance:
            for k in chosen:
                yield store[k], _notes(store, k, parts)
                advance(1)

    if form == "xsf":
        made = _folder(path, rows())
        return replace(made, n_without_stress=int(store.has_stress[chosen].sum()))
    if form == "db":
        _database(path, rows())
    else:
        with atomic_write(path) as handle:
            for structure, notes in rows():
                handle.write(
                    exact_extxyz(structure, notes)
                    if form == "extxyz"
                    else write_runner(structure, units=units, about=notes)
                )
    without = int((~store.has_forces[chosen]).sum()) if form == "runner" else 0
    return ConvertSummary(path, len(chosen), n_without_forces=without)


def _parts(project: Project, store: StructureStore, *, needed: bool) -> Mapping[str, str]:
    """The part of each structure; none if there is no split of these structures and none is needed."""
    if not needed and not project.split_file.exists():
        return {}
    parts = read_parts(project.existing_file(project.split_file))
    if covers(parts, store.names):
        return parts
    if needed:
        reason = f'the split is of other structures; run "{project.command("train")}" first'
        raise InputError(reason, file=str(project.split_file))
    return {}


def _notes(store: StructureStore, index: int, parts: Mapping[str, str]) -> dict[str, str]:
    name = store.names[index]
    notes = {"name": name, "source": store.files[index], "group": store.groups[index]}
    if name in parts:
        notes["split"] = parts[name]
    if store.gross_outliers[index]:
        notes["outlier"] = "gross"
    return notes


def _folder(path: Path, rows: Iterator[tuple[Structure, Mapping[str, str]]]) -> ConvertSummary:
    rejected, n_written = [], 0
    with atomic_folder(path) as unfinished:
        for number, (structure, notes) in enumerate(rows, start=1):
            try:
                text = exact_xsf(structure, notes)
            except ValueError as error:
                rejected.append(InputError(str(error), file=structure.name))
                continue
            file = unfinished / f"structure{number:06d}.xsf"
            file.write_text(text, encoding="utf-8", newline="\n")
            n_written += 1
    return ConvertSummary(path, n_written, tuple(rejected))


def _database(path: Path, rows: Iterator[tuple[Structure, Mapping[str, str]]]) -> None:
    """Write beside the file and rename, so that there is a whole database or none."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with naming(path), tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".convert-") as folder:
        unfinished = Path(folder) / "new.db"
        write_database(unfinished, rows)
        os.replace(unfinished, path)  # noqa: PTH105 -- Path.replace is the same, atomic
