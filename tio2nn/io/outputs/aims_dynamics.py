"""Dynamics of FHI-aims through dpdata, step by step.

A step is what stands between two beginnings of self-consistency: forces, energies, and the positions that they belong
to, printed when all is done. The energies are those of a single point, and the stress is, if it is printed; dpdata
knows only the energy without entropy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tio2nn.errors import InputError
from tio2nn.files.text import parse_count, parse_number, quoted
from tio2nn.io.electronic_states import by_electrons
from tio2nn.io.outputs import foreign
from tio2nn.io.stream import Labels, Lines, element_of_label, numbers_of, numbers_or_nan, structure_of
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.structure import Structure

_TITLE = "dynamics of FHI-aims"
_NEXT_STEP = "Begin self-consistency loop: Re-initialization"
_CELL, _ATOMS = "| Unit cell:", "| Atomic structure:"
_FORCES = "Total atomic forces"
# of every step, of the last one, and where only some steps are printed in full
_POSITIONS = (
    "Atomic structure (and velocities) as used in the preceding time step",
    "Final atomic structure (and velocities) as used in the preceding time step",
    "Intermediate atomic structure used for the force and energy evaluation",
)
_CONVERGED = "Self-consistency cycle converged"
_ENERGIES = ("Total energy uncorrected", "Total energy corrected", "Electronic free energy")
STRESS = "Analytical stress tensor - Symmetrized"
_UNIT_OF_STRESS = "[eV/A**3]"
_LONGEST = 200  # characters of a row that are looked at
_ELECTRONS = re.compile(r"The structure contains .* and a total of\s+(\S+)\s+electrons")


def is_dynamics(line: str) -> bool:
    """Whether a line is that of `control.in`, which FHI-aims repeats, that asks for dynamics."""
    return line.split(None, 1)[:1] == ["MD_run"]


def electrons_in(line: str) -> float | None:
    """The number of electrons, if a line tells it."""
    found = _ELECTRONS.search(line[:_LONGEST])
    return None if found is None else parse_number(found[1])


def states_of(elements: Sequence[str], n_electrons: float | None) -> dict[str, str]:
    """The charge, for `Extras.states`; FHI-aims counts all electrons."""
    return by_electrons([ATOMIC_NUMBERS.get(element) for element in elements], n_electrons)


class Dynamics:
    """One run of FHI-aims.

    Args:
        lines: of the file.
        file: its name.

    Raises:
        InputError: dpdata is missing.
    """

    def __init__(self, lines: Lines, file: str) -> None:
        self._output = foreign.readers(_TITLE, file).aims
        self._lines, self._file = lines, file
        self._n_atoms: int | None = None
        self._geometry: list[str] = []
        self._has_atoms = False
        self._elements: list[str] | None = None
        self._n_electrons: float | None = None
        self._cell: list[list[float]] = []
        self._next_step()

    def _next_step(self) -> None:
        self._line = self._lines.number + 1
        self._step: dict[str, list[str]] = {}
        self._energies: dict[str, float] = {}
        self._stress: list[list[float]] | None = None
        self._unit_is_known = False
        self._open: list[str] = []
        self._n_left = 0
        self._in_positions = False

    def take(self, line: str) -> Iterator[Structure | InputError]:
        """Go on with a line; yields the step that it ends."""
        row = line[:_LONGEST]
        if self._n_left:
            self._lines.check_end()
            # velocities and more stand between the positions
            if not self._in_positions or row.split(None, 1)[:1] == ["atom"]:
                self._open.append(row)
                self._n_left -= 1
            return
        label, _, value = (part.strip() for part in row.strip().removeprefix("|").partition(":"))
        if _NEXT_STEP in row:
            yield from self.end()
        elif label == "Number of atoms" and self._n_atoms is None:
            self._n_atoms = parse_count(value)
        elif label in _ENERGIES and value.split()[1:2] == ["eV"]:
            # in each electronic step they stand in Ha, too; after the unit may come a remark
            self._lines.check_end()
            self._energies[label] = numbers_of(value.split()[:1], self._lines, 1)[0]
            self._step[label] = [row]
        elif STRESS in row:
            self._stress, self._unit_is_known = [], False
        elif _CONVERGED in row:
            self._step[_CONVERGED] = [row]
        elif row.strip().startswith(_FORCES):
            if "eV/Ang" not in row:
                raise self._lines.error(f"expected forces in eV/Ang, got {quoted(row.strip())}")
            self._begin(self._step.setdefault(_FORCES, []), self._count())
        elif row.strip().startswith(_POSITIONS):
            self._begin(self._step.setdefault(_POSITIONS[0], []), self._count())
            self._in_positions = True
        elif row.startswith(f"  {_CELL}") and not self._geometry:
            self._geometry.append(row)
            self._begin(self._geometry, 3)
        elif row.strip() == _ATOMS and not self._has_atoms:
            self._has_atoms = True
            self._begin(self._geometry, self._count() + 1)
        elif self._stress is not None and len(self._stress) < 3:
            self._take_stress(row, self._stress)
        elif self._n_electrons is None:
            self._n_electrons = electrons_in(row)

    def _take_stress(self, row: str, rows: list[list[float]]) -> None:
        """A line of the box of the stress: its unit, a row, or nothing of interest."""
        fields = row.split()
        self._unit_is_known |= _UNIT_OF_STRESS in row
        if fields[:1] == ["|"] and fields[1:2] == ["xyz"[len(rows)]] and len(fields) >= 6:
            if not self._unit_is_known:
                raise self._lines.error(f"expected a stress in {_UNIT_OF_STRESS}, got {quoted(row.strip())}")
            self._lines.check_end()
            rows.append(numbers_or_nan(fields[2:5]))

    def _begin(self, rows: list[str], n: int) -> None:
        self._open, self._n_left = rows, n
        self._in_positions = False

    def _count(self) -> int:
        if self._n_atoms is None or self._n_atoms > foreign.MOST_ATOMS:
            got = "none" if self._n_atoms is None else str(self._n_atoms)
            raise self._lines.error(f"expected the number of atoms first, got {got}")
        return self._n_atoms

    def _failed(self, reason: str) -> InputError:
        return self._lines.error(reason, self._line)

    def end(self) -> Iterator[Structure | InputError]:
        """The present step, or that it has no results."""
        if self._energies or self._step:
            self._lines.found_result()
            try:
                yield self._structure()
            except InputError as error:
                yield error
        else:
            yield self._failed("expected energies at the end of the step, got none: interrupted?")
        self._next_step()

    def _describe(self) -> list[str]:
        """The elements; also notes the cell."""
        cell, _, names, types = foreign.told(
            lambda: self._output.get_info(self._geometry, type_idx_zero=True), self._failed
        )
        has_cell = any(_CELL in row for row in self._geometry)
        self._cell = cell if has_cell else []
        return [element_of_label(names[kind]) or names[kind] for kind in types]

    def _structure(self) -> Structure:
        step = self._step
        if self._elements is None:
            self._elements = self._describe()
        if _CONVERGED not in step:
            raise self._failed("expected a converged step, got one that did not converge")
        wanted = (*_ENERGIES, _FORCES, _POSITIONS[0])
        missing = next((what for what in wanted if what not in step), None)
        if self._stress is not None and len(self._stress) < 3:
            missing = missing or "three rows of the stress"
        if missing is not None or self._n_left:
            what = missing or "all rows of a table"
            raise self._failed(f"expected {what} in a step, got none: interrupted?")
        rows = [*step[_CONVERGED], *step[_ENERGIES[0]], *step[_FORCES], *step[_POSITIONS[0]]]
        positions, _, _, forces, _, _ = foreign.told(
            lambda: self._output.analyze_block(rows, first_blk=False), self._failed
        )
        return structure_of(
            self._elements,
            positions,
            self._cell or [[0.0] * 3] * 3,
            [bool(self._cell)] * 3,
            labels=Labels(
                self._energies[_ENERGIES[1]],
                self._energies[_ENERGIES[2]],
                forces,
                self._stress,
                states=states_of(self._elements, self._n_electrons),
            ),
            file=self._file,
            line=self._line,
        )
