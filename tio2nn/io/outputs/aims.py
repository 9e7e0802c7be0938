"""Output of FHI-aims: single points, and dynamics through dpdata (`aims_dynamics`).

The energy is `Total energy corrected`, extrapolated to no smearing, the free energy `Electronic free energy`. The
stress is the analytical one, symmetrized. Relaxations print geometries before or after the results for them, depending
on the version: they are refused, and so are dynamics of which `control.in` is not repeated at the beginning, and
stresses by finite differences, whose strained cells also have energies.

Energies are taken from the compact form at the end alone, where they stand in eV. Those of electronic steps, under the
same names, stand in Ha first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from tio2nn.errors import InputError
from tio2nn.files.text import parse_count, quoted
from tio2nn.io.outputs.aims_dynamics import STRESS, Dynamics, electrons_in, is_dynamics, states_of
from tio2nn.io.stream import (
    Labels,
    Lines,
    at_least_one,
    element_of_label,
    numbers_of,
    numbers_or_nan,
    structure_of,
)
from tio2nn.structures.structure import Structure

_MOVING = (
    "Updated atomic structure:",
    "Molecular dynamics: Attempting to update",
    "Atomic structure (and velocities)",
    "Complete information for previous time-step:",
    "Geometry relaxation:",
)
_ENERGIES = {"Total energy corrected": "energy", "Electronic free energy": "free"}
_IN_EV = re.compile(r"(\S+)\s+eV(?:\s+<--.*)?")
_STRAINED = "see comments in numerical_stress.f90"
_LONGEST = 200  # characters of an energy with its unit and a remark
_NOT_CONVERGED = "Self-consistency cycle did not converge"
_CONVERGED = "Self-consistency cycle converged"


def iter_aims(stream: BinaryIO, *, file: str) -> Iterator[Structure | InputError]:
    """The single points of a file; one that did not converge, or cannot be used, yields an error.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.

    Raises:
        InputError: nothing behind this place can be read.
        OSError, EOFError: the content cannot be read.
    """
    return at_least_one(_points(Lines(stream, file), file), "results of FHI-aims", file)


def _points(lines: Lines, file: str) -> Iterator[Structure | InputError]:
    point: _Point | Dynamics = _Point(lines, file)
    for line in lines:
        if "Invoking FHI-aims" in line:
            yield from point.end()
            point = _Point(lines, file)
        elif isinstance(point, _Point) and point.has_no_results and is_dynamics(line):
            point = Dynamics(lines, file)
        else:
            yield from point.take(line)
    yield from point.end()


class _Point:
    """One run of the program.

    Attributes:
        has_no_results: whether this is still the repetition of the input.
    """

    def __init__(self, lines: Lines, file: str) -> None:
        self._lines, self._file, self._line = lines, file, max(lines.number, 1)
        self._n_atoms: int | None = None
        self._cell: list[list[float]] = []
        self._n_electrons: float | None = None
        self._elements: list[str] = []
        self._positions: list[list[float]] = []
        self._energies: dict[str, float] = {}
        self._forces: list[list[float]] | None = None
        self._stress: list[list[float]] | None = None
        self._converged: bool | None = None
        self._moved = ""

    @property
    def has_no_results(self) -> bool:
        return not (self._energies or self._elements)

    def take(self, line: str) -> Iterator[Structure | InputError]:
        """Go on with a line; nothing ends before the run does.

        Raises:
            InputError: it is damaged.
        """
        if not self._moved:
            self._take(line)
        return iter(())

    def _take(self, line: str) -> None:
        word = line.strip().removeprefix("|").strip()
        label, _, value = (part.strip() for part in word.partition(":"))
        if label == "Number of atoms" and self._n_atoms is None:
            self._n_atoms = parse_count(value)
            if self._n_atoms is None:
                raise self._lines.error(f"expected the number of atoms, got {quoted(value)}")
        elif word == "Unit cell:" and not self._cell:
            self._cell = [self._numbers(self._fields("a cell vector")) for _ in range(3)]
        elif label == "Atomic structure" and not self._elements:
            self._read_atoms()
        elif (n_electrons := electrons_in(line)) is not None:
            self._n_electrons = n_electrons
        elif label in _ENERGIES and (compact := _IN_EV.fullmatch(value[:_LONGEST])) is not None:
            self._lines.check_end()
            (self._energies[_ENERGIES[label]],) = numbers_of([compact[1]], self._lines, 1)
        elif word.startswith("Total atomic forces"):
            self._read_forces(word)
        elif STRESS in line:
            self._read_stress()
        elif _CONVERGED in line:
            self._converged = True
        elif _NOT_CONVERGED.lower() in line.lower():
            self._converged = False
        elif any(sign in line for sign in _MOVING):
            self._moved = "a relaxation or dynamics"
        elif _STRAINED in line:
            self._moved = "a stress by finite differences, which computes strained cells"

    def end(self) -> Iterator[Structure | InputError]:
        """The structure with its results, if there are any."""
        if self._energies or self._elements:
            self._lines.found_result()
        if self._moved:
            yield self._lines.error(f"expected a single point, got {self._moved}", self._line)
        elif self._converged is False or (self._converged is None and self._energies):
            yield self._lines.error(
                "expected a converged calculation, got one that did not converge", self._line
            )
        elif len(self._energies) == len(_ENERGIES):
            try:
                yield structure_of(
                    self._elements,
                    self._positions,
                    self._cell or [[0.0] * 3] * 3,
                    [bool(self._cell)] * 3,
                    labels=Labels(
                        self._energies.get("energy"),
                        self._energies.get("free"),
                        self._forces,
                        self._stress,
                        states=states_of(self._elements, self._n_electrons),
                    ),
                    file=self._file,
                    line=self._line,
                )
            except InputError as error:
                yield error
        elif self._elements or self._energies:
            got = "one of two" if self._energies else "none"
            yield self._lines.error(
                f"expected energies in eV at the end of the run, got {got}: interrupted?", self._line
            )

    def _fields(self, what: str) -> list[str]:
        """The fields of the next line of a table."""
        fields = self._lines.row(what)
        if not fields or fields[0] != "|":
            raise self._lines.error(f"expected {what}, got {quoted(' '.join(fields))}")
        return fields[1:]

    def _numbers(self, fields: list[str]) -> list[float]:
        return numbers_of(fields, self._lines)

    def _count(self) -> int:
        if self._n_atoms is None:
            raise self._lines.error("expected the number of atoms first, got none")
        return self._n_atoms

    def _read_atoms(self) -> None:
        n = self._count()
        self._lines.row("the head of a table")
        for _ in range(n):
            fields = self._fields("the position of an atom")
            if len(fields) < 6 or fields[1] != "Species":
                raise self._lines.error(f"expected the position of an atom, got {quoted(' '.join(fields))}")
            element = element_of_label(fields[2])
            if element is None:
                raise self._lines.error(f"expected a species named by its element, got {quoted(fields[2])}")
            self._elements.append(element)
            self._positions.append(self._numbers(fields[3:]))

    def _read_forces(self, word: str) -> None:
        if "eV/Ang" not in word:
            raise self._lines.error(f"expected forces in eV/Ang, got {quoted(word)}")
        rows = []
        for _ in range(self._count()):
            fields = self._fields("the force on an atom")
            rows.append(self._numbers(fields[1:]))
        self._forces = rows

    def _read_stress(self) -> None:
        """The rows of x, y and z in a box of lines; its head tells the unit."""
        head = " ".join(self._lines.row("the unit of a stress"))
        if "[eV/A**3]" not in head:
            raise self._lines.error(f"expected a stress in [eV/A**3], got {quoted(head)}")
        rows: list[list[float]] = []
        while len(rows) < 3:
            fields = self._lines.row("a row of the stress")
            if fields[:1] == ["|"] and fields[1:2] == ["xyz"[len(rows)]] and len(fields) >= 6:
                rows.append(numbers_or_nan(fields[2:5]))
            elif rows:
                raise self._lines.error(f"expected a row of the stress, got {quoted(' '.join(fields))}")
        self._stress = rows
