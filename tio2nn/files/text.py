"""Shared by all text formats: decoding, strict numbers, and the detection of truncated files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tio2nn.errors import InputError

# not a number here, though float() accepts it: underscores, "nan", "infinity", digits of other scripts
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[EeDd][+-]?[0-9]+)?")
FORTRAN_EXPONENT = str.maketrans("Dd", "Ee")
"""Translates exponents of double precision to those that other programs read."""

# bytes that no text contains, in any extension of ASCII
_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
CUT_SHORT = "got the end of the file: truncated? (if complete, add a newline)"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_QUOTE = 40  # characters of a file quoted in a message, which stays one readable line
_FIXED_DECIMALS = 6  # fixed-width formats print at least these; shorter numbers may be equally long by chance
_LONGEST_INTEGER = 18  # digits; more than any file needs, and int() is slow for very long strings


def decode_text(data: bytes | str, file: str) -> str:
    """The text of a file (UTF-8, else Latin-1, in which older programs write Å), with LF as newline.

    Raises:
        InputError: the file is empty, UTF-16 or binary.
    """
    text = data if isinstance(data, str) else _decode(data, file)
    if not text or text.isspace():
        raise InputError("expected text, got an empty file", file=file)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decode(data: bytes, file: str) -> str:
    if data.startswith(_UTF16_MARKS):
        raise InputError("expected UTF-8 text, got UTF-16", file=file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        is_text = _CONTROL_CHARACTERS.search(text) is None
    else:
        is_text = len(data.translate(None, _CONTROL_BYTES)) == len(data)
    if not is_text:
        found = _CONTROL_CHARACTERS.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found is not None else None
        raise InputError("expected text, got binary data", file=file, line=line)
    return text


def parse_number(token: str) -> float | None:
    """The finite number that `token` spells, Fortran's `D` exponents included, or None."""
    if _NUMBER.fullmatch(token) is None:
        return None
    value = float(token.translate(FORTRAN_EXPONENT))
    return value if math.isfinite(value) else None


def parse_count(token: str) -> int | None:
    """The integer of at least 1 that `token` spells, or None."""
    if not (token.isascii() and token.isdigit() and len(token) <= _LONGEST_INTEGER):
        return None
    return int(token) or None


def quoted(token: str) -> str:
    """`token` in quotes for a message: shortened, on one line."""
    return repr(token if len(token) <= _LONGEST_QUOTE else token[: _LONGEST_QUOTE - 3] + "...")


def check_last_row(rows: Sequence[Sequence[str]], file: str, line: int) -> None:
    """Refuse a block that ends a file without a newline, unless its last number is visibly complete.

    A number truncated at the end of a file reads as another, shorter number. The number is complete if every column
    has the same number of decimals in all rows, and the last vector in all components, as fixed formats print them. A
    single row must have the same number of decimals in all numbers with a decimal point.

    Args:
        rows: the fields of every row of the block, the last row of the file last.
        file: for the message.
        line: of the last row.

    Raises:
        InputError: the last number may be truncated.
    """
    decimals = {tuple(len(field.partition(".")[2]) for field in row) for row in rows}
    last_vector = set(next(iter(decimals))[-3:])
    with_point = {n for row in decimals for n in row if n} if len(rows) == 1 else last_vector
    if len(decimals) > 1 or len(last_vector | with_point) > 1 or last_vector.pop() < _FIXED_DECIMALS:
        raise InputError(f"expected a newline after the last row, {CUT_SHORT}", file=file, line=line)
