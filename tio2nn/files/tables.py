"""Tables as CSV and documents as JSON, written atomically."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError, unreadable
from tio2nn.files.atomic import atomic_write
from tio2nn.files.strict_json import decode, parse


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; floats are written with `repr`, so reading them gives the same number."""
    with atomic_write(path) as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def count_rows(path: Path) -> int:
    """Number of rows of a table, without the header.

    Raises:
        InputError: it cannot be read, or is no table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            n_rows = sum(1 for _ in csv.reader(handle, strict=True))
    except OSError as error:
        raise InputError(unreadable(error), file=str(path)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a table, got: {error}", file=str(path)) from None
    if n_rows == 0:
        raise InputError("expected a table, got an empty file", file=str(path))
    return n_rows - 1


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    file = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(unreadable(error), file=file) from None
    return parse(decode(data, file=file), file=file)


@contextmanager
def document(path: Path, expected: str, advice: str) -> Iterator[Any]:
    """The content of a JSON file, for a `with` block that takes from it what it needs.

    Raises:
        InputError: the file cannot be read, or the block fails; says what was `expected`, and gives `advice`.
    """
    try:
        yield read_json(path)
    except InputError as error:
        raise InputError(f"{error.reason}; {advice}", file=error.file, line=error.line) from None
    except KeyError as error:
        raise InputError(f"expected {expected}, got no key {error}; {advice}", file=str(path)) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"expected {expected}, got {error}; {advice}", file=str(path)) from None


def write_json(path: Path, document: object) -> None:
    """Write a JSON document, indented for people."""
    with atomic_write(path) as handle:
        json.dump(document, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
