"""What readers of long files share: bounded lines, numbers, structures from what was found, names of frames."""

from __future__ import annotations

import lzma
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError, one_line
from tio2nn.files.text import CUT_SHORT, parse_number, quoted
from tio2nn.structures.elements import ATOMIC_NUMBERS, SYMBOLS
from tio2nn.structures.geometry import spans_volume
from tio2nn.structures.stress import usable_stress
from tio2nn.structures.structure import Extras, Structure, parsed_weight, two_energies

_LONGEST_LINE = 2**20  # bytes
# programs separate what they print by some blank lines; a compressed file may hold a billion at no cost
_MOST_BLANK_LINES = 10_000  # in a row
# eigenvalues at thousands of k points, in every step, take a million
_MOST_LINES = 10_000_000  # between results
_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])
_LETTERS = re.compile("[A-Za-z]+")
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


class Lines:
    """The lines of a text file, one after the other.

    Args:
        stream: of bytes.
        file: its name for messages.

    Attributes:
        number: of the last line, from 1; 0 before the first.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._stream = stream
        self._file = file
        self.number = 0
        self._n_blank = 0  # in a row
        self._result = 0  # number of the line at which there was one
        self._ended = False  # without a newline
        self._is_utf8 = True

    def __iter__(self) -> Iterator[str]:
        while (line := self.next()) is not None:
            yield line

    def next(self) -> str | None:
        """The next line without its end, or None behind the last.

        Raises:
            InputError: it is no text, too long, or there are too many lines of nothing.
        """
        data = self._stream.readline(_LONGEST_LINE + 1)
        if not data:
            return None
        self.number += 1
        if data.isspace():
            self._n_blank += 1
            if self._n_blank > _MOST_BLANK_LINES:
                raise self.error(f"expected at most {_MOST_BLANK_LINES} blank lines in a row, got more")
        else:
            self._n_blank = 0
        if self.number - self._result > _MOST_LINES:
            raise self.error(f"expected results within {_MOST_LINES} lines, got none")
        if len(data) > _LONGEST_LINE:
            raise self.error(f"expected lines of at most {_LONGEST_LINE} characters, got a longer one")
        if self.number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise self.error("expected UTF-8 text, got UTF-16")
            data = data.removeprefix(b"\xef\xbb\xbf")
        if len(data.translate(None, _CONTROL_BYTES)) != len(data):
            raise self.error("expected text, got binary data")
        self._ended = not data.endswith(b"\n")
        return self._decoded(data).rstrip("\r\n")

    def _decoded(self, data: bytes) -> str:
        if self._is_utf8:
            try:
                return data.decode()
            except UnicodeDecodeError:
                self._is_utf8 = False
        return data.decode("latin-1")

    def found_result(self) -> None:
        """Note that the lines so far were worth reading."""
        self._result = self.number

    def row(self, what: str) -> list[str]:
        """The fields of the next line.

        Raises:
            InputError: there is none, or it may be cut short.
        """
        line = self.next()
        if line is None:
            raise self.error(f"expected {what}, {CUT_SHORT}")
        self.check_end()
        return line.split()

    def check_end(self) -> None:
        """Refuse the last line of a file without a newline, whose last number may be cut."""
        if self._ended:
            raise self.error(f"expected a newline after the last row, {CUT_SHORT}")

    def error(self, reason: str, line: int | None = None) -> InputError:
        """An error at a line, by default the last."""
        return InputError(reason, file=self._file, line=self.number if line is None else line)


def numbers_of(fields: Sequence[str], error: Lines, n: int = 3) -> list[float]:
    """The first `n` fields as finite numbers.

    Raises:
        InputError: they are not.
    """
    if len(fields) < n:
        raise error.error(f"expected {n} numbers, got {len(fields)}")
    found = [parse_number(field) for field in fields[:n]]
    if None in found:
        raise error.error(f"expected a finite number, got {quoted(fields[found.index(None)])}")
    return [number for number in found if number is not None]


def numbers_or_nan(fields: Sequence[str], scale: float = 1.0) -> list[float]:
    """The fields as numbers times a factor, NaN for those that are none."""
    found = [parse_number(field) for field in fields]
    return [math.nan if number is None else scale * number for number in found]


def element_of_label(label: str) -> str | None:
    """The element of a label such as `Fe1`, `O_h` or `SI`; None if it is none."""
    found = _LETTERS.match(label)
    letters = "" if found is None else found.group()
    for n in (2, 1):
        if (symbol := letters[:n].capitalize()) in ATOMIC_NUMBERS and len(letters[:n]) == n:
            return symbol
    return None


class Labels(NamedTuple):
    """The labels of a structure.

    Attributes:
        energy: eV, or None.
        free_energy: eV, or None; alone, it is also the energy.
        forces: (n_atoms, 3) eV/Å, or None.
        stress: (3, 3), or six components in Voigt's order, eV/Å³, positive under tension, or None.
        remarks: on labels that were ignored.
        config_type, weight: as in `Structure`; the weight as the file gives it.
        states: as in `Extras`; None if the file tells nothing.
        no_energy: as in `Extras`; None for the usual words.
        keys: as in `Extras`.
    """

    energy: float | None
    free_energy: float | None = None
    forces: object = None
    stress: object = None
    remarks: tuple[str, ...] = ()
    config_type: str = ""
    weight: object = None
    states: Mapping[str, str] | None = None
    no_energy: str | None = None
    keys: tuple[str, ...] = ()


def structure_of(
    elements: Sequence[str] | Sequence[int],
    positions: object,
    cell: object,
    periodic: Sequence[bool],
    *,
    labels: Labels,
    file: str,
    line: int | None = None,
) -> Structure:
    """A structure without a name from what a file says, checked.

    Args:
        elements: symbols, or atomic numbers.
        positions: (n_atoms, 3) Å.
        cell: (3, 3) Å.
        periodic: along each vector.
        labels: energies, forces and stress; a stress that cannot be learned is left out with a remark.
        file: for messages.
        line: of the frame.

    Raises:
        InputError: it is no structure.
    """

    def failed(reason: str) -> InputError:
        return InputError(reason, file=file, line=line)

    if not len(elements):
        raise failed("expected atoms, got none")
    symbols = []
    for element in elements:
        symbol = element if isinstance(element, str) else SYMBOLS[element - 1] if 0 < element <= 118 else ""
        if symbol not in ATOMIC_NUMBERS:
            raise failed(f"expected chemical elements, got {quoted(str(element))}")
        symbols.append(symbol)
    wanted = {"positions": (positions, (len(symbols), 3)), "cell": (cell, (3, 3))}
    if labels.forces is not None:
        wanted["forces"] = (labels.forces, (len(symbols), 3))
    arrays: dict[str, FloatArray] = {}
    for what, (given, shape) in wanted.items():
        try:
            array = np.array(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise failed(f"expected {what} of shape {shape}, got rows of other lengths") from None
        if array.shape != shape:
            raise failed(f"expected {what} of shape {shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise failed(f"expected finite {what}, got NaN or infinity")
        arrays[what] = array
    energy, free_energy = labels.energy, labels.free_energy
    for what, number in (("energy", energy), ("free energy", free_energy)):
        if number is not None and not np.isfinite(number):
            raise failed(f"expected a finite {what}, got {number}")
    x, y, z = (bool(axis) for axis in periodic)
    if not spans_volume(arrays["cell"], (x, y, z)):
        raise failed("expected independent cell vectors, got vectors that span no volume")
    try:
        weight = parsed_weight(labels.weight)
    except InputError as error:
        raise failed(error.reason) from None
    stress, reason = usable_stress(labels.stress, (x, y, z))
    return Structure(
        "",
        tuple(symbols),
        arrays["positions"],
        arrays["cell"],
        (x, y, z),
        forces=arrays.get("forces"),
        file=file,
        line=line,
        **two_energies(energy, free_energy),
        stress=stress,
        config_type=labels.config_type,
        weight=weight,
        extras=Extras(
            no_energy=labels.no_energy or Extras().no_energy,
            keys=labels.keys,
            states=labels.states or {},
            remarks=labels.remarks if reason is None else (*labels.remarks, f"stress ignored: {reason}"),
        ),
    )


def numbered(items: Iterator[Structure | InputError], name: str) -> Iterator[Structure | InputError]:
    """Name the frames of a file, `name-1` and so on if there are several; errors count as frames, and say which."""
    first = next(items, None)
    if first is None:
        return
    second = next(items, None)
    if second is None:
        yield first if isinstance(first, InputError) else replace(first, name=name)
        return
    number = 0
    for group in ((first, second), items):
        for item in group:
            number += 1
            if isinstance(item, InputError):
                yield item if item.line else InputError(item.reason, file=item.file, frame=number)
            else:
                yield replace(item, name=f"{name}-{number}", frame=None if item.line else number)


def at_least_one(
    items: Iterator[Structure | InputError], expected: str, file: str
) -> Iterator[Structure | InputError]:
    """The items, or one error if there is none."""
    is_empty = True
    for item in items:
        is_empty = False
        yield item
    if is_empty:
        yield InputError(f"expected {expected}, got none", file=file)


def until_unreadable(items: Iterator[Structure | InputError], file: str) -> Iterator[Structure | InputError]:
    """The items, and one error where the file cannot be read any further."""
    try:
        yield from items
    except InputError as error:
        yield error
    except _UNREADABLE as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        yield InputError(f"cannot read the file: {reason}", file=file)
