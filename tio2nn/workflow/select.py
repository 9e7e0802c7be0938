"""The verb select: which structures of a pool without labels to compute next.

The pool is read twice: first all of it, of which only candidates are remembered, then up to the last one chosen. So its
size does not matter for the memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tio2nn.cores import thread_count
from tio2nn.errors import InputError, UsageError
from tio2nn.evaluation.coverage import AtomSample
from tio2nn.evaluation.pool import By, Choice, Item, Sieve
from tio2nn.files.atomic import atomic_folder
from tio2nn.files.paths import AnyPath
from tio2nn.files.tables import write_csv
from tio2nn.io.labeled_text import exact_extxyz, exact_xsf
from tio2nn.io.labels import ReadOptions
from tio2nn.io.poscar import write_poscar
from tio2nn.io.read import read_structures
from tio2nn.io.xsf.file import KEYWORD_OF_PERIODICITY
from tio2nn.parallel.progress import Track, silent
from tio2nn.parameters.validation import known
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure
from tio2nn.workflow.points import Seen, known_structures, looked_at, looker
from tio2nn.workflow.predict import label

ChosenFormat = Literal["extxyz", "xsf", "poscar"]
CHOSEN_FORMATS: tuple[ChosenFormat, ...] = get_args(ChosenFormat)
MEASURES: tuple[By, ...] = get_args(By)
_SAMPLED = 4000  # atoms of the pool that are to be covered
WITH_SPREAD: tuple[By, ...] = ("spread", "both")
_SUFFIXES: dict[ChosenFormat, str] = {"extxyz": ".xyz", "xsf": ".xsf", "poscar": ".vasp"}

_REASONS: dict[By, str] = {
    "coverage": "covers most",  # structures or atoms
    "distance": "farthest",
    "spread": "largest spread",
    "both": "largest distance x spread",
}
TABLE, FRAMES = "chosen.csv", "chosen.xyz"
COLUMNS = (
    "rank",
    "file",
    "source",
    "composition",
    "n_atoms",
    "reason",
    "distance",
    "nearest",
    "distance_from_training",
    "nearest_in_training",
    "spread_eV_per_A",
)


@dataclass(frozen=True)
class SelectSettings:
    """How to choose.

    Attributes:
        count: how many structures.
        by: "coverage" of the pool, "distance" from what is known, "spread" of the committee, or the product of "both".
        form: of the files.
        known: sources of structures that have labels, or will have them soon, besides those of the project.
        options: how to read structure files.
        threads: that compute; by default as for `Potential.predict`.
    """

    count: int
    by: By = "coverage"
    form: ChosenFormat = "extxyz"
    known: Sequence[AnyPath] = ()
    options: ReadOptions = field(default_factory=ReadOptions)
    threads: int | None = None

    def check(self, potential: Potential) -> None:
        """Refuse settings that make no sense.

        Raises:
            UsageError: no such measure or format, or a number below 1.
            InputError: the spread of a single network.
        """
        if self.count < 1:
            raise UsageError(f"--count: expected at least 1, got {self.count}")
        known(self.form, CHOSEN_FORMATS, "--format")
        measure = known(self.by, MEASURES, "--by")
        if measure in WITH_SPREAD and len(potential.members) == 1:
            raise InputError(
                f"--by {measure}: expected a committee, whose members disagree, got a single network; use another "
                "measure, or train with --members 2"
            )


@dataclass(frozen=True)
class SelectSummary:
    """Result of a selection.

    Attributes:
        directory: with the files and the table.
        rows: the table, a mapping by the names in `COLUMNS` for each structure.
        by: what they are chosen by.
        n_pool: structures in the pool that can be used.
        n_known: of them, structures like one that has labels.
        n_alike: of them, structures like another one of the pool.
        n_training: structures that have labels.
        radius: no structure of the pool is farther from one that has labels or is chosen.
        n_rejected: structures that cannot be used.
    """

    directory: Path
    rows: tuple[dict[str, Any], ...]
    by: By
    n_pool: int
    n_known: int
    n_alike: int
    n_training: int
    radius: float
    n_rejected: int


def select(
    project: Project | Snapshot | AnyPath | None,
    sources: AnyPath | Sequence[AnyPath],
    directory: AnyPath,
    settings: SelectSettings,
    *,
    potential_file: AnyPath | None = None,
    on_error: Callable[[InputError], None] | None = None,
    track: Track = silent,
) -> SelectSummary:
    """Choose structures of a pool, and write each to a file.

    Args:
        project: the project whose structures are known, or its directory; None if they are given.
        sources: the pool, as for `tio2nn.io.read.read_structures`; not "-".
        directory: new or empty folder for the structures and the table `chosen.csv`.
        settings: how to choose.
        potential_file: another potential than that of the project.
        on_error: called with what is wrong with each structure that cannot be used.
        track: reports progress, one step per structure.

    Raises:
        UsageError: as for `SelectSettings.check`; or neither a project nor known structures.
        MissingInputError, StaleError: a part of the project is missing, or its features are of other functions.
        InputError: a damaged potential, a folder that is not empty, nothing to choose from, or a pool that changes.
        OSError: the files cannot be written.
    """
    snapshot = None if project is None else Snapshot.of(project)
    if potential_file is None:
        if snapshot is None:
            raise UsageError("expected a project or a potential, got neither")
        potential_file = snapshot.project.existing_file(snapshot.project.potential_file)
    potential = Potential.load(potential_file)
    settings.check(potential)
    directory = Path(directory)
    _require_new(directory)
    of_atoms = settings.by == "coverage"
    look = looker(potential, with_spread=settings.by in WITH_SPREAD, with_atoms=of_atoms)
    threads = thread_count(settings.threads)
    given = read_structures(settings.known, options=settings.options, errors="yield")
    labeled = known_structures(snapshot, potential, given, threads, with_atoms=of_atoms)
    pool = read_structures(sources, options=settings.options, errors="yield")
    writable = (_writable(item, settings.form) for item in pool)
    sieve, atoms, n_rejected = Sieve(labeled.fingerprints, settings.count), AtomSample(_SAMPLED), 0
    with track("reading the pool", 0) as advance:
        for first, batch in looked_at(writable, look, threads):
            good = [(place, seen) for place, seen in enumerate(batch, first) if isinstance(seen, Seen)]
            if good:
                items = [_item(place, seen, potential.elements) for place, seen in good]
                sieve.add(np.stack([seen.fingerprint for _, seen in good]), items)
                for item in items:
                    atoms.add(item.atoms)
            for error in batch:
                if isinstance(error, InputError):
                    n_rejected += 1
                    if on_error is not None:
                        on_error(error)
            advance(len(batch))
    chosen = sieve.choose(settings.by, atoms.points(), labeled.atoms)
    if not chosen.choices:
        got = f"{sieve.n_known} like structures with labels" if sieve.n else "none that can be used"
        raise InputError(f"expected structures in the pool that have no labels yet, got {got}")
    rows = _write(directory, chosen.choices, labeled.names, sources, settings)
    return SelectSummary(
        directory,
        tuple(rows),
        settings.by,
        n_pool=sieve.n,
        n_known=sieve.n_known,
        n_alike=sieve.n_alike,
        n_training=len(labeled.names),
        radius=chosen.radius,
        n_rejected=n_rejected,
    )


def _require_new(directory: Path) -> None:
    """Refuse a folder with anything in it, before the pool is read."""
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if os.path.lexists(directory):
        raise InputError("expected a new or empty folder, got one that exists", file=str(directory))


def _write(
    directory: Path,
    choices: Sequence[Choice],
    names: Sequence[str],
    sources: AnyPath | Sequence[AnyPath],
    settings: SelectSettings,
) -> list[dict[str, Any]]:
    """Write the structures and the table; there is a whole folder or none."""
    rows = []
    width = max(4, len(str(len(choices))))
    files = {c.rank: f"{c.rank:0{width}d}{_SUFFIXES[settings.form]}" for c in choices}
    with atomic_folder(directory) as unfinished:
        for choice, structure in _read_again(choices, sources, settings.options):
            row = _row(choice, structure, files, names, settings)
            text = _text(structure, row, settings.form)
            (unfinished / files[choice.rank]).write_text(text, encoding="utf-8", newline="")
            if settings.form == "poscar":  # which no reader takes for --known
                with (unfinished / FRAMES).open("a", encoding="utf-8", newline="") as handle:
                    handle.write(_text(structure, row, "extxyz"))
            rows.append(row)
        rows.sort(key=lambda row: int(row["rank"]))
        write_csv(unfinished / TABLE, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    return rows


def _read_again(
    choices: Sequence[Choice], sources: AnyPath | Sequence[AnyPath], options: ReadOptions
) -> Iterator[tuple[Choice, Structure]]:
    """Each choice and its structure, in the order of the pool."""
    wanted = {choice.item.place: choice for choice in choices}
    for place, item in enumerate(read_structures(sources, options=options, errors="yield")):
        choice = wanted.pop(place, None)
        if choice is None:
            continue
        if isinstance(item, InputError) or item.geometry_hash != choice.item.geometry:
            raise InputError(
                "expected a pool that does not change while it is read, got another structure the second time",
                file=item.file,
                line=item.line,
            )
        yield choice, item
        if not wanted:
            return
    raise InputError("expected a pool that does not change while it is read, got fewer structures in the end")


def _row(
    choice: Choice,
    structure: Structure,
    files: Mapping[int, str],
    names: Sequence[str],
    settings: SelectSettings,
) -> dict[str, Any]:
    composition = "".join(f"{e}{n if n > 1 else ''}" for e, n in structure.composition.items())
    return {
        "rank": choice.rank,
        "file": files[choice.rank],
        "source": label(structure),
        "composition": composition,
        "n_atoms": structure.n_atoms,
        "reason": _reason(settings.by, choice),
        "distance": choice.distance,
        "nearest": files.get(choice.nearest) or names[choice.known],
        "distance_from_training": choice.known_distance,
        "nearest_in_training": names[choice.known],
        "spread_eV_per_A": choice.item.spread if settings.by in WITH_SPREAD else "",
    }


def _reason(by: By, choice: Choice) -> str:
    of_what = " atoms" if choice.for_atoms else ""
    return f"{_REASONS[by]}{of_what}{', share of its composition' if choice.for_share else ''}"


def _text(structure: Structure, row: Mapping[str, Any], form: ChosenFormat) -> str:
    """The content of a file. Labels that a pool has are left out: they are to be computed."""
    bare = replace(structure, energy=None, forces=None, stress=None, free_energy=None, plain_energy=None)
    notes = {"rank": str(row["rank"]), "source": row["source"], "reason": row["reason"]}
    if form == "poscar":
        return write_poscar(bare, f"{row['rank']} {row['source']}")
    return exact_extxyz(bare, notes) if form == "extxyz" else exact_xsf(bare, notes)


def _item(place: int, seen: Seen, elements: Sequence[str]) -> Item:
    structure = seen.structure
    counts = tuple(structure.composition.get(element, 0) for element in elements)
    return Item(place, counts, seen.spread, structure.geometry_hash, seen.atoms)


def _writable(item: Structure | InputError, form: ChosenFormat) -> Structure | InputError:
    """The structure, or an error if its periodic axes cannot be expressed in a format."""
    if isinstance(item, InputError):
        return item
    if form == "poscar" and not all(item.periodic):
        return item.error(f"expected three periodic axes, as POSCAR demands, got {item.periodic}")
    if form == "xsf" and item.periodic not in KEYWORD_OF_PERIODICITY:
        return item.error(f"expected the periodic axes first, as XSF demands, got {item.periodic}")
    return item
