"""The comment line of extended XYZ: keys with values, the cell, and which axes are periodic.

`Lattice`, `Properties` and `pbc` may be written in any case. A value is empty if a blank and another key follow `=`, as
after `config_type` in `config_type= energy=-1`.
"""

from __future__ import annotations

import json
import re

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.files.text import parse_number, quoted
from tio2nn.io.labels import number_in, words_of_numbers
from tio2nn.structures.structure import CONFIG_WEIGHT, parsed_weight

_WORDS = {word.lower(): word for word in ("Lattice", "Properties", "pbc")}
_LONGEST = 2**20  # characters; parsing takes hundreds of bytes for each
_AXES = {**dict.fromkeys(("t", "true", "1"), True), **dict.fromkeys(("f", "false", "0"), False)}
_THREE_AXES = re.compile("[TtFf]{3}")

# blanks and `=` separate words unless quoted or in brackets, which may hold brackets as in a matrix; an unclosed quote
# runs to the end
_WORD = re.compile(
    r"""((?:\\.?|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)"""
    r"""|\{(?:\\.|[^}\\])*(?:\}|\\?$)|\[(?:\\.|\[[^][\\]*\]|[^]\\])*(?:\]|\\?$)|[^\s=\\"'{\[]+)+)(\s*=(\s*))?"""
)
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}


class Comment:
    """The keys and values of a comment.

    Attributes:
        written: the value of each key, without quotes and brackets.
        info: the same with them, and keys without a value.
    """

    def __init__(self, text: str, file: str, line: int) -> None:
        """Parse a comment.

        Args:
            text: of the line.
            file, line: where it stands, for messages.

        Raises:
            InputError: it is too long, or a key has two values or a wrong name.
        """
        self._file, self._line = file, line
        self.written: dict[str, str] = {}
        self.info: dict[str, str] = {}
        if len(text) > _LONGEST:
            raise self.error(f"expected a comment of at most {_LONGEST} characters, got a longer one")
        self._read(text)
        for key in self.written:
            if key.lower() == "cell" and "Lattice" not in self.written:
                raise self.error(f"expected Lattice, got {quoted(key)}")

    def error(self, reason: str) -> InputError:
        """An error in the comment."""
        return InputError(reason, file=self._file, line=self._line)

    def _read(self, text: str) -> None:
        key, value, whole = None, "", ""
        goes_on = ended = False
        for word, equals, blank in _WORD.findall(text):
            bare = word.strip("\"'{}[]")
            if key is not None and ended and equals:
                # in a= b=c the value of a is empty
                self._add(key, value, whole or '""')
                key = None
            if key is not None:
                # in a=b=c the value is b=c
                value, whole = (f"{value}={bare}", f"{whole}={word}") if goes_on else (bare, word)
                goes_on = bool(equals)
                if not goes_on:
                    self._add(key, value, whole)
                    key = None
            elif equals:
                key, value, whole, goes_on = _WORDS.get(bare.lower(), bare), "", "", False
            else:
                self.info.setdefault(word, "")
            ended = bool(blank)
        if key is not None:
            self._add(key, value, whole or '""')

    def _add(self, key: str, value: str, whole: str) -> None:
        value = value.strip()
        if self.written.get(key, value) != value:
            raise self.error(f"expected each key once, got a second {quoted(key)} with another value")
        self.written[key] = value
        self.info[key] = whole

    def geometry_word(self, key: str) -> str | None:
        """The value of a key, without quotes or brackets; None without the key."""
        word = self.info.get(key)
        if word and (closing := _CLOSING.get(word[0])) is not None:
            word = word[1:].removesuffix(closing)
        return word

    def cell_and_periodicity(self) -> tuple[FloatArray, tuple[bool, bool, bool]]:
        """(3, 3) cell vectors, Å, and which are periodic.

        Raises:
            InputError: one of them cannot be read.
        """
        cell, periodic = np.zeros((3, 3)), (False, False, False)
        if (lattice := self.geometry_word("Lattice")) is not None:
            words = lattice.replace(",", " ").split()
            numbers = [parse_number(word) for word in words]
            if None in numbers or len(numbers) != cell.size:
                got = quoted(words[numbers.index(None)]) if None in numbers else len(numbers)
                raise self.error(f"expected nine numbers for Lattice, got {got}")
            cell, periodic = np.array(numbers, dtype=np.float64).reshape(3, 3), (True, True, True)
        if (pbc := self.geometry_word("pbc")) is not None:
            words = words_of_numbers(pbc)
            words = list(words[0]) if len(words) == 1 and _THREE_AXES.fullmatch(words[0]) else words
            axes = [_AXES.get(word.lower()) for word in words]
            a, b, c = 3 * axes if len(axes) == 1 else axes if len(axes) == 3 else (None, None, None)
            if a is None or b is None or c is None:
                raise self.error(f"expected T or F for each axis in pbc, got {quoted(pbc)}")
            periodic = (a, b, c)
        return cell, periodic

    def text(self, key: str) -> str | None:
        """The text of a key, without quotes or escapes; None without the key."""
        word = self.info.get(key)
        if word is None or not word.startswith('"'):
            return self.written.get(key)
        try:
            return str(json.loads(word))
        except ValueError:
            return self.written.get(key)

    def weight(self) -> float:
        """The weight of the structure.

        Raises:
            InputError: it is no number of at least 0.
        """
        try:
            return parsed_weight(self.text(CONFIG_WEIGHT))
        except InputError as error:
            raise self.error(error.reason) from None

    def number(self, key: str) -> float:
        """The number of a key, alone or as an array of one.

        Raises:
            InputError: it is none.
        """
        number = number_in(self.written[key])
        if number is None:
            raise self.error(f"expected a finite number for {key}, got {quoted(self.written[key])}")
        return number
