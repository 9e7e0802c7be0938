"""`OUTCAR` of VASP through dpdata, one ionic step after the other.

The free energy is `free  energy   TOTEN` of a step, the energy that extrapolated to no smearing, `energy(sigma->0)`
behind it, which dpdata does not read. Steps of machine-learned force fields, which have `free  energy ML TOTEN`, are
passed over.

VASP 4 prints the energy of a step before its cell and forces: cut as later versions print them, geometries would get
the energy of the next step. Such files are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from tio2nn.errors import InputError
from tio2nn.files.text import parse_count, parse_number, quoted
from tio2nn.io.electronic_states import by_electrons
from tio2nn.io.outputs import foreign
from tio2nn.io.stream import Labels, Lines, element_of_label, numbers_of, numbers_or_nan, structure_of
from tio2nn.structures.structure import Structure

_TITLE = "an OUTCAR of VASP"
_ENERGY, _ML_ENERGY = "free  energy   TOTEN", "free  energy ML TOTEN"
_PLAIN_ENERGY, _EXTRAPOLATED = "energy  without entropy", "energy(sigma->0)"
# the number in parentheses is wider than its field from 1000 on, and stars from 10,000 on
_ELECTRONIC = re.compile(r"-+ Iteration\s*(?:\d+|\*+)\(\s*(\d+|\*+)\s*\)")
_VERSION, _TOO_OLD = " vasp.", " vasp.4"
_CELL, _FORCES, _STRESS = "VOLUME and BASIS", "TOTAL-FORCE", "FORCE on cell =-STRESS"
_CELL_ROWS, _STRESS_ROWS = 8, 20  # behind their heads
_KBAR = 1.0 / 1602.1766208  # eV/Å³
_IONS = "ions per type"
_HEADER = ("TITEL", "POTCAR:", "NELM", "NWRITE", "POSCAR", _IONS)
_VALENCES, _N_ELECTRONS = "ZVAL", "NELECT"  # at the beginnings of lines, of each kind of ions and in all
_MOST_HEADER = 10_000  # lines; ten for each of a hundred elements are usual


def iter_outcar(stream: BinaryIO, *, file: str) -> Iterator[Structure | InputError]:
    """The ionic steps of a file; one that did not converge, or cannot be used, yields an error.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.

    Raises:
        InputError: nothing behind this place can be read, or dpdata is missing.
        OSError, EOFError: the content cannot be read.
    """
    outcar = foreign.readers(_TITLE, file).outcar
    lines = Lines(stream, file)
    run = _Run(outcar, lines, file)
    n_steps = 0
    for line in lines:
        for item in run.take(line):
            n_steps += 1
            yield item
    yield from run.end(n_steps)


class _Run:
    """One run of VASP: what stands at its beginning, and the present step."""

    def __init__(self, outcar: Any, lines: Lines, file: str) -> None:
        self._outcar, self._lines, self._file = outcar, lines, file
        self._saw_ml = False
        self._start()

    def _start(self) -> None:
        self._header: list[str] = []
        self._n_atoms: int | None = None
        self._elements: list[str] | None = None
        self._counts: list[int] = []
        self._numbers: dict[str, list[float | None]] = {}
        self._states: dict[str, str] = {}
        self._nelm = 0
        self._version = ""
        self._next_step()

    def _next_step(self) -> None:
        self._line = self._lines.number + 1
        self._total: str | None = None  # the line with the free energy, which nearly ends the step
        self._n_electronic = 0
        self._forget_sections()

    def _forget_sections(self) -> None:
        self._sections: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._n_left = 0

    def take(self, line: str) -> Iterator[Structure | InputError]:
        """Go on with a line; yields the step that it ends."""
        if self._n_left:
            self._open.append(line)
            self._n_left -= 1
        is_energy, is_plain = _ENERGY in line, _PLAIN_ENERGY in line and "ML" not in line
        electronic = _ELECTRONIC.search(line)
        section = _section(line)
        is_whole = self._sections.keys() >= {_CELL, _FORCES}
        if self._total is not None and (is_energy or electronic or (is_whole and (is_plain or section))):
            yield self._step(line if is_plain else "")
            self._next_step()
        if line.startswith(_VERSION):
            if line.startswith(_TOO_OLD):
                raise self._early_energy(line.split()[0])
            if self._header:
                self._start()
            self._version = line.split()[0]
        if is_energy:
            self._lines.check_end()
            self._lines.found_result()
            self._total = line
        elif _ML_ENERGY in line:
            self._saw_ml = True
            self._lines.found_result()
            self._forget_sections()
        elif electronic:
            # what stands before belongs to the beginning of the file, or to another step
            self._forget_sections()
            number = parse_count(electronic[1])
            self._n_electronic = self._n_electronic + 1 if number is None else number
        elif section:
            if self._total is not None:
                raise self._early_energy(self._version)
            self._begin(section, line)
        elif self._elements is None and any(word in line for word in _HEADER):
            self._take_header(line)
        elif self._elements is None and (word := line.split("=")[0].strip()) in (_VALENCES, _N_ELECTRONS):
            self._numbers[word] = [parse_number(field) for field in line.partition("=")[2].split()]

    def _early_energy(self, version: str) -> InputError:
        return self._lines.error(
            f"expected the free energy of a step behind its cell and forces, got an OUTCAR of {quoted(version)}, "
            "which prints it before them: give vasprun.xml of that run, or repeat it with VASP 5.4 or later"
        )

    def end(self, n_steps: int) -> Iterator[Structure | InputError]:
        """The last step, and what is wrong with the end of the file."""
        if self._total is not None:
            yield self._step("")
        elif self._n_electronic:
            yield self._lines.error(
                "expected the free energy at the end of the step, got none: interrupted?", self._line
            )
        elif n_steps == 0:
            got = "those of a machine-learned force field" if self._saw_ml else "none"
            yield InputError(f"expected ionic steps of electronic structure, got {got}", file=self._file)

    def _begin(self, section: str, line: str) -> None:
        rows = {_CELL: _CELL_ROWS, _STRESS: _STRESS_ROWS, _FORCES: (self._n_atoms or 0) + 1}
        # anew, so that their order is that of the file
        self._sections.pop(section, None)
        self._open = self._sections[section] = [line]
        self._n_left = rows[section]

    def _take_header(self, line: str) -> None:
        if len(self._header) == _MOST_HEADER:
            raise self._lines.error(f"expected at most {_MOST_HEADER} lines about POTCAR and INCAR, got more")
        self._header.append(line)
        if _IONS in line:
            counts = [parse_count(word) for word in line.partition("=")[2].split()]
            known = [count for count in counts if count is not None]
            if not known or len(known) < len(counts) or sum(known) > foreign.MOST_ATOMS:
                raise self._lines.error(
                    f"expected the number of ions of each type, got {quoted(line.strip())}"
                )
            self._counts, self._n_atoms = known, sum(known)

    def _failed(self, reason: str) -> InputError:
        return self._lines.error(reason, self._line)

    def _describe(self) -> list[str]:
        """The elements of the atoms.

        Raises:
            InputError: the beginning of the file does not tell them.
        """
        names, _, types, nelm, _ = foreign.told(
            lambda: self._outcar.system_info(self._header, type_idx_zero=True),
            self._failed,
        )
        self._nelm = nelm
        self._states = self._told_states()
        return [element_of_label(names[kind]) or names[kind] for kind in types]

    def _told_states(self) -> dict[str, str]:
        """The charge, for `Extras.states`."""
        valences, electrons = (self._numbers.get(word, []) for word in (_VALENCES, _N_ELECTRONS))
        if len(valences) != len(self._counts) or not electrons:
            return {}
        protons = [None if z is None else n * z for n, z in zip(self._counts, valences, strict=True)]
        return by_electrons(protons, electrons[0])

    def _step(self, plain: str) -> Structure | InputError:
        """The present step, or why it cannot be used.

        Args:
            plain: the line with the energy without entropy, or "".
        """
        if self._elements is None:
            # without them, nothing behind this place can be read
            self._elements = self._describe()
        try:
            return self._structure(self._elements, self._plain_energy(plain))
        except InputError as error:
            return error

    def _plain_energy(self, line: str) -> float | None:
        _, found, text = line.partition(_EXTRAPOLATED)
        if not found:
            return None
        self._lines.check_end()
        return numbers_of(text.replace("=", " ").split(), self._lines, 1)[0]

    def _structure(self, elements: list[str], plain_energy: float | None) -> Structure:
        found = self._sections
        missing = next((what for what in (_CELL, _FORCES) if what not in found), None)
        if missing is not None:
            raise self._failed(f"expected {missing} in a step, got none (NWRITE = 0?)")
        if list(found).index(_CELL) > list(found).index(_FORCES):
            raise self._failed(f"expected {_CELL} before {_FORCES} in a step, got it behind")
        if not self._n_electronic:
            raise self._failed("expected electronic steps before the energy of a step, got none")
        # as dpdata takes it apart
        electronic = f"{'-' * 20} Iteration      1( {self._n_electronic}) {'-' * 20}"
        block = [electronic, *found[_CELL], *found[_FORCES], self._total or ""]
        positions, cell, free_energy, forces, _, converged = foreign.told(
            lambda: self._outcar.analyze_block(block, len(elements), self._nelm),
            self._failed,
        )
        if not converged:
            raise self._failed(
                f"expected a converged step, got all {self._nelm} electronic steps that NELM allows"
            )
        return structure_of(
            elements,
            positions,
            cell,
            (True, True, True),
            labels=Labels(
                plain_energy,
                free_energy,
                forces,
                self._tension(),
                states=self._states,
            ),
            file=self._file,
            line=self._line,
        )

    def _tension(self) -> list[list[float]] | None:
        """The stress, eV/Å³, NaN where stars stand for a pressure; dpdata would lose the step with it."""
        rows = [row.split() for row in self._sections.get(_STRESS, [])]
        pressures = next((row[2:8] for row in rows if row[:2] == ["in", "kB"]), None)
        if pressures is None:
            return None
        if len(pressures) < 6:
            return [[math.nan] * 3] * 3
        xx, yy, zz, xy, yz, zx = numbers_or_nan(pressures, -_KBAR)
        return [[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]


def _section(line: str) -> str:
    """The section of a step that begins with a line; "" for none."""
    if _CELL in line:
        return _CELL
    return next((what for what in (_FORCES, _STRESS) if what in line and "ML" not in line), "")
