"""JSON that people edit: read strictly, and written in a readable layout.

Python's own parser silently keeps the last of two equal keys; here repeated keys are recorded, to be reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError, unreadable
from tio2nn.files.paths import AnyPath

# Wide enough for a row of symmetry functions, and narrow enough for a screen.
_LINE_LENGTH = 100

# int() refuses more than 4300 digits with an error that names no place; float() accepts any number of digits.
_LONGEST_INTEGER = 300

_FOREIGN_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class JsonObject(dict[str, Any]):
    """A JSON object that records repeated keys (the last value counts)."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        repeated: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                repeated[key] = None
            seen.add(key)
        self.repeated_keys = tuple(repeated)


def load(path: AnyPath) -> Any:
    """Read and parse a file.

    Raises:
        InputError: not readable, not UTF-8, or not JSON.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(unreadable(error), file=str(path)) from None
    return parse(decode(data, file=str(path)), file=str(path))


def decode(data: bytes, *, file: str | None = None) -> str:
    """The text of a JSON file: UTF-8, with or without a byte order mark.

    Raises:
        InputError: another encoding, with the line of the first invalid byte.
    """
    for mark, encoding in _FOREIGN_ENCODINGS.items():
        if data.startswith(mark):
            raise InputError(f"expected UTF-8 text, got {encoding}", file=file)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"expected UTF-8 text, got the byte 0x{data[error.start]:02x}"
        raise InputError(reason, file=file, line=line) from None


def parse(text: str, *, file: str | None = None) -> Any:
    """Parse one JSON document; objects become `JsonObject`, NaN and Infinity floats, to be refused by later checks.

    Raises:
        InputError: a syntax error, with its line.
    """
    try:
        return json.loads(text, object_pairs_hook=JsonObject, parse_int=_integer)
    except json.JSONDecodeError as error:
        found = text[error.pos : error.pos + 1]
        got = quote(found) if found else "the end of the file"
        reason = f"expected valid JSON, got {got} at column {error.colno}: {error.msg}"
        raise InputError(reason, file=file, line=error.lineno) from None
    except RecursionError:
        raise InputError("expected valid JSON, got brackets nested too deeply", file=file) from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def quote(value: object) -> str:
    """`value` as JSON on one line, for messages; always safe to print."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)


def format_json(value: Any) -> str:
    """JSON with one line for each key of the document and of its sections; deeper values share a line."""
    return _format(value, depth=0) + "\n"


def _format(value: Any, depth: int) -> str:
    sections = depth <= 1 and isinstance(value, Mapping)
    rows = isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value)
    indent = "  " * depth
    if not sections and not rows:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if len(indent) + len(line) <= _LINE_LENGTH or not isinstance(value, (Mapping, list, tuple)):
            return line
    if isinstance(value, Mapping):
        brackets = "{}"
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {_format(item, depth + 1)}"
            for key, item in value.items()
        ]
    else:
        brackets = "[]"
        parts = [_format(item, depth + 1) for item in value]
    if not parts:
        return brackets
    inner = ",\n".join(f"{indent}  {part}" for part in parts)
    return f"{brackets[0]}\n{inner}\n{indent}{brackets[1]}"
