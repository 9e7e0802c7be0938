"""Extended XYZ, and plain XYZ, through ASE.

Lengths are Å, energies eV, forces eV/Å. The total energy is what the comment line calls `energy`,
`total_energy`, `REF_energy`, `ref_energy`, `DFT_energy` or `dft_energy`; forces are the columns `forces`,
`force`, `REF_forces`, `ref_forces`, `DFT_forces` or `dft_forces`. Where a frame has several of them, they have to
agree. With `Lattice` and without `pbc` all three axes are periodic, as the format has it; plain XYZ is not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_str_to_dict, parse_properties, read_xyz, write_xyz
from ase.stress import full_3x3_to_voigt_6_stress

from tio2nn.elements import ATOMIC_NUMBERS
from tio2nn.errors import InputError, one_line
from tio2nn.geometry import spans_volume
from tio2nn.io.text import check_last_row, decode_text, parse_count, parse_number, quoted
from tio2nn.structure import FloatArray, Structure

_PREFIXES = (
    "REF_",
    "ref_",
    "DFT_",
    "dft_",
)  # of labels that training programs write beside their own results
_ENERGY_KEYS = ("energy", "total_energy", *(f"{prefix}energy" for prefix in _PREFIXES))
_FORCES_KEYS = ("forces", "force", *(f"{prefix}forces" for prefix in _PREFIXES))
_PLAIN_PROPERTIES = "species:S:1:pos:R:3"
_WORDS = {word.lower(): word for word in ("Lattice", "Properties", "pbc")}  # ASE passes over other spellings
# names that ASE takes for one column, and the types that it may have; of two it would take the last
_COLUMNS = ((("pos", "positions"), "RI"), (("species", "symbols"), "S"), (("Z", "numbers"), "I"))
_LONGEST_COMMENT = 2**20  # characters; parsing takes hundreds of bytes for each

# as ASE splits a comment: blanks and `=` part words unless quoted or in brackets, what is not closed runs to the end
_WORD = re.compile(
    r"""((?:\\.?|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)"""
    r"""|\{(?:\\.|[^}\\])*(?:\}|\\?$)|\[(?:\\.|[^]\\])*(?:\]|\\?$)|[^\s=\\"'{\[]+)+)(\s*=)?"""
)


def iter_extxyz(data: bytes | str, *, name: str, file: str) -> Iterator[Structure | InputError]:
    """The frames of a file; one that cannot be used is its error.

    Args:
        data: the whole file.
        name: of the structure; frames of several become `name-1`, `name-2` ...
        file: what messages and `Structure.file` call it.
    """
    try:
        lines = decode_text(data, file).split("\n")
        starts = _frame_starts(lines, file)
    except InputError as error:
        yield error
        return
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True), start=1):
        frame = _Frame(lines, start, stop, file)
        try:
            yield frame.structure(f"{name}-{number}" if len(starts) > 1 else name)
        except InputError as error:
            yield error


def write_extxyz(
    structure: Structure, stress: FloatArray | None = None, distances: FloatArray | None = None
) -> str:
    """The text of one frame, with energy, forces and stress where they are known.

    Args:
        structure: its energy and forces become `energy` and the columns `forces`.
        stress: (3, 3) eV/Å³.
        distances: (n_atoms,) from training, become the column `distance`.
    """
    atoms = Atoms(list(structure.elements), structure.positions, cell=structure.cell, pbc=structure.periodic)
    results: dict[str, Any] = {"energy": structure.energy, "forces": structure.forces}
    if stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in results.items() if v is not None})
    if distances is not None:
        atoms.set_array("distance", distances)
    handle = io.StringIO()
    write_xyz(handle, atoms, write_results=True)
    return handle.getvalue()


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
        self._unterminated = stop == len(lines) and bool(lines[-1].strip())
        self._lines = list(lines[start:stop])
        while len(self._lines) > 2 and not self._lines[-1].strip():
            self._lines.pop()

    def _error(self, reason: str, row: int | None = None) -> InputError:
        """In the line of a row, counted from 0, or of the frame."""
        return InputError(reason, file=self._file, line=self._line if row is None else self._line + 2 + row)

    def structure(self, name: str) -> Structure:
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
        results = atoms.calc.results if atoms.calc is not None else {}
        energy = self._agreed(_ENERGY_KEYS, {**atoms.info, **results}, self._energy)
        forces = self._agreed(_FORCES_KEYS, {**atoms.arrays, **results}, self._forces)
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
        )

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

    def _comment(self) -> dict[str, Any]:
        """Keys and values of the comment, each key once."""
        text = self._lines[1].strip()
        if len(text) > _LONGEST_COMMENT:
            raise self._error(
                f"expected a comment of at most {_LONGEST_COMMENT} characters, got more", row=-1
            )
        self._written = self._values(text)
        self._check_keys_and_lattice()
        try:
            comment: dict[str, Any] = key_val_str_to_dict(text)
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

    def _values(self, text: str) -> dict[str, str]:
        """What the comment says behind each key, as it is written there."""
        values: dict[str, str] = {}
        key = None
        for word, equals in _WORD.findall(text):
            bare = word.strip("\"'{}[]")
            if key is not None:
                values[key] = bare
                key = None
            elif equals:
                if bare in values:
                    raise self._error(f"expected each key once, got a second {quoted(bare)}", row=-1)
                key = bare
        return values if key is None else values | {key: ""}

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

    def _agreed(
        self, keys: Sequence[str], values: Mapping[str, Any], convert: Callable[[str, Any], Any]
    ) -> Any:
        """The one value that all keys that are there have, or None."""
        found = {key: convert(key, values[key]) for key in keys if values.get(key) is not None}
        if not found:
            return None
        (first, value), *others = found.items()
        for key, other in others:
            if not np.array_equal(value, other):
                raise self._error(f"expected one label, got {key} different from {first}", row=-1)
        return value

    def _energy(self, key: str, value: Any) -> float:
        # as it is written, for ASE has taken it for what Python would
        written = self._written.get(key, str(value))
        number = parse_number(written)
        if number is None:
            raise self._error(f"expected a finite number as {key}, got {quoted(written)}", row=-1)
        return number

    def _forces(self, key: str, value: Any) -> FloatArray:
        forces = np.array(value, dtype=np.float64)
        if forces.shape != (len(self._lines) - 2, 3):
            raise self._error(f"expected three columns as {key}, got others", row=-1)
        if len(infinite := np.flatnonzero(~np.isfinite(forces).all(axis=1))):
            raise self._error(f"expected finite {key}, got others", row=int(infinite[0]))
        return forces


def _is_taken(converter: Callable[[str], object], field: str) -> bool:
    """Whether a field is one of its column; `2_0` and digits of other scripts are numbers to Python alone."""
    try:
        converter(field)
    except ValueError:
        return False
    return converter not in (int, float) or (field.isascii() and "_" not in field)
