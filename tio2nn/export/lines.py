"""Files of other programs as lines of words, so that errors in them are reported with their line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.special_files import is_special
from tio2nn.files.text import decode_text, parse_number, quoted
from tio2nn.structures.elements import ATOMIC_NUMBERS


class Line(NamedTuple):
    """A line of a file, split into words."""

    file: str
    number: int
    words: tuple[str, ...]

    def error(self, reason: str) -> InputError:
        return InputError(reason, file=self.file, line=self.number)

    def value(self, place: int) -> float:
        """The number at a place.

        Raises:
            InputError: there is none.
        """
        found = parse_number(self.words[place]) if place < len(self.words) else None
        if found is None:
            got = quoted(self.words[place]) if place < len(self.words) else "the end of the line"
            raise self.error(f"expected a number, got {got}")
        return found

    def element(self, place: int) -> str:
        """The chemical symbol at a place.

        Raises:
            InputError: there is none.
        """
        if place >= len(self.words) or self.words[place] not in ATOMIC_NUMBERS:
            got = quoted(self.words[place]) if place < len(self.words) else "the end of the line"
            raise self.error(f"expected a chemical symbol, got {got}")
        return self.words[place]


def lines_of(file: Path, *comments: str) -> Iterator[Line]:
    """The lines of a file that say something, without comments."""
    for number, text in enumerate(text_of(file).splitlines(), start=1):
        for mark in comments:
            text = text.partition(mark)[0]
        if words := text.split():
            yield Line(str(file), number, tuple(words))


def text_of(file: Path) -> str:
    """The text of a file.

    Raises:
        InputError: there is none.
    """
    if is_special(file):
        raise InputError("expected a regular file, got another kind", file=str(file))
    try:
        return decode_text(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise InputError("no such file", file=str(file)) from None
    except IsADirectoryError:
        raise InputError("expected a file, got a directory", file=str(file)) from None
