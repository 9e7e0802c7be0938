"""Extended XYZ, and plain XYZ.

Lengths are Å, energies eV, forces eV/Å. `labels` decides which keys and columns are labels. With `Lattice` and without
`pbc` all three axes are periodic, as the format defines; plain XYZ is not periodic.

The parser is our own: it keeps the text of the file for later output, and reports errors with their line. ASE 3.29 and
extxyz 0.4.6 do neither, take the last of two energies, and give up a file at its first bad frame. For 5,000 frames of
24 atoms ASE takes as long as this module; extxyz, in C, takes a sixth, but crashes with a segmentation fault if a file
announces a billion atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import FORTRAN_EXPONENT, check_last_row, decode_text, parse_count, quoted
from tio2nn.io.agreement import check_agreement, forces_by_name
from tio2nn.io.extxyz_comment import Comment
from tio2nn.io.label_weights import remark_on_weights
from tio2nn.io.labels import (
    Label,
    ReadOptions,
    energy_label,
    forces_label,
    free_energy_label,
    is_free_energy,
    stress_label,
    words_of_numbers,
)
from tio2nn.structures.elements import ATOMIC_NUMBERS, SYMBOLS, remedy
from tio2nn.structures.geometry import spans_volume
from tio2nn.structures.structure import CONFIG_TYPE, Column, Extras, Structure, two_energies

_FORCES_KEYS = ("forces", "force", *(f"{prefix}forces" for prefix in ("REF_", "ref_", "DFT_", "dft_")))
_PLAIN_COLUMNS = {"species": ("S", 1), "pos": ("R", 3)}
# names of a quantity, its allowed types, and its number of columns
_COLUMNS = ((("pos", "positions"), "RI", 3), (("species", "symbols"), "S", 1), (("Z", "numbers"), "I", 1))
_KNOWN_COLUMNS = ("species", "symbols", "pos", "positions")  # fully represented in a structure
_COLUMN_WORDS = {"species": "species", "pos": "pos"}  # in any case, as GPUMD reads them
_COUNTS = {1: "one column", 3: "three columns"}
_PLAIN = "Properties=species:S:1:pos:R:3"  # what plain XYZ means


def iter_extxyz(
    data: bytes | str, *, name: str, file: str, options: ReadOptions | None = None
) -> Iterator[Structure | InputError]:
    """The frames of a file; an unusable frame yields an error.

    Args:
        data: the whole file.
        name: of the structure; several frames become `name-1`, `name-2` ...
        file: file name for messages and `Structure.file`.
        options: which keys hold the labels.
    """
    options = options or ReadOptions()
    try:
        lines = decode_text(data, file).split("\n")
        starts = _frame_starts(lines, file)
    except InputError as error:
        yield error
        return
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True), start=1):
        frame = _Frame(lines, start, stop, file)
        try:
            yield frame.structure(f"{name}-{number}" if len(starts) > 1 else name, options)
        except InputError as error:
            yield error


def _frame_starts(lines: Sequence[str], file: str) -> list[int]:
    """Indices of the lines with a number of atoms; no atom row is a single integer."""
    starts: list[int] = []
    for index, line in enumerate(lines):
        # the comment line may be a number, too
        if starts and index == starts[-1] + 1:
            continue
        if parse_count(line.strip()) is not None or _is_zero(line.strip()):
            starts.append(index)
        elif not starts and line.strip():
            got = quoted(line.strip())
            raise InputError(f"expected the number of atoms, got {got}", file=file, line=index + 1)
    return starts


def _is_zero(word: str) -> bool:
    """Whether a frame of no atoms begins, which is none for `parse_count`."""
    return bool(word) and not word.strip("0")


class _Frame:
    """One frame: the number of atoms, a comment line, a row for each atom."""

    def __init__(self, lines: Sequence[str], start: int, stop: int, file: str) -> None:
        self._file = file
        self._line = start + 1  # of the number of atoms, from 1
        self._declared: dict[str, tuple[str, int]] = {}  # type and width of each column, in order
        self._columns: dict[str, Column] = {}  # per-atom data as text
        self._numbers: dict[str, FloatArray] = {}  # (n_atoms, width) of each numeric column
        self._unterminated = stop == len(lines) and bool(lines[-1].strip())
        while stop > start + 2 and not lines[stop - 1].strip():
            stop -= 1
        self._count = int(lines[start])
        self._text = lines[start + 1].strip() if stop > start + 1 else ""
        self._rows = [line.split() for line in lines[start + 2 : stop]]
        self._surplus = lines[start + 2 + self._count].strip() if len(self._rows) > self._count else ""

    def _error(self, reason: str, row: int | None = None) -> InputError:
        """An error in a row, counted from 0, or in the whole frame (None)."""
        return InputError(reason, file=self._file, line=self._line if row is None else self._line + 2 + row)

    def structure(self, name: str, options: ReadOptions) -> Structure:
        """The structure of the frame.

        Raises:
            InputError: the frame cannot be used.
        """
        self._check_rows()
        comment = self._comment = Comment(self._text, self._file, self._line + 1)
        cell, periodic = comment.cell_and_periodicity()
        elements = self._read_columns()
        positions = self._finite("pos", "finite positions")
        if not spans_volume(cell, periodic):
            raise comment.error("expected independent cell vectors, got vectors that span no volume")
        of_energy = energy_label(comment.written, options.energy_key)
        free_energy = self._energy(free_energy_label(comment.written, options.energy_key).names)
        # the key of free energies, named by the user or alone, is no other energy
        energy = self._energy([key for key in of_energy.names if not is_free_energy(key)])
        forces, of_forces = self._forces(forces_label(self._declared, options.forces_key))
        # forces without an energy are of no use, and the missing energy is reported anyway
        wanted = energy is not None or free_energy is not None or options.forces_key is not None
        stress, of_stress = stress_label(comment.written, options.stress_key, cell, periodic)
        remarks = (*(of_forces if wanted else ()), *of_stress, remark_on_weights(comment.written))
        return Structure(
            name=name,
            elements=elements,
            positions=positions,
            cell=cell,
            periodic=periodic,
            forces=forces,
            file=self._file,
            line=self._line,
            extras=Extras(
                comment.info,
                {name: column for name, column in self._columns.items() if name not in _KNOWN_COLUMNS},
                of_energy.remark or Extras().no_energy,
                tuple(remark for remark in remarks if remark is not None),
            ),
            **two_energies(energy, free_energy),
            stress=stress,
            config_type=comment.text(CONFIG_TYPE) or "",
            weight=comment.weight(),
        )

    def _check_rows(self) -> None:
        n_rows = len(self._rows)
        if not self._count and not n_rows:
            raise self._error("expected atoms, got none")
        if n_rows < self._count:
            raise self._error(f"expected {self._count} atoms, got {n_rows}")
        if n_rows > self._count:
            surplus = quoted(self._surplus)
            raise self._error(
                f"expected the next frame after {self._count} atoms, got {surplus}", row=self._count
            )
        if self._unterminated:
            check_last_row(self._rows, self._file, self._line + 1 + n_rows)

    # --- the rows

    def _read_columns(self) -> tuple[str, ...]:
        """Parse the columns, check every number, and return the element of each atom."""
        if (properties := self._comment.geometry_word("Properties")) is not None:
            self._read_declared(properties)
        declared = self._declared or _PLAIN_COLUMNS
        n_columns = sum(n for _, n in declared.values())
        for row, fields in enumerate(self._rows):
            # plain XYZ may have more
            if len(fields) < n_columns or (self._declared and len(fields) > n_columns):
                raise self._error(f"expected {n_columns} columns, got {len(fields)}", row)
        first = 0
        for name, (kind, n) in declared.items():
            column = Column(kind, tuple([tuple(fields[first : first + n]) for fields in self._rows]))
            if kind in "RI":
                column, self._numbers[name] = self._with_numbers(column)
            self._columns[name] = column
            first += n
        symbols = next(
            (self._columns[name].rows for name in ("species", "symbols") if name in declared), None
        )
        numbers = next((self._columns[name].rows for name in ("Z", "numbers") if name in declared), None)
        if symbols is None and numbers is None:
            raise self._error("expected a column species or Z, got neither")
        elements = () if symbols is None else self._elements(symbols)
        return elements if numbers is None else self._elements_of_numbers(numbers, elements)

    def _read_declared(self, declared: str) -> None:
        """Parse the columns that `Properties` declares."""
        parts = declared.split(":")
        names = [_COLUMN_WORDS.get(part.lower(), part) for part in parts[::3]]
        kinds, counts = parts[1::3], [parse_count(part) for part in parts[2::3]]
        sizes = {name: count for name, count in zip(names, counts, strict=False) if count is not None}
        if len(names) != len(counts) or None in counts or not set(kinds) <= set("RISL"):
            raise self._comment.error(f"expected Properties as name:type:columns, got {quoted(declared)}")
        if len(sizes) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise self._comment.error(f"expected each column once, got a second {quoted(twice)}")
        if "pos" not in sizes:
            raise self._comment.error("expected three columns for pos, got none")
        types = dict(zip(names, kinds, strict=True))
        for aliases, allowed, n in (*_COLUMNS, *(((name,), "RI", 3) for name in _FORCES_KEYS)):
            found = [name for name in aliases if name in types]
            if len(found) > 1:
                raise self._comment.error(f"expected one of the columns {' and '.join(found)}, got both")
            for name in found:
                if sizes[name] != n:
                    raise self._comment.error(f"expected {_COUNTS[n]} for {name}, got {sizes[name]}")
                if types[name] not in allowed:
                    got = quoted(types[name])
                    raise self._comment.error(f"expected type {' or '.join(allowed)} for {name}, got {got}")
        self._declared = {name: (types[name], sizes[name]) for name in names}

    def _with_numbers(self, column: Column) -> tuple[Column, FloatArray]:
        """A column and its numbers, (n_atoms, width); with exponents that other programs read, if Fortran wrote it."""
        numbers = _parsed(column.kind, [field for row in column.rows for field in row])
        if numbers is None and column.kind == "R":
            rows = tuple([tuple([field.translate(FORTRAN_EXPONENT) for field in row]) for row in column.rows])
            numbers = _parsed(column.kind, [field for row in rows for field in row])
            column = column if numbers is None else Column(column.kind, rows)
        if numbers is None:
            row, wrong = next(
                (row, field)
                for row, fields in enumerate(column.rows)
                for field in fields
                if _parsed(column.kind, [field.translate(FORTRAN_EXPONENT)]) is None
            )
            raise self._error(f"expected a number, got {quoted(wrong)}", row)
        return column, np.array(numbers).reshape(len(column.rows), -1)

    def _elements(self, rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
        symbols = tuple([field.capitalize() for (field,) in rows])
        if unknown := set(symbols) - ATOMIC_NUMBERS.keys():
            row = next(row for row, symbol in enumerate(symbols) if symbol in unknown)
            text = rows[row][0]
            raise self._error(f"expected a chemical symbol, got {quoted(text)}{remedy(text)}", row)
        return symbols

    def _elements_of_numbers(self, rows: Sequence[Sequence[str]], elements: Sequence[str]) -> tuple[str, ...]:
        found = []
        for row, (field,) in enumerate(rows):
            number = int(field)
            if not 1 <= number <= len(SYMBOLS):
                raise self._error(f"expected an atomic number, got {quoted(field)}", row)
            if elements and elements[row] != SYMBOLS[number - 1]:
                raise self._error(f"expected the atomic number of {elements[row]}, got {quoted(field)}", row)
            found.append(SYMBOLS[number - 1])
        return tuple(found)

    def _numbers_of(self, name: str) -> FloatArray:
        """The numbers of a column, or of several columns with names joined by blanks."""
        parts = [name] if name in self._numbers else name.split(" ")
        return np.column_stack([self._numbers[part] for part in parts])

    def _finite(self, name: str, expected: str) -> FloatArray:
        numbers = self._numbers_of(name)
        if len(infinite := np.flatnonzero(~np.isfinite(numbers).all(axis=1))):
            raise self._error(f"expected {expected}, got NaN or infinity", row=int(infinite[0]))
        return numbers

    # --- the labels

    def _energy(self, names: Sequence[str]) -> float | None:
        """The energy that all names agree on, or None if there are no names; of rounded ones, that with most digits."""
        found = {name: self._comment.number(name) for name in names}
        check_agreement(found, "--energy-key", self._comment.error)
        written = self._comment.written
        return max(found.items(), key=lambda item: _digits(written[item[0]], item[1]))[1] if found else None

    def _forces(self, label: Label) -> tuple[FloatArray | None, tuple[str | None, ...]]:
        """The forces that all names agree on, or None, and remarks on what is not used."""
        names, remarks = forces_by_name(label, self._comment.written, self._numbers_of)
        found = {name: self._finite(name, f"finite {name}") for name in names}
        check_agreement(found, "--forces-key", self._comment.error)
        return next(iter(found.values()), None), (*remarks, self._remark_on_plain())

    def _remark_on_plain(self) -> str | None:
        """A remark on numbers behind the positions of plain XYZ, which may be forces."""
        n_more = min(map(len, self._rows)) - 7
        if self._declared or n_more < 0 or _parsed("R", self._rows[0][4:7]) is None:
            return None
        columns = f"{_PLAIN}:forces:R:3" + (f":others:R:{n_more}" if n_more else "")
        return f"columns behind the positions ignored: if they are forces, add {columns} to the comment lines"


def _digits(text: str, number: float) -> tuple[bool, int]:
    """How precise a number is: whether beyond single precision, whose conversion adds digits, and how many digits."""
    with np.errstate(over="ignore"):
        is_single = float(np.float32(number)) == number
    mantissa = words_of_numbers(text)[0].translate(FORTRAN_EXPONENT).upper().partition("E")[0]
    return not is_single, len(mantissa.replace(".", "").lstrip("+-0"))


def _parsed(kind: str, fields: Sequence[str]) -> list[float] | None:
    """Integers or reals, None if any is invalid; Python alone accepts `2_0` and digits of other scripts."""
    text = "".join(fields)
    try:
        if not text.isascii() or "_" in text or (kind == "I" and not list(map(int, fields))):
            return None
        return list(map(float, fields))
    except ValueError:
        return None
