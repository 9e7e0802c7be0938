"""Extended XYZ, and plain XYZ.

Lengths are Å, energies eV, forces eV/Å. `labels` decides which keys and columns are labels. With `Lattice` and without
`pbc` all three axes are periodic, as the format defines; plain XYZ is not periodic.

The parser is our own: it keeps the text of the file for later output, and reports errors with their line. ASE 3.29 and
extxyz 0.4.6 do neither, take the last of two energies, and give up a file at its first bad frame. For 5,000 frames of
24 atoms ASE takes as long as this module; extxyz, in C, takes a sixth, but crashes with a segmentation fault if a file
announces a billion atoms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import check_last_row, decode_text, parse_count, parse_number, quoted
from tio2nn.io.labels import (
    ReadOptions,
    energy_label,
    forces_label,
    free_energy_label,
    is_free_energy,
    stress_label,
)
from tio2nn.structures.elements import ATOMIC_NUMBERS, SYMBOLS, remedy
from tio2nn.structures.geometry import spans_volume
from tio2nn.structures.structure import (
    CONFIG_TYPE,
    CONFIG_WEIGHT,
    Column,
    Extras,
    Structure,
    parsed_weight,
    two_energies,
)

_FORCES_KEYS = ("forces", "force", *(f"{prefix}forces" for prefix in ("REF_", "ref_", "DFT_", "dft_")))
_PLAIN_COLUMNS = {"species": ("S", 1), "pos": ("R", 3)}
_WORDS = {word.lower(): word for word in ("Lattice", "Properties", "pbc")}
# names of a quantity, its allowed types, and its number of columns
_COLUMNS = ((("pos", "positions"), "RI", 3), (("species", "symbols"), "S", 1), (("Z", "numbers"), "I", 1))
_KNOWN_COLUMNS = ("species", "symbols", "pos", "positions")  # fully represented in a structure
_COUNTS = {1: "one column", 3: "three columns"}
_LONGEST_COMMENT = 2**20  # characters; parsing takes hundreds of bytes for each
_AXES = {
    **dict.fromkeys(("T", "true", "True", "TRUE", "1"), True),
    **dict.fromkeys(("F", "false", "False", "FALSE", "0"), False),
}

# blanks and `=` separate words unless quoted or in brackets; an unclosed quote runs to the end
_WORD = re.compile(
    r"""((?:\\.?|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)"""
    r"""|\{(?:\\.|[^}\\])*(?:\}|\\?$)|\[(?:\\.|[^]\\])*(?:\]|\\?$)|[^\s=\\"'{\[]+)+)(\s*=)?"""
)
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}


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
        self._written: dict[str, str] = {}  # value of each key in the comment
        self._info: dict[str, str] = {}  # the same with quotes, and keys without a value
        self._declared: dict[str, tuple[str, int]] = {}  # type and width of each column, in order
        self._columns: dict[str, Column] = {}  # per-atom data as text
        self._numbers: dict[str, FloatArray] = {}  # (n_atoms, width) of each numeric column
        self._unterminated = stop == len(lines) and bool(lines[-1].strip())
        while stop > start + 2 and not lines[stop - 1].strip():
            stop -= 1
        self._count = int(lines[start])
        self._comment = lines[start + 1].strip() if stop > start + 1 else ""
        self._rows = [line.split() for line in lines[start + 2 : stop]]
        self._surplus = lines[start + 2 + self._count].strip() if len(self._rows) > self._count else ""

    def _error(self, reason: str, row: int | None = None) -> InputError:
        """An error in a row, counted from 0, in the comment (-1), or in the whole frame (None)."""
        return InputError(reason, file=self._file, line=self._line if row is None else self._line + 2 + row)

    def structure(self, name: str, options: ReadOptions) -> Structure:
        """The structure of the frame.

        Raises:
            InputError: the frame cannot be used.
        """
        self._check_rows()
        self._read_words()
        cell, periodic = self._cell_and_periodicity()
        elements = self._read_columns()
        positions = self._finite("pos", "finite positions")
        if not spans_volume(cell, periodic):
            raise self._error("expected independent cell vectors, got vectors that span no volume", row=-1)
        of_energy = energy_label(self._written, options.energy_key)
        of_forces = forces_label(self._declared, options.forces_key)
        of_free = free_energy_label(self._written, options.energy_key)
        free_energy = self._agreed(of_free.names, self._energy, "--energy-key")
        # the key of free energies, named by the user or alone, is no other energy
        plain = [key for key in of_energy.names if not is_free_energy(key)]
        energy = self._agreed(plain, self._energy, "--energy-key")
        forces = self._agreed(of_forces.names, lambda key: self._finite(key, f"finite {key}"), "--forces-key")
        # forces without an energy are of no use, and the missing energy is reported anyway
        wanted = energy is not None or free_energy is not None or options.forces_key is not None
        stress, of_stress = stress_label(self._written, options.stress_key, cell, periodic)
        remarks = (of_forces.remark if wanted else None, of_stress)
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
                self._info,
                {name: column for name, column in self._columns.items() if name not in _KNOWN_COLUMNS},
                of_energy.remark or Extras().no_energy,
                tuple(remark for remark in remarks if remark is not None),
            ),
            **two_energies(energy, free_energy),
            stress=stress,
            config_type=self._text(CONFIG_TYPE) or "",
            weight=self._weight(),
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

    # --- the comment

    def _read_words(self) -> None:
        """Parse the keys and values of the comment."""
        if len(self._comment) > _LONGEST_COMMENT:
            raise self._error(
                f"expected a comment of at most {_LONGEST_COMMENT} characters, got a longer one", row=-1
            )
        key, goes_on = None, False
        for word, equals in _WORD.findall(self._comment):
            bare = word.strip("\"'{}[]")
            if key is not None:
                # in a=b=c the value is b=c
                self._written[key] = f"{self._written[key]}={bare}" if goes_on else bare
                self._info[key] = f"{self._info[key]}={word}" if goes_on else word
                goes_on = bool(equals)
                key = key if goes_on else None
            elif not equals:
                self._info.setdefault(word, "")
            elif bare in self._written:
                raise self._error(f"expected each key once, got a second {quoted(bare)}", row=-1)
            else:
                key = bare
                self._written[key] = ""
                self._info[key] = '""'
        for key in self._written:
            word = _WORDS.get(key.lower(), key)
            if key.lower() == "cell" and "Lattice" not in self._written:
                word = "Lattice"
            if key != word:
                raise self._error(f"expected {word}, got {quoted(key)}", row=-1)

    def _geometry_word(self, key: str) -> str | None:
        """The value of a key, without quotes or brackets; None without the key."""
        word = self._info.get(key)
        if word and (closing := _CLOSING.get(word[0])) is not None:
            word = word[1:].removesuffix(closing)
        return word

    def _cell_and_periodicity(self) -> tuple[FloatArray, tuple[bool, bool, bool]]:
        cell, periodic = np.zeros((3, 3)), (False, False, False)
        if (lattice := self._geometry_word("Lattice")) is not None:
            words = _words(lattice)
            numbers = [parse_number(word) for word in words]
            if None in numbers or len(numbers) != cell.size:
                got = quoted(words[numbers.index(None)]) if None in numbers else len(numbers)
                raise self._error(f"expected nine numbers for Lattice, got {got}", row=-1)
            cell, periodic = np.array(numbers, dtype=np.float64).reshape(3, 3), (True, True, True)
        if (pbc := self._geometry_word("pbc")) is not None:
            axes = [_AXES.get(word) for word in _words(pbc)]
            a, b, c = 3 * axes if len(axes) == 1 else axes if len(axes) == 3 else (None, None, None)
            if a is None or b is None or c is None:
                raise self._error(f"expected T or F for each axis in pbc, got {quoted(pbc)}", row=-1)
            periodic = (a, b, c)
        return cell, periodic

    # --- the rows

    def _read_columns(self) -> tuple[str, ...]:
        """Parse the columns, check every number, and return the element of each atom."""
        if (properties := self._geometry_word("Properties")) is not None:
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
            self._columns[name] = column
            if kind in "RI":
                self._numbers[name] = self._as_numbers(column)
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
        names, kinds, counts = parts[::3], parts[1::3], [parse_count(part) for part in parts[2::3]]
        sizes = {name: count for name, count in zip(names, counts, strict=False) if count is not None}
        if len(names) != len(counts) or None in counts or not set(kinds) <= set("RISL"):
            raise self._error(f"expected Properties as name:type:columns, got {quoted(declared)}", row=-1)
        if len(sizes) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise self._error(f"expected each column once, got a second {quoted(twice)}", row=-1)
        if "pos" not in sizes:
            raise self._error("expected three columns for pos, got none", row=-1)
        types = dict(zip(names, kinds, strict=True))
        for aliases, allowed, n in (*_COLUMNS, *(((name,), "RI", 3) for name in _FORCES_KEYS)):
            found = [name for name in aliases if name in types]
            if len(found) > 1:
                raise self._error(f"expected one of the columns {' and '.join(found)}, got both", row=-1)
            for name in found:
                if sizes[name] != n:
                    raise self._error(f"expected {_COUNTS[n]} for {name}, got {sizes[name]}", row=-1)
                if types[name] not in allowed:
                    got = quoted(types[name])
                    raise self._error(f"expected type {' or '.join(allowed)} for {name}, got {got}", row=-1)
        self._declared = {name: (types[name], sizes[name]) for name in names}

    def _as_numbers(self, column: Column) -> FloatArray:
        numbers = _parsed(column.kind, [field for row in column.rows for field in row])
        if numbers is None:
            row = next(row for row, fields in enumerate(column.rows) if _parsed(column.kind, fields) is None)
            wrong = next(field for field in column.rows[row] if _parsed(column.kind, [field]) is None)
            raise self._error(f"expected a number, got {quoted(wrong)}", row)
        return np.array(numbers).reshape(len(column.rows), -1)

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

    def _finite(self, name: str, expected: str) -> FloatArray:
        """The numbers of a column, or of several columns with names joined by blanks."""
        parts = [name] if name in self._numbers else name.split(" ")
        numbers = np.column_stack([self._numbers[part] for part in parts])
        if len(infinite := np.flatnonzero(~np.isfinite(numbers).all(axis=1))):
            raise self._error(f"expected {expected}, got NaN or infinity", row=int(infinite[0]))
        return numbers

    # --- the labels

    def _agreed(self, names: Sequence[str], convert: Callable[[str], Any], option: str) -> Any:
        """The value that all names agree on, or None if there are no names."""
        found = {name: convert(name) for name in names}
        if not found:
            return None
        (first, value), *others = found.items()
        for name, other in others:
            if not np.array_equal(value, other):
                reason = f"expected equal values of {first} and {name}, got others; choose one with {option}"
                raise self._error(reason, row=-1)
        return value

    def _text(self, key: str) -> str | None:
        """The text of a key, without quotes or escapes; None without the key."""
        word = self._info.get(key)
        if word is None or not word.startswith('"'):
            return self._written.get(key)
        try:
            return str(json.loads(word))
        except ValueError:
            return self._written.get(key)

    def _weight(self) -> float:
        try:
            return parsed_weight(self._text(CONFIG_WEIGHT))
        except InputError as error:
            raise self._error(error.reason, row=-1) from None

    def _energy(self, key: str) -> float:
        written = self._written[key]
        number = parse_number(written)
        if number is None:
            raise self._error(f"expected a finite number for {key}, got {quoted(written)}", row=-1)
        return number


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _parsed(kind: str, fields: Sequence[str]) -> list[float] | None:
    """Integers or reals, None if any is invalid; Python alone accepts `2_0` and digits of other scripts."""
    text = "".join(fields)
    try:
        if not text.isascii() or "_" in text or (kind == "I" and not list(map(int, fields))):
            return None
        return list(map(float, fields))
    except ValueError:
        return None
