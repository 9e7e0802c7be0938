"""Tables as CSV and documents as JSON, each written whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.files.strict_json import decode, parse


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table. A float is written as `repr` does, so that reading it gives the same number."""
    with atomic_write(path) as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def count_rows(path: Path) -> int:
    """Rows of a table without its header.

    Raises:
        InputError: it cannot be read, or is no table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            n_rows = sum(1 for _ in csv.reader(handle, strict=True))
    except OSError as error:
        raise InputError(f"expected a readable table, got: {error.strerror}", file=str(path)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a table, got: {error}", file=str(path)) from None
    if n_rows == 0:
        raise InputError("expected a table, got an empty file", file=str(path))
    return n_rows - 1


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    file = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"expected a readable file, got: {error.strerror}", file=file) from None
    return parse(decode(data, file=file), file=file)


@contextmanager
def document(path: Path, expected: str, advice: str) -> Iterator[Any]:
    """The content of a JSON file for `with`, whose block finds in it what it needs, or fails.

    Raises:
        InputError: there is no such content; expected what, and with advice.
    """
    try:
        yield read_json(path)
    except InputError as error:
        raise InputError(f"{error.reason}; {advice}", file=error.file, line=error.line) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"expected {expected}, got {error}; {advice}", file=str(path)) from None


def write_json(path: Path, document: object) -> None:
    """Write a document that people may want to read, too."""
    with atomic_write(path) as handle:
        json.dump(document, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
