"""Extended XYZ, and plain XYZ, through ASE.

Lengths are Å, energies eV, forces eV/Å. Which keys and columns are labels, `labels` decides. With `Lattice` and without
`pbc` all three axes are periodic, as the format has it; plain XYZ is not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict, parse_properties, read_xyz

from tio2nn.errors import InputError, one_line
from tio2nn.files.text import check_last_row, decode_text, parse_count, parse_number, quoted
from tio2nn.io.labels import ReadOptions, energy_label, forces_label, stress_remark
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.geometry import spans_volume
from tio2nn.structures.structure import Column, Extras, FloatArray, Structure

_FORCES_KEYS = ("forces", "force", *(f"{prefix}forces" for prefix in ("REF_", "ref_", "DFT_", "dft_")))
_PLAIN_PROPERTIES = "species:S:1:pos:R:3"
_WORDS = {word.lower(): word for word in ("Lattice", "Properties", "pbc")}  # ASE passes over other spellings
# names that ASE takes for one column, and the types that it may have; of two it would take the last
_COLUMNS = ((("pos", "positions"), "RI"), (("species", "symbols"), "S"), (("Z", "numbers"), "I"))
_GEOMETRY = tuple(name for names, _ in _COLUMNS for name in names)
_KNOWN_COLUMNS = ("species", "symbols", "pos", "positions")  # which a structure holds in full
_LONGEST_COMMENT = 2**20  # characters; parsing takes hundreds of bytes for each

# as ASE splits a comment: blanks and `=` part words unless quoted or in brackets, what is not closed runs to the end
_WORD = re.compile(
    r"""((?:\\.?|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)"""
    r"""|\{(?:\\.|[^}\\])*(?:\}|\\?$)|\[(?:\\.|[^]\\])*(?:\]|\\?$)|[^\s=\\"'{\[]+)+)(\s*=)?"""
)


def iter_extxyz(
    data: bytes | str, *, name: str, file: str, options: ReadOptions | None = None
) -> Iterator[Structure | InputError]:
    """The frames of a file; one that cannot be used is its error.

    Args:
        data: the whole file.
        name: of the structure; frames of several become `name-1`, `name-2` ...
        file: what messages and `Structure.file` call it.
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
    """Indices of the lines that give a number of atoms: no row of an atom is a single integer."""
    starts: list[int] = []
    for index, line in enumerate(lines):
        # the line behind the number of atoms is free text, and may be a number
        if starts and index == starts[-1] + 1:
            continue
        if parse_count(line.strip()) is not None:
            starts.append(index)
        elif not starts and line.strip():
            got = quoted(line.strip())
            raise InputError(f"expected the number of atoms, got {got}", file=file, line=index + 1)
    return starts


class _Frame:
    """One frame: the number of atoms, a comment, a row for each atom."""

    def __init__(self, lines: Sequence[str], start: int, stop: int, file: str) -> None:
        self._file = file
        self._line = start + 1  # from 1, of the number of atoms
        self._written: dict[str, str] = {}  # behind each key of the comment
        self._info: dict[str, str] = {}  # the same with its quotes, and words that are no keys
        self._declared: dict[str, tuple[str, int]] = {}  # type and number of each column, in their order
        self._unterminated = stop == len(lines) and bool(lines[-1].strip())
        self._lines = list(lines[start:stop])
        while len(self._lines) > 2 and not self._lines[-1].strip():
            self._lines.pop()

    def _error(self, reason: str, row: int | None = None) -> InputError:
        """In the line of a row, counted from 0, or of the frame."""
        return InputError(reason, file=self._file, line=self._line if row is None else self._line + 2 + row)

    def structure(self, name: str, options: ReadOptions) -> Structure:
        """What the frame says.

        Raises:
            InputError: it cannot be used.
        """
        self._check_rows()
        atoms = self._read()
        positions, cell = np.array(atoms.positions), np.array(atoms.cell)
        periodic = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
        if len(infinite := np.flatnonzero(~np.isfinite(positions).all(axis=1))):
            raise self._error("expected a finite position, got another", row=int(infinite[0]))
        if not spans_volume(cell, periodic):
            raise self._error("expected independent cell vectors, got vectors that span no volume", row=-1)
        of_energy = energy_label(self._written, options.energy_key)
        of_forces = forces_label(self._declared, options.forces_key)
        energy = self._agreed(of_energy.names, self._energy, "--energy-key")
        forces = self._agreed(of_forces.names, lambda key: self._forces(key, atoms), "--forces-key")
        # forces without an energy are of no use, and why there is none is said anyway
        wanted = energy is not None or options.forces_key is not None
        remarks = (of_forces.remark if wanted else None, stress_remark(self._written))
        return Structure(
            name=name,
            elements=tuple(atoms.symbols),
            positions=positions,
            cell=cell,
            periodic=periodic,
            energy=energy,
            forces=forces,
            file=self._file,
            line=self._line,
            extras=Extras(
                self._info,
                self._columns(),
                of_energy.remark or Extras().no_energy,
                tuple(remark for remark in remarks if remark is not None),
            ),
        )

    def _columns(self) -> dict[str, Column]:
        """What there is of each atom beyond its element and position, as it is written."""
        fields = [line.split() for line in self._lines[2:]]
        columns, first = {}, 0
        for name, (kind, n) in self._declared.items():
            if name not in _KNOWN_COLUMNS:
                columns[name] = Column(kind, tuple([tuple(row[first : first + n]) for row in fields]))
            first += n
        return columns

    def _check_rows(self) -> None:
        n_atoms, n_rows = int(self._lines[0]), len(self._lines) - 2
        if n_rows < n_atoms:
            raise self._error(f"expected {n_atoms} atoms, got {max(n_rows, 0)}")
        if n_rows > n_atoms:
            surplus = quoted(self._lines[n_atoms + 2].strip())
            raise self._error(f"expected the next frame after {n_atoms} atoms, got {surplus}", row=n_atoms)
        if self._unterminated:
            check_last_row([line.split() for line in self._lines[2:]], self._file, self._line + 1 + n_rows)

    def _read(self) -> Atoms:
        comment = self._comment()
        # ASE passes over surplus columns, takes all that float() and int() take, and lets Z win over symbols
        self._check_fields(comment.get("Properties"))
        if "Properties" in comment:
            # under names of no meaning, of which ASE makes no results, constraints or complaints
            named = zip(self._declared, self._declared.values(), self._ase_names(), strict=True)
            comment["Properties"] = ":".join(f"{ase_name}:{kind}:{n}" for _, (kind, n), ase_name in named)
        text = "\n".join(self._lines) + "\n"
        try:
            (atoms,) = read_xyz(io.StringIO(text), slice(None), properties_parser=lambda _: dict(comment))
        # whatever in this frame makes ASE stumble, the others can still be read
        except Exception as error:
            reason = one_line(error)
            raise self._error(f"expected a frame of extended XYZ, got: {reason}") from error
        if "X" in atoms.symbols:
            # ASE's own sign for no element
            raise self._error("expected chemical symbols, got an atom without one")
        return atoms

    def _ase_names(self) -> list[str]:
        return [name if name in _GEOMETRY else f"_{k}_" for k, name in enumerate(self._declared)]

    def _comment(self) -> dict[str, Any]:
        """Those keys and values of the comment that describe the geometry."""
        text = self._lines[1].strip()
        if len(text) > _LONGEST_COMMENT:
            raise self._error(
                f"expected a comment of at most {_LONGEST_COMMENT} characters, got more", row=-1
            )
        self._read_words(text)
        self._check_keys_and_lattice()
        comment: dict[str, Any] = {}
        try:
            # of the other keys ASE expects more than a file has to fulfil, as nine numbers of a stress
            for key in _WORDS.values():
                if (word := self._info.get(key)) is not None:
                    comment |= key_val_str_to_dict(f"{key}={word}")
        except Exception as error:  # of any kind, as in `_read`
            reason = one_line(error)
            raise self._error(f"expected a frame of extended XYZ, got: {reason}", row=-1) from error
        if "pbc" in comment:
            axes = np.asarray(comment["pbc"])
            if axes.dtype.kind not in "bi" or axes.shape not in ((), (3,)) or not np.isin(axes, (0, 1)).all():
                got = quoted(str(comment["pbc"]))
                raise self._error(f"expected T or F three times as pbc, got {got}", row=-1)
        if "Properties" in comment:
            self._check_declared(str(comment["Properties"]))
        return comment

    def _read_words(self, text: str) -> None:
        """Take down what the comment says behind each key."""
        key, goes_on = None, False
        for word, equals in _WORD.findall(text):
            bare = word.strip("\"'{}[]")
            if key is not None:
                # as in a=b=c, where the value is b=c
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

    def _check_keys_and_lattice(self) -> None:
        """Refuse spellings of keys that ASE passes over, and numbers that only Python takes for some."""
        for key in self._written:
            word = _WORDS.get(key.lower(), key)
            if key.lower() == "cell" and "Lattice" not in self._written:
                word = "Lattice"
            if key != word:
                raise self._error(f"expected {word}, got {quoted(key)}", row=-1)
        for number in re.split(r"[\s,]+", self._written.get("Lattice", "").strip()):
            if number and parse_number(number) is None:
                raise self._error(f"expected nine numbers as Lattice, got {quoted(number)}", row=-1)

    def _check_declared(self, declared: str) -> None:
        """Refuse columns that ASE would take for others, or would try to count up to a trillion."""
        parts = declared.split(":")
        names, counts = parts[::3], [parse_count(part) for part in parts[2::3]]
        sizes = {name: count for name, count in zip(names, counts, strict=False) if count is not None}
        if len(names) != len(counts) or None in counts:
            raise self._error(f"expected Properties as name:type:columns, got {quoted(declared)}", row=-1)
        if len(sizes) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise self._error(f"expected each column once, got a second {quoted(twice)}", row=-1)
        for name in ("pos", *_FORCES_KEYS):
            n_columns = sizes.get(name, 0)
            if n_columns != 3 and (name in sizes or name == "pos"):
                raise self._error(f"expected three columns as {name}, got {n_columns}", row=-1)
        types = dict(zip(names, parts[1::3], strict=False))
        for aliases, allowed in (*_COLUMNS, *(((name,), "RI") for name in _FORCES_KEYS)):
            found = [name for name in aliases if name in types]
            if len(found) > 1:
                raise self._error(f"expected one of the columns {' and '.join(found)}, got both", row=-1)
            if found and types[found[0]] not in allowed:
                raise self._error(
                    f"expected {found[0]} as {' or '.join(allowed)}, got {quoted(types[found[0]])}", row=-1
                )
        self._declared = {name: (types[name], sizes[name]) for name in names}
        n_columns, n_fields = sum(sizes.values()), len(self._lines[2].split())
        if n_columns > n_fields:
            raise self._error(f"expected {n_columns} columns, got {n_fields}", row=0)

    def _check_fields(self, declared: str | None) -> None:
        """Find the line of a row that does not have the declared columns."""
        try:
            properties, names, _, converters = parse_properties(declared or _PLAIN_PROPERTIES)
        except (ValueError, KeyError, IndexError):
            converters = []
        if not converters:
            got = quoted(str(declared))
            raise self._error(f"expected Properties as name:type:columns, got {got}", row=-1)
        widths = {properties[name][0]: properties[name][1] for name in names}
        symbol_column, number_column = (
            sum(widths[name] for name in takewhile(wanted.__ne__, widths)) if wanted in widths else None
            for wanted in ("symbols", "numbers")
        )
        for row, line in enumerate(self._lines[2:]):
            fields = line.split()
            if len(fields) < len(converters) or (declared is not None and len(fields) > len(converters)):
                raise self._error(f"expected {len(converters)} columns, got {len(fields)}", row)
            for converter, field in zip(converters, fields, strict=False):
                if not _is_taken(converter, field):
                    raise self._error(f"expected a number, got {quoted(field)}", row)
            symbol = None if symbol_column is None else fields[symbol_column].capitalize()
            if symbol_column is not None and symbol not in ATOMIC_NUMBERS:
                raise self._error(f"expected a chemical symbol, got {quoted(fields[symbol_column])}", row)
            if number_column is not None:
                self._check_atomic_number(fields[number_column], symbol, row)

    def _check_atomic_number(self, field: str, symbol: str | None, row: int) -> None:
        number = int(field)
        if not 1 <= number <= len(ATOMIC_NUMBERS):
            raise self._error(f"expected an atomic number, got {quoted(field)}", row)
        if symbol is not None and ATOMIC_NUMBERS[symbol] != number:
            raise self._error(f"expected the atomic number of {symbol}, got {quoted(field)}", row)

    def _agreed(self, names: Sequence[str], convert: Callable[[str], Any], option: str) -> Any:
        """The one value that all names have, or None if there are none."""
        found = {name: convert(name) for name in names}
        if not found:
            return None
        (first, value), *others = found.items()
        for name, other in others:
            if not np.array_equal(value, other):
                reason = (
                    f"expected one label, got {name} different from {first}; choose one of them with {option}"
                )
                raise self._error(reason, row=-1)
        return value

    def _energy(self, key: str) -> float:
        written = self._written[key]
        number = parse_number(written)
        if number is None:
            raise self._error(f"expected a finite number as {key}, got {quoted(written)}", row=-1)
        return number

    def _forces(self, name: str, atoms: Atoms) -> FloatArray:
        arrays = dict(zip(self._declared, self._ase_names(), strict=True))
        columns = [np.array(atoms.arrays[arrays[part]], dtype=np.float64) for part in name.split(" ")]
        forces = np.column_stack(columns)
        if len(infinite := np.flatnonzero(~np.isfinite(forces).all(axis=1))):
            raise self._error(f"expected finite {name}, got others", row=int(infinite[0]))
        return forces


def _is_taken(converter: Callable[[str], object], field: str) -> bool:
    """Whether a field is one of its column; `2_0` and digits of other scripts are numbers to Python alone."""
    try:
        converter(field)
    except ValueError:
        return False
    return converter not in (int, float) or (field.isascii() and "_" not in field)
