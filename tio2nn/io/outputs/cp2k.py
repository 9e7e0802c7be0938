"""Output of CP2K through dpdata: a single point with forces, printed at level MEDIUM or above; the stress is read here.

The energy of CP2K contains the entropy of smearing: forces belong to it. It is energy and free energy alike, as for
`pw.x`. Stresses are positive under pressure there: strained copies of silicon, computed by CP2K 2023.1, have minus the
derivative of their energies. Units are those that stand in brackets beside energy, forces and cell, and behind
`ATOMIC COORDINATES IN`; dpdata would take all of them for its own. It opens a file by its name; what it needs is put
into a temporary one, so that outputs come from anywhere.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO

from tio2nn.errors import InputError
from tio2nn.files.text import quoted
from tio2nn.io.outputs import cp2k_units, foreign
from tio2nn.io.stream import Labels, Lines, numbers_of, numbers_or_nan, structure_of
from tio2nn.structures.stress import GPA
from tio2nn.structures.structure import Structure

_TITLE = "output of CP2K"
_ENERGY = "ENERGY| Total FORCE_EVAL"
_KIND = "Atomic kind:"
_SINGLE = ("SCF run converged", "Multiplication driver", "CELL| Vector", "FORCES|", _KIND)
_ATOMS = ("Atom  Kind  Element", "Atom Kind Element")
_FORCES, _END_OF_FORCES = " Atom   Kind ", "SUM OF ATOMIC FORCES"
_PERIODICITY = ("CELL| Periodicity", "POISSON| Periodicity")
# " STRESS TENSOR [GPa]" until version 7, then " STRESS| Analytical stress tensor [bar]"
_STRESS = re.compile(
    r" ?(?:STRESS TENSOR|STRESS\| (?:Analytical|Numerical) stress tensor) \[(\w+)\]\s*", re.IGNORECASE
)
_PRESSURES = {"gpa": 1.0, "kbar": 0.1, "mpa": 1e-3, "bar": 1e-4, "pa": 1e-9}  # GPa
_STATE = re.compile(r" DFT\| (Charge|Multiplicity)\s+(\S+)\s*")
# of what, where it stands, and its meaning
_UNITS: tuple[tuple[str, re.Pattern[str], Callable[[str], float | None]], ...] = (
    ("energy", re.compile(r"ENERGY\| Total FORCE_EVAL.* energy\s+[\[(]([^])]*)[])]"), cp2k_units.of_energy),
    (
        "forces",
        re.compile(r" (?:FORCES\| Atomic forces|ATOMIC FORCES in)\s+\[([^]]*)\]", re.IGNORECASE),
        cp2k_units.of_force,
    ),
    ("cell", re.compile(r" CELL\| Vector \w+\s+\[([^]]*)\]"), cp2k_units.of_length),
    (
        "positions",
        re.compile(r"ATOMIC COORDINATES IN\s+\[?([^]\s]*)\]?", re.IGNORECASE),
        cp2k_units.of_length,
    ),
)
_LONGEST = 200  # characters of a line that may state a unit
_MOST_KINDS = 1000
_MOST_KEPT = 2**28  # characters


def iter_cp2k(stream: BinaryIO, *, file: str) -> Iterator[Structure | InputError]:
    """The single point of a file.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.

    Raises:
        InputError: it cannot be used, or dpdata is missing.
        OSError, EOFError: the content cannot be read.
    """
    dpdata = foreign.readers(_TITLE, file)
    lines = Lines(stream, file)
    with tempfile.TemporaryFile("w+", encoding="ascii", errors="replace") as kept:
        point = _Point(lines, file, kept)
        for line in lines:
            point.take(line)
        point.check()
        yield point.structure(dpdata)


class _Point:
    """What was read so far.

    Args:
        lines: of the file.
        file: its name.
        kept: takes the lines that matter.
    """

    def __init__(self, lines: Lines, file: str, kept: IO[str]) -> None:
        self._lines, self._file, self._kept = lines, file, kept
        self._n_kept = 0
        self._n_runs = 0
        self._n_kinds = 0
        self._n_energies = 0
        self._energy: float = 0.0  # in its unit
        self._units: dict[str, float] = {}
        self._converged = False
        self._failed = False
        self._periodicity = "XYZ"
        self._in_atoms = False
        self._elements: list[str] = []
        self._in_forces = False
        self._has_forces = self._has_late_forces = False
        self._unit_of_stress = ""
        self._stress: list[list[float]] = []
        self._states: dict[str, str] = {}

    def take(self, line: str) -> None:
        """Go on with a line.

        Raises:
            InputError: it is damaged.
        """
        self._take_unit(line)
        if "PROGRAM STARTED AT" in line:
            self._n_runs += 1
        elif _ENERGY in line:
            self._lines.check_end()
            self._n_energies += 1
            (self._energy,) = numbers_of(line.split()[-1:], self._lines, 1)
        elif self._is_of_stress(line):
            self._lines.check_end()
        elif "SCF run NOT converged" in line:
            self._failed = True
        elif (state := _STATE.fullmatch(line)) is not None:
            self._lines.check_end()
            self._states[state[1]] = state[2]
        elif any(word in line for word in _PERIODICITY):
            self._periodicity = line.split()[-1]
        elif any(word in line for word in _SINGLE):
            self._count(line)
            self._lines.check_end()
            self._keep(line)
        elif any(word in line for word in _ATOMS):
            self._in_atoms = True
            self._keep(line)
        elif self._in_atoms:
            self._in_atoms = bool(line) or not self._elements
            # the name of a kind, which dpdata takes, may be that of another element
            self._elements += line.split()[2:3]
            self._keep(line)
        elif _FORCES in line or self._in_forces:
            self._lines.check_end()
            self._in_forces = _END_OF_FORCES not in line
            self._has_forces = True
            self._keep(line)

    def _is_of_stress(self, line: str) -> bool:
        """Whether a line is the head or a row of the stress, which is noted."""
        if (head := _STRESS.fullmatch(line)) is not None:
            self._unit_of_stress, self._stress = head[1], []
            return True
        if not self._unit_of_stress or len(self._stress) == 3:
            return False
        fields = line.removeprefix(" STRESS|").split()
        is_row = len(fields) == 4 and fields[0].lower() == "xyz"[len(self._stress)]
        if is_row:
            self._stress.append(numbers_or_nan(fields[1:]))
        return is_row

    def _count(self, line: str) -> None:
        self._converged |= "SCF run converged" in line
        self._has_late_forces |= "FORCES|" in line
        self._has_forces |= self._has_late_forces
        self._n_kinds += _KIND in line
        if self._n_kinds > _MOST_KINDS:
            raise self._lines.error(f"expected at most {_MOST_KINDS} kinds of atoms, got more")

    def _take_unit(self, line: str) -> None:
        """Note the unit that a line states.

        Raises:
            InputError: it is unknown, or another one than before.
        """
        for what, place, meaning in _UNITS:
            if (found := place.search(line[:_LONGEST])) is None:
                continue
            unit = meaning(found[1])
            if unit is None:
                raise self._lines.error(
                    f"expected a unit of the {what} that is known, got {quoted(found[1])}"
                )
            if self._units.setdefault(what, unit) != unit:
                raise self._lines.error(f"expected one unit of the {what}, got two: {quoted(found[1])}")

    def _keep(self, line: str) -> None:
        self._n_kept += len(line) + 1
        if self._n_kept > _MOST_KEPT or len(self._elements) > foreign.MOST_ATOMS:
            raise self._lines.error("expected a structure that fits into memory, got a larger one")
        self._kept.write(line + "\n")

    def _error(self, reason: str) -> InputError:
        return InputError(reason, file=self._file)

    def check(self) -> None:
        """Refuse what dpdata would take for a single point, or pass over in silence.

        Raises:
            InputError: it is something else.
        """
        if self._n_runs > 1:
            raise self._error(
                f"expected the output of one run, got {self._n_runs}: put each into its own file"
            )
        if self._n_energies > 1:
            raise self._error(
                f"expected a single point, got {self._n_energies} energies: a relaxation or dynamics, of which this "
                "output lacks the positions"
            )
        if self._failed:
            raise self._error("expected a converged calculation, got 'SCF run NOT converged'")
        if not self._n_energies:
            raise self._error("expected a total energy of CP2K, got none: interrupted?")
        if not self._converged:
            raise self._error("expected 'SCF run converged', got none")
        if not self._elements:
            raise self._error("expected atomic coordinates, got none: let CP2K print at level MEDIUM")
        if not self._has_forces:
            raise self._error(
                "expected atomic forces, got none: let CP2K print them (FORCE_EVAL/PRINT/FORCES)"
            )
        for what, _, _ in _UNITS:
            if what not in self._units:
                raise self._error(f"expected the unit of the {what}, got none")

    def _tension(self) -> tuple[list[list[float]] | None, tuple[str, ...]]:
        """The stress, eV/Å³, and remarks on one that is not used."""
        if not self._unit_of_stress:
            return None, ()
        in_gpa = _PRESSURES.get(self._unit_of_stress.lower())
        if in_gpa is None:
            return None, (
                f"stress ignored: expected the unit GPa or bar, got {quoted(self._unit_of_stress)}",
            )
        if len(self._stress) < 3:
            raise self._error("expected three rows of the stress, got fewer: interrupted?")
        return [[-in_gpa / GPA * number for number in row] for row in self._stress], ()

    def structure(self, dpdata: foreign.Readers) -> Structure:
        """The structure.

        Raises:
            InputError: it cannot be used.
        """
        # the layout of its energy tells dpdata that of the forces, whose unit it takes to be its own
        head = "energy [hartree]" if self._has_late_forces else "energy [a.u.]:"
        self._kept.write(f" ENERGY| Total FORCE_EVAL ( QS ) {head} {self._energy!r}\n")
        self._kept.flush()
        self._kept.seek(0)
        # a file that is opened by its number is closed by whoever opened it
        _, _, _, cells, positions, _, forces, _ = foreign.told(
            lambda: dpdata.cp2k.get_frames(os.dup(self._kept.fileno())), self._error
        )
        energy = self._energy * self._units["energy"]
        of_dpdata = dpdata.unit.ForceConversion("hartree/bohr", "eV/angstrom").value()
        stress, remarks = self._tension()
        return structure_of(
            self._elements,
            positions[0] * self._units["positions"],
            cells[0] * self._units["cell"],
            self._axes(),
            labels=Labels(
                energy,
                energy,
                forces[0] * (self._units["forces"] / of_dpdata),
                stress,
                remarks,
                states=self._states,
            ),
            file=self._file,
        )

    def _axes(self) -> list[bool]:
        word = self._periodicity
        if word != "NONE" and not set(word) <= set("XYZ"):
            raise self._error(f"expected a periodicity such as XYZ, got {quoted(word)}")
        return [axis in word and word != "NONE" for axis in "XYZ"]
