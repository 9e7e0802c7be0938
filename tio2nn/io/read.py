"""Reads structures from files of all supported formats, and checks that they are plausible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import NoneType
from typing import BinaryIO, Literal, overload

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.io.database import iter_database
from tio2nn.io.deepmd import iter_deepmd
from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.formats import (
    AIMS,
    AIMS_DYNAMICS,
    CP2K,
    DATABASE,
    DEEPMD,
    ESPRESSO,
    EXTXYZ,
    OUTCAR,
    RUNNER,
    TRAJECTORY,
    VASPRUN,
    XSF,
)
from tio2nn.io.labels import ReadOptions
from tio2nn.io.outputs.aims import iter_aims
from tio2nn.io.outputs.cp2k import iter_cp2k
from tio2nn.io.outputs.espresso import iter_espresso
from tio2nn.io.outputs.outcar import iter_outcar
from tio2nn.io.outputs.vasprun import iter_vasprun
from tio2nn.io.runner import iter_runner
from tio2nn.io.sources import SourceFile, iter_source_files
from tio2nn.io.stream import numbered, until_unreadable
from tio2nn.io.trajectory import iter_trajectory
from tio2nn.io.wrong_names import other_content
from tio2nn.io.xsf.file import iter_xsf
from tio2nn.structures.energy_label import labeled
from tio2nn.structures.geometry import closest_pairs
from tio2nn.structures.names import sorted_by_name, stem
from tio2nn.structures.structure import Structure

__all__ = ["ReadOptions", "read_structures", "sorted_by_name"]

# Å; the shortest bond, in H2, is 0.74 Å
_SMALLEST_SEPARATION = 0.1
# Å, for positions and cell vectors; far beyond any simulation, and differences begin to lose digits
_LARGEST_COORDINATE = 1e6
# eV/atom, for total energies; all-electron energies of uranium reach 0.8 million
_LARGEST_ENERGY = 1e7
# eV/Å, for force components; two bare titanium nuclei 0.1 Å apart repel each other with 0.7 million
_LARGEST_FORCE = 1e6
_CHECKED_TOGETHER = 512  # structures checked at once; 16 would take 4 times as long, 1024 no less


@overload
def read_structures(
    sources: AnyPath | Iterable[AnyPath],
    *,
    stdin: Iterable[str] | None = None,
    options: ReadOptions | None = None,
    errors: Literal["raise"] = "raise",
) -> Iterator[Structure]: ...
@overload
def read_structures(
    sources: AnyPath | Iterable[AnyPath],
    *,
    stdin: Iterable[str] | None = None,
    options: ReadOptions | None = None,
    errors: Literal["yield"],
) -> Iterator[Structure | InputError]: ...
def read_structures(
    sources: AnyPath | Iterable[AnyPath],
    *,
    stdin: Iterable[str] | None = None,
    options: ReadOptions | None = None,
    errors: Literal["raise", "yield"] = "raise",
) -> Iterator[Structure | InputError]:
    """Read all structures of the sources, in order; files of folders and patterns in natural order.

    Args:
        sources: files, also compressed, folders, tar archives, patterns, or
            "-" to read such names from `stdin`; one or several.
        stdin: the lines for "-"; by default the standard input.
        options: which keys hold the labels, and in which unit.
        errors: "raise" the error of the first unusable file or frame, or "yield" every error and read on.

    Yields:
        A structure, named by the stem of its file and, if the file has several frames, a number (`sorted_by_name`
        makes names unique). Structures may lack an energy, but no two atoms, periodic images included, overlap. With
        errors="yield", an error with file and line instead of each unusable file or frame.

    Raises:
        InputError: an unusable file or frame, unless errors are yielded; at the end, a key that the options name and
            no structure has.
        TypeError, ValueError: sources that are no paths, or other arguments of a wrong kind.
    """
    if errors not in ("raise", "yield"):
        raise ValueError(f"errors: expected 'raise' or 'yield', got {errors!r}")
    if not isinstance(options, (ReadOptions, NoneType)):
        raise TypeError(f"options: expected ReadOptions or None, got {options!r}")
    options = options or ReadOptions()
    search = _KeySearch(options)
    items = _searched(structures_and_errors(iter_source_files(sources, stdin), options, search.watch), search)
    return items if errors == "yield" else _up_to_an_error(items)


def _up_to_an_error(items: Iterable[Structure | InputError]) -> Iterator[Structure]:
    for item in items:
        if isinstance(item, InputError):
            raise item
        yield item


def _searched(
    items: Iterable[Structure | InputError], search: _KeySearch
) -> Iterator[Structure | InputError]:
    yield from items
    search.end()


def structures_and_errors(
    files: Iterable[SourceFile | InputError],
    options: ReadOptions,
    watch: Callable[[Iterator[Structure | InputError]], Iterator[Structure | InputError]] = iter,
) -> Iterator[Structure | InputError]:
    """The structures in files, and the errors, as `read_structures` yields them.

    Args:
        files: contents of files.
        options: as for `read_structures`; here no structure needs to have the keys.
        watch: passes on what is in each file.
    """
    waiting: list[Structure | InputError] = []
    for source in files:
        for item in [source] if isinstance(source, InputError) else watch(_parse(source, options)):
            waiting.append(item)
            if len(waiting) >= _CHECKED_TOGETHER:
                yield from _without_overlaps(waiting)
                waiting = []
    yield from _without_overlaps(waiting)


class _KeySearch:
    """Checks that some structure has the keys that the options name."""

    def __init__(self, options: ReadOptions) -> None:
        self._wanted = {
            "energy": options.energy_key,
            "forces": options.forces_key,
            "stress": options.stress_key,
        }
        self._found: set[str] = set()
        self._without: dict[str, Structure] = {}

    def watch(self, items: Iterator[Structure | InputError]) -> Iterator[Structure | InputError]:
        """Pass the items through, and note their keys."""
        for item in items:
            if isinstance(item, Structure):
                for what, key in self._wanted.items():
                    if key is None:
                        continue
                    extras = item.extras
                    if key in extras.info or key in extras.columns or key in extras.keys:
                        self._found.add(what)
                    else:
                        self._without.setdefault(what, item)
            yield item

    def end(self) -> None:
        """Raise an error if there were structures and none had the key."""
        for what, structure in self._without.items():
            if what not in self._found:
                extras, key = structure.extras, self._wanted[what]
                reasons = (extras.no_energy,) if what == "energy" else extras.remarks
                found = next((text.partition("; ")[2] for text in reasons if repr(key) in text), "")
                advice = f"; {found}" if found else ""
                raise structure.error(f"no structure has the key {key!r} given by --{what}-key{advice}")


def _parse(source: SourceFile, options: ReadOptions) -> Iterator[Structure | InputError]:
    items = map(
        _within_reach, _of_right_name(until_unreadable(_frames(source, options), source.file), source)
    )
    if options.energy == "auto":
        return items
    label = options.energy
    return (item if isinstance(item, InputError) else labeled(item, label) for item in items)


def _of_right_name(
    items: Iterator[Structure | InputError], source: SourceFile
) -> Iterator[Structure | InputError]:
    """The items; where the first is an error because the name of the file is wrong, another error says so."""
    first = next(items, None)
    if isinstance(first, InputError) and source.path is not None and source.format.how != "folder":
        other = other_content(source.path, source.format)
        if other:
            reason = f"expected {source.format.title}, as the name says, got {other}"
            first = InputError(reason, file=source.file)
    if first is not None:
        yield first
    yield from items


def _frames(source: SourceFile, options: ReadOptions) -> Iterator[Structure | InputError]:
    file, form = source.file, source.format
    name = stem(file)
    if form is EXTXYZ:
        yield from iter_extxyz(source.whole(), name=name, file=file, options=options)
    elif form is XSF:
        yield from iter_xsf(source.whole(), name=name, file=file, forces=options.xsf_forces)
    else:
        yield from numbered(_READERS[form.key](source, options), name)


def _seekable(source: SourceFile) -> BinaryIO:
    """The content, in memory if it is compressed on disk."""
    return source.stream if source.stream.seekable() else BytesIO(source.whole())


# readers of formats with frames that need not be in memory at once
_READERS: dict[str, Callable[[SourceFile, ReadOptions], Iterator[Structure | InputError]]] = {
    VASPRUN.key: lambda source, _: iter_vasprun(source.stream, file=source.file),
    ESPRESSO.key: lambda source, _: iter_espresso(source.stream, file=source.file),
    AIMS.key: lambda source, _: iter_aims(source.stream, file=source.file),
    AIMS_DYNAMICS.key: lambda source, _: iter_aims(source.stream, file=source.file),
    CP2K.key: lambda source, _: iter_cp2k(source.stream, file=source.file),
    OUTCAR.key: lambda source, _: iter_outcar(source.stream, file=source.file),
    TRAJECTORY.key: lambda source, options: iter_trajectory(
        _seekable(source), file=source.file, options=options
    ),
    DATABASE.key: lambda source, options: iter_database(
        source.path or Path(source.file), file=source.file, options=options
    ),
    DEEPMD.key: lambda source, _: iter_deepmd(source.path or Path(source.file), file=source.file),
    RUNNER.key: lambda source, options: iter_runner(
        source.stream, file=source.file, units=options.runner_units
    ),
}


def _within_reach(item: Structure | InputError) -> Structure | InputError:
    if isinstance(item, InputError):
        return item
    farthest = max(abs(item.positions).max(), abs(item.cell).max())
    energy = 0.0 if item.energy is None else abs(item.energy) / item.n_atoms
    force = 0.0 if item.forces is None else abs(item.forces).max()
    for value, largest, what, unit in (
        (farthest, _LARGEST_COORDINATE, "coordinates", "Å"),
        (energy, _LARGEST_ENERGY, "a total energy", "eV per atom"),
        (force, _LARGEST_FORCE, "force components", "eV/Å"),
    ):
        if value > largest:
            reason = f"expected {what} of at most {largest:g} {unit}, got {value:.3g} {unit}"
            return item.error(reason)
    return item


def _without_overlaps(items: Sequence[Structure | InputError]) -> Iterator[Structure | InputError]:
    """The items in order, with an error for each structure whose atoms overlap."""
    structures = [item for item in items if isinstance(item, Structure)]
    pairs = iter(zip(*closest_pairs(structures), strict=True))
    for item in items:
        if isinstance(item, InputError):
            yield item
            continue
        distance, (first, second) = next(pairs)
        if distance >= _SMALLEST_SEPARATION:
            yield item
            continue
        atoms = (
            f"atom {first + 1} and its image" if first == second else f"atoms {first + 1} and {second + 1}"
        )
        reason = f"expected atoms at least {_SMALLEST_SEPARATION} Å apart, got {distance:.3g} Å ({atoms})"
        yield item.error(reason)
