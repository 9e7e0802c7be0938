"""Output of `pw.x` of Quantum ESPRESSO: single points, relaxations, dynamics; several runs in one file.

Its total energy contains the entropy of the smearing: forces belong to it. It is energy and free energy alike, as in
ASE. Energies and lengths are converted from Ry and Bohr with the Hartree of XSF and the Bohr of the same constants.
Stresses are those in Ry/Bohr³, positive under pressure. Until version 4, the lattice parameter is called a_0, not alat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.text import parse_count, parse_number, quoted
from tio2nn.io.atomic_units import BOHR, HARTREE
from tio2nn.io.electronic_states import by_electrons
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

_RYDBERG = HARTREE / 2
_UNIT = re.compile(r"[({]\s*([a-z]+)\s*=?\s*([-+0-9.DdEe]*)\s*[)}]?")
_ALAT = re.compile(r"lattice parameter \((?:alat|a_0)\)")
_IN_ALAT = re.compile(r"in units of (?:alat|a_0)\)|positions \((?:alat|a_0) units\)")
_STRESS = re.compile(r"total\s+stress\s+\(")
_IN_PARENTHESES = re.compile(r"=\s*\(([^)]*)\)")


def iter_espresso(stream: BinaryIO, *, file: str) -> Iterator[Structure | InputError]:
    """The geometries with results; one that did not converge, or cannot be used, yields an error.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.

    Raises:
        InputError: nothing behind this place can be read.
        OSError, EOFError: the content cannot be read.
    """
    return at_least_one(_geometries(Lines(stream, file), file), "a total energy of pw.x", file)


def _geometries(lines: Lines, file: str) -> Iterator[Structure | InputError]:
    run = _Run(lines, file)
    for line in lines:
        yield from run.take(line)
    yield from run.end()


class _Run:
    """What was read so far: the geometry, and the results for it."""

    def __init__(self, lines: Lines, file: str) -> None:
        self._lines, self._file = lines, file
        self._start()

    def _start(self) -> None:
        self._alat: float | None = None
        self._cell: np.ndarray | None = None
        self._n_atoms: int | None = None
        self._n_electrons: float | None = None
        self._in_species = False
        self._valences: dict[str, float | None] = {}  # by the labels of atoms
        self._labels: list[str] = []
        self._elements: list[str] = []
        self._positions: np.ndarray | None = None
        self._forget()

    def _forget(self) -> None:
        self._line = self._lines.number
        self._energy: float | None = None
        self._forces: np.ndarray | None = None
        self._stress: list[list[float]] | None = None
        self._failed: str | None = None

    def take(self, line: str) -> Iterator[Structure | InputError]:
        """Go on with a line; yields what it ends."""
        if "Program PWSCF" in line:
            yield from self.end()
            self._start()
        elif "lattice parameter (" in line and _ALAT.search(line) and self._alat is None:
            self._alat = self._after(line, "=") * BOHR
        elif "celldm(1)=" in line:
            (number,) = numbers_of(line.split("celldm(1)=")[1].split(), self._lines, 1)
            # more digits than the line above it; zero if the cell was given in other units
            self._alat = number * BOHR if number else self._alat
        elif "number of atoms/cell" in line:
            word = line.partition("=")[2].strip()
            self._n_atoms = parse_count(word)
            if self._n_atoms is None:
                raise self._lines.error(f"expected the number of atoms, got {quoted(word)}")
        elif "number of electrons" in line and "=" in line:
            words = line.partition("=")[2].split()
            self._n_electrons = parse_number(words[0]) if words else None
        elif "atomic species" in line and "valence" in line:
            self._in_species = True
        elif self._in_species:
            # no label depends on it: a damaged row tells nothing
            label, *numbers = line.split() or [""]
            self._in_species = bool(label)
            if numbers:
                self._valences[label] = parse_number(numbers[0])
        elif "crystal axes:" in line and _IN_ALAT.search(line):
            self._cell = self._in_alat([self._vector() for _ in range(3)])
        elif "tau(" in line and "positions (alat units)" not in line and "site n." not in line:
            # the rows of a list are taken together, by its head
            pass
        elif "site n." in line and _IN_ALAT.search(line):
            yield from self.end()
            self._read_sites()
        elif line.startswith("CELL_PARAMETERS"):
            # the positions that follow belong to it, the results before do not
            yield from self.end()
            self._read_cell(line)
        elif line.startswith("ATOMIC_POSITIONS"):
            yield from self.end()
            self._read_positions(line)
        elif line.startswith("!") and "total energy" in line:
            self._lines.check_end()
            fields = line.partition("=")[2].split()
            if fields[1:2] != ["Ry"]:
                raise self._lines.error(f"expected the total energy in Ry, got {quoted(line.strip())}")
            self._energy = numbers_of(fields, self._lines, 1)[0] * _RYDBERG
            self._failed = None
        elif "convergence NOT achieved" in line:
            self._failed = f"expected a converged calculation, got {quoted(line.strip())}"
        elif "Forces acting on atoms" in line:
            self._read_forces()
        elif "stress" in line and _STRESS.search(line):
            rows = [self._lines.row("a row of the stress") for _ in range(3)]
            self._stress = [numbers_or_nan(_apart(" ".join(row))[:3], -_RYDBERG / BOHR**3) for row in rows]

    def end(self) -> Iterator[Structure | InputError]:
        """The geometry with its results, if there are any."""
        if self._failed is not None or self._energy is not None:
            self._lines.found_result()
        if self._failed is not None:
            yield self._lines.error(self._failed, self._line)
        elif self._energy is not None:
            if self._cell is None or self._positions is None:
                yield self._lines.error("expected cell and positions before the energy, got none", self._line)
            else:
                protons = [self._valences.get(label) for label in self._labels]
                states = by_electrons(protons, self._n_electrons)
                try:
                    yield structure_of(
                        self._elements,
                        self._positions,
                        self._cell,
                        (True, True, True),
                        labels=Labels(self._energy, self._energy, self._forces, self._stress, states=states),
                        file=self._file,
                        line=self._line,
                    )
                except InputError as error:
                    yield error
        self._forget()

    def _after(self, line: str, sign: str) -> float:
        return numbers_of(line.partition(sign)[2].split(), self._lines, 1)[0]

    def _in_alat(self, numbers: list[list[float]]) -> np.ndarray:
        if self._alat is None:
            raise self._lines.error("expected the lattice parameter (alat) first, got none")
        return np.array(numbers) * self._alat

    def _count(self) -> int:
        if self._n_atoms is None:
            raise self._lines.error("expected the number of atoms first, got none")
        return self._n_atoms

    def _vector(self) -> list[float]:
        """The numbers in parentheses of the next line."""
        line = " ".join(self._lines.row("a vector in parentheses"))
        found = _IN_PARENTHESES.search(line)
        if found is None:
            raise self._lines.error(f"expected a vector in parentheses, got {quoted(line)}")
        return numbers_of(_apart(found[1]), self._lines)

    def _symbol(self, label: str) -> str:
        symbol = element_of_label(label)
        if symbol is None:
            raise self._lines.error(f"expected the label of an element, got {quoted(label)}")
        return symbol

    def _read_sites(self) -> None:
        labels, elements, positions = [], [], []
        for _ in range(self._count()):
            line = " ".join(self._lines.row("the position of an atom"))
            fields, found = line.split(), _IN_PARENTHESES.search(line)
            if found is None or len(fields) < 2:
                raise self._lines.error(f"expected the position of an atom, got {quoted(line)}")
            elements.append(self._symbol(fields[1]))
            labels.append(fields[1])
            positions.append(numbers_of(_apart(found[1]), self._lines))
        self._labels, self._elements, self._positions = labels, elements, self._in_alat(positions)

    def _scale(self, line: str) -> tuple[str, float]:
        """The unit that a heading states, and its length in Å."""
        found = _UNIT.search(line.lower())
        unit, number = ("alat", "") if found is None else found.groups()
        if unit == "alat":
            stated = parse_number(number)
            if number and stated is None:
                raise self._lines.error(f"expected a number after alat, got {quoted(number)}")
            if stated is None and self._alat is None:
                raise self._lines.error("expected the lattice parameter (alat) first, got none")
            return unit, stated * BOHR if stated is not None else (self._alat or 0.0)
        if unit not in ("bohr", "angstrom", "crystal"):
            raise self._lines.error(f"expected alat, bohr, angstrom or crystal, got {quoted(unit)}")
        return unit, BOHR if unit == "bohr" else 1.0

    def _read_cell(self, line: str) -> None:
        _, scale = self._scale(line)
        rows = [numbers_of(self._lines.row("a cell vector"), self._lines) for _ in range(3)]
        self._cell = np.array(rows) * scale

    def _read_positions(self, line: str) -> None:
        unit, scale = self._scale(line)
        labels, elements, positions = [], [], []
        for _ in range(self._count()):
            fields = self._lines.row("the position of an atom")
            labels.append(fields[0] if fields else "")
            elements.append(self._symbol(labels[-1]))
            positions.append(numbers_of(fields[1:], self._lines))
        self._labels, self._elements, self._positions = labels, elements, np.array(positions) * scale
        if unit == "crystal":
            if self._cell is None:
                raise self._lines.error("expected the cell first, got none")
            self._positions = self._positions @ self._cell

    def _read_forces(self) -> None:
        rows: list[list[float]] = []
        while len(rows) < self._count():
            fields = self._lines.row("the force on an atom")
            if not fields and not rows:
                continue
            if len(fields) < 6 or fields[0] != "atom" or fields[4:6] != ["force", "="]:
                raise self._lines.error(f"expected the force on an atom, got {quoted(' '.join(fields))}")
            rows.append(numbers_of(_apart(" ".join(fields[6:])), self._lines))
        self._forces = np.array(rows) * (_RYDBERG / BOHR)


def _apart(text: str) -> list[str]:
    """The numbers of a fixed format, in which a minus may follow on a digit."""
    return re.sub(r"(?<=[0-9])-", " -", text).split()
