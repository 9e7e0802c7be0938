"""`input.data` of RuNNer and n2p2: read and written.

    begin [position(3) element charge energy forces(3)]
    comment TEXT
    lattice x y z                                  (three rows, or none)
    atom x y z El charge atomic-energy fx fy fz    (a row for each atom)
    energy E
    charge Q
    end

Columns may be stated behind `begin`, as ASE does; others than these, such as `magmom`, are passed over.

No file of this kind states its units: Bohr and Hartree for RuNNer and CP2K, often Å and eV for n2p2. Those that are
written here do, in the comment, which also holds what the format has no place for.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.text import CUT_SHORT, quoted
from tio2nn.io.atomic_units import BOHR, HARTREE
from tio2nn.io.labels import RunnerUnits
from tio2nn.io.stream import Labels, Lines, numbers_of, structure_of
from tio2nn.structures.elements import ELEMENT_OF
from tio2nn.structures.energy_label import plain_energy
from tio2nn.structures.structure import CONFIG_TYPE, CONFIG_WEIGHT, Structure

_SCALES: dict[str, tuple[float, float]] = {"Bohr,Ha": (BOHR, HARTREE), "A,eV": (1.0, 1.0)}  # Å, eV
_MARK = "tio2nn "
# in the comment, of a structure with two energies; the row has the one that is learned
_PLAIN, _FREE = "plain_energy_eV", "free_energy_eV"
_ROUNDED = 1e-12  # of a number that was converted to Ha and back
# of the rows for atoms; ASE states them behind `begin`
_COLUMNS = ("position(3)", "element", "charge", "energy", "forces(3)")
_COLUMN = re.compile(r"([A-Za-z]\w*)(?:\(([1-9])\))?")
_WIDTHS = {"position": 3, "element": 1, "charge": 1, "energy": 1, "forces": 3}


def iter_runner(
    stream: BinaryIO, *, file: str, units: RunnerUnits | None = None
) -> Iterator[Structure | InputError]:
    """The structures of a file; an unusable one yields an error.

    Args:
        stream: the content.
        file: for messages and `Structure.file`.
        units: of a file that does not state them; by default Bohr and Hartree.

    Raises:
        OSError, EOFError: the content cannot be read.
        InputError: nothing behind this place can be read.
    """
    lines = Lines(stream, file)
    block: _Block | None = None
    n_blocks = 0
    for line in lines:
        fields = line.split()
        word = fields[0].lower() if fields and not fields[0].startswith("#") else ""
        if block is None:
            if word == "begin":
                n_blocks += 1
                block = _Block(lines, file, units, fields[1:])
            elif word:
                raise lines.error(f"expected begin, got {quoted(line.strip())}")
        elif word == "end":
            lines.found_result()
            try:
                yield block.structure()
            except InputError as error:
                yield error
            block = None
        elif word == "begin":
            yield lines.error("expected end before the next begin, got none", block.line)
            n_blocks += 1
            block = _Block(lines, file, units, fields[1:])
        elif word:
            block.take(word, fields, line)
    if block is not None:
        yield lines.error(f"expected end, {CUT_SHORT}", block.line)
    elif n_blocks == 0:
        yield InputError("expected begin, got nothing", file=file)


class _Block:
    """What stands between begin and end.

    Attributes:
        line: of its beginning.
    """

    def __init__(self, lines: Lines, file: str, units: RunnerUnits | None, columns: list[str]) -> None:
        self._lines, self._file, self.line = lines, file, lines.number
        self._columns: dict[str, slice] = {}
        self._width = 0
        self._units: str = units or "Bohr,Ha"
        self._periodic: list[bool] | None = None
        self._has_forces = True
        self._stress: object = None  # eV/Å³
        self._stated: tuple[object, object] = (None, None)  # eV, without and with electronic entropy
        self._kind, self._weight = "", None
        self._cell: list[list[float]] = []
        self._elements: list[str] = []
        self._rows: list[list[float]] = []
        self._energy: float | None = None
        self._error: InputError | None = None
        try:
            self._take_columns(columns)
        except InputError as error:
            self._error = error

    def take(self, word: str, fields: list[str], line: str) -> None:
        """Go on with a row; what is wrong with it is told at the end."""
        try:
            self._take(word, fields, line)
        except InputError as error:
            self._error = self._error or error

    def _take(self, word: str, fields: list[str], line: str) -> None:
        if word == "lattice":
            self._cell.append(numbers_of(fields[1:], self._lines))
        elif word == "atom":
            self._take_atom(fields)
        elif word == "energy":
            if self._energy is not None:
                raise self._lines.error("expected one energy, got a second")
            self._energy = numbers_of(fields[1:], self._lines, 1)[0]
        elif word in ("comment", "c"):
            self._take_comment(line.strip().partition(" ")[2].strip())
        elif word != "charge":
            raise self._lines.error(
                f"expected comment, lattice, atom, energy, charge or end, got {quoted(fields[0])}"
            )

    def _take_columns(self, columns: list[str]) -> None:
        for column in columns or _COLUMNS:
            found = _COLUMN.fullmatch(column)
            name, n = ("", 0) if found is None else (found[1], int(found[2] or 1))
            # a name that resembles one of them is a wrong one
            is_other = name not in _WIDTHS and not difflib.get_close_matches(name.lower(), _WIDTHS)
            if not n or name in self._columns or not (is_other or _WIDTHS.get(name) == n):
                raise self._lines.error(
                    f"expected columns such as {' '.join(_COLUMNS)}, got {quoted(column)}"
                )
            self._columns[name] = slice(self._width, self._width + n)
            self._width += n
        if not {"position", "element"} <= self._columns.keys():
            raise self._lines.error("expected columns for position and element, got none")

    def _take_atom(self, fields: list[str]) -> None:
        if len(fields) != self._width + 1:
            raise self._lines.error(f"expected {self._width} columns for an atom, got {len(fields) - 1}")
        columns = {name: fields[1:][place] for name, place in self._columns.items()}
        (label,) = columns["element"]
        element = ELEMENT_OF.get(label)
        if element is None:
            raise self._lines.error(f"expected an element, got {quoted(label)}")
        self._elements.append(element)
        row = numbers_of(columns["position"], self._lines)
        if "forces" in columns:
            row += numbers_of(columns["forces"], self._lines)
        self._rows.append(row)

    def _take_comment(self, text: str) -> None:
        """The comment that tio2nn wrote; other comments are ignored."""
        if not text.startswith(_MARK):
            return
        try:
            about = json.loads(text.removeprefix(_MARK))
            units, periodic = about["units"], about["periodic"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if units in _SCALES:
            self._units = units
        self._has_forces = about.get("forces") is not False
        self._stress = about.get("stress")
        self._stated = about.get(_PLAIN), about.get(_FREE)
        self._kind, self._weight = str(about.get(CONFIG_TYPE) or ""), about.get(CONFIG_WEIGHT)
        if isinstance(periodic, list) and len(periodic) == 3:
            self._periodic = [axis is True for axis in periodic]

    def _energies(self) -> tuple[float | None, float | None]:
        """Without and with electronic entropy, eV; those of the comment unless the row has been given another."""
        if self._energy is None:
            return None, None
        energy = self._energy * _SCALES[self._units][1]
        plain, free = (float(x) if isinstance(x, (int, float)) else None for x in self._stated)
        known = [number for number in (plain, free) if number is not None]
        if free is None or not any(math.isclose(number, energy, rel_tol=_ROUNDED) for number in known):
            return energy, None
        return plain, free

    def structure(self) -> Structure:
        """The structure.

        Raises:
            InputError: it cannot be used.
        """
        if self._error is not None:
            raise self._error
        if len(self._cell) not in (0, 3):
            raise self._lines.error(
                f"expected three rows of lattice or none, got {len(self._cell)}", self.line
            )
        if not self._rows:
            raise self._lines.error("expected atoms, got none", self.line)
        length, energy = _SCALES[self._units]
        plain, free = self._energies()
        table = np.array(self._rows)
        forces = table[:, 3:] * (energy / length) if self._has_forces and "forces" in self._columns else None
        return structure_of(
            self._elements,
            table[:, :3] * length,
            np.array(self._cell or np.zeros((3, 3))) * length,
            [bool(self._cell)] * 3 if self._periodic is None else self._periodic,
            labels=Labels(
                plain,
                free,
                forces,
                self._stress,
                config_type=self._kind,
                weight=self._weight,
            ),
            file=self._file,
            line=self.line,
        )


def write_runner(
    structure: Structure, *, units: RunnerUnits = "Bohr,Ha", about: Mapping[str, str] | None = None
) -> str:
    """The text of one structure; numbers have all digits, so that in Å and eV nothing is lost.

    Args:
        structure: with an energy. Forces that are not known are zero, as the format demands; the comment says so.
        units: of lengths and energies.
        about: more for the comment.
    """
    length, energy = _SCALES[units]
    comment: dict[str, object] = {"units": units, "periodic": list(structure.periodic), **(about or {})}
    if structure.forces is None:
        comment["forces"] = False
    comment |= {CONFIG_TYPE: structure.config_type} if structure.config_type else {}
    comment |= {CONFIG_WEIGHT: structure.weight} if structure.weight != 1.0 else {}
    if structure.free_energy is not None:
        comment |= {_PLAIN: plain_energy(structure), _FREE: structure.free_energy}
    if structure.stress is not None:
        comment["stress"] = structure.stress.tolist()  # eV/Å³, whatever the units
    lines = ["begin", f"comment {_MARK}{json.dumps(comment, ensure_ascii=True)}"]
    if structure.cell.any():
        lines += ["lattice " + _row(vector / length) for vector in structure.cell]
    forces = np.zeros((structure.n_atoms, 3)) if structure.forces is None else structure.forces
    lines += [
        f"atom {_row(position / length)} {element} 0.0 0.0 {_row(force * (length / energy))}"
        for element, position, force in zip(structure.elements, structure.positions, forces, strict=True)
    ]
    lines += [f"energy {(structure.energy or 0.0) / energy!r}", "charge 0.0", "end"]
    return "\n".join(lines) + "\n"


def _row(numbers: np.ndarray) -> str:
    return " ".join(repr(number) for number in numbers.tolist())
