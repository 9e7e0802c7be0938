"""What all text formats share: decoding, strict numbers, and the mark of a file that was cut short."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tio2nn.errors import InputError

# what Python's float() also takes (underscores, "nan", "infinity", digits of other scripts) is not a number
# here; Fortran writes the exponents of double precision with D
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[EeDd][+-]?[0-9]+)?")
_FORTRAN_EXPONENT = str.maketrans("Dd", "Ee")
# bytes that no text has, in any of the encodings that extend ASCII
_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
CUT_SHORT = "got the end of the file: cut short? (if whole, end the line)"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_QUOTE = 40  # of a file's text inside a message, so that the message stays one readable line
_FIXED_DECIMALS = (
    6  # what formats of a fixed width print at least; shorter numbers may be equally long by chance
)
_LONGEST_INTEGER = 18  # digits; beyond any file, and int() of a very long text costs time


def decode_text(data: bytes | str, file: str) -> str:
    """The text of a file (UTF-8, or else Latin-1, as older programs write Å), its line ends as LF.

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
    value = float(token.translate(_FORTRAN_EXPONENT))
    return value if math.isfinite(value) else None


def parse_count(token: str) -> int | None:
    """The integer of at least 1 that `token` spells, or None."""
    if not (token.isascii() and token.isdigit() and len(token) <= _LONGEST_INTEGER):
        return None
    return int(token) or None


def quoted(token: str) -> str:
    """`token` for a message: shortened, on one line."""
    return repr(token if len(token) <= _LONGEST_QUOTE else token[: _LONGEST_QUOTE - 3] + "...")


def check_last_row(rows: Sequence[Sequence[str]], file: str, line: int) -> None:
    """Refuse a block whose last row ends a file without a line end, unless its last number is visibly whole.

    A file cut inside its last number reads as another, shorter number. Nothing is missing where every column has
    equally many digits behind the point in all rows, and a vector in all components, as fixed formats print them. A row
    that stands alone has to have equally many in all its numbers with a point.

    Args:
        rows: the fields of every row of the block, the last row of the file last.
        file: for the message.
        line: that of the last row.

    Raises:
        InputError: the last number may be cut short.
    """
    decimals = {tuple(len(field.partition(".")[2]) for field in row) for row in rows}
    last_vector = set(next(iter(decimals))[-3:])
    with_point = {n for row in decimals for n in row if n} if len(rows) == 1 else last_vector
    if len(decimals) > 1 or len(last_vector | with_point) > 1 or last_vector.pop() < _FIXED_DECIMALS:
        raise InputError(f"expected a line end after the last row, {CUT_SHORT}", file=file, line=line)
