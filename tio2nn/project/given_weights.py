"""Weights that a user gives in the column `weight` of `energies.csv`."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError, unreadable
from tio2nn.files.strict_json import quote
from tio2nn.files.text import parse_number, quoted
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import CONFIG_WEIGHT
from tio2nn.wording import counted

WEIGHT = "weight"
"""The column of `energies.csv` that is the user's: no command changes a number in it."""

_NAME = "structure"
_SEPARATORS = ",;\t"  # spreadsheets write the second where the decimal point is a comma
_ALMOST = re.compile("(config)?w(ei|ie)g(ht|th)s?")  # not "height" or "eight"


class _Row(NamedTuple):
    line: int
    name: str
    weight: str  # with a decimal point; "" for none
    of_file: str  # the same, of the column that repeats the weight of the structure file


class _Columns(NamedTuple):
    separator: str
    n_cells: int
    name: int
    weight: int | None
    of_file: int | None


def given_weights(file: Path) -> dict[str, float]:
    """The weights that a user gives, by name of structure; none for structures whose cell is empty.

    Args:
        file: `energies.csv`, which need not exist.

    Raises:
        InputError: the file cannot be read, names a structure twice, or has a weight that is not a finite number of at
            least 0, or a column with almost this name.
    """
    return {row.name: _parsed(row, file) for row in _rows(file) if row.weight}


def with_given_weights(store: StructureStore, file: Path) -> StructureStore:
    """The structures with the weights of the files replaced by those that a user gives.

    Raises:
        InputError: as `given_weights`, or, with a column of weights, the file does not name exactly these structures.
    """
    rows = list(_rows(file))
    if not rows:
        return store
    of_files = dict(zip(store.names, store.label_notes.weights or [1.0] * len(store), strict=True))
    given = {row.name: _parsed(row, file) for row in rows if row.weight}
    for row in rows:
        if row.name in of_files:
            _check_repeated(row, of_files[row.name], file)
        elif row.weight:
            reason = f"expected a structure of the project, got {quote(row.name)}"
            raise InputError(reason, file=str(file), line=row.line)
    if given:
        _check_all_are_named(of_files, rows, file)
    weights = of_files | given
    return store if weights == of_files else store.with_weights([weights[name] for name in store.names])


def _check_repeated(row: _Row, weight: float, file: Path) -> None:
    found = parse_number(row.of_file) if row.of_file else weight
    # spreadsheets round
    if found is None or not math.isclose(found, weight, rel_tol=1e-6):
        reason = (
            f"expected {weight!r} for {CONFIG_WEIGHT}, which repeats the structure file, got {quoted(row.of_file)}; "
            f"give another weight in a column {WEIGHT}"
        )
        raise InputError(reason, file=str(file), line=row.line)


def _check_all_are_named(known: Mapping[str, float], rows: Sequence[_Row], file: Path) -> None:
    named = {row.name for row in rows}
    missing = [name for name in known if name not in named]
    if missing:
        more = f" and {counted(len(missing) - 1, 'other')}" if len(missing) > 1 else ""
        reason = (
            f"expected a row for each structure, got none for {quote(missing[0])}{more}; a weight of 0 leaves a "
            "structure out of the loss"
        )
        raise InputError(reason, file=str(file))


def _rows(file: Path) -> Iterator[_Row]:
    """The rows of a table with a column of weights; none of another table."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            yield from _rows_of(handle, file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(unreadable(error), file=str(file)) from None
    except UnicodeDecodeError:
        raise InputError(
            "expected UTF-8 text, got another encoding; correct or delete it", file=str(file)
        ) from None
    except csv.Error as error:
        raise InputError(
            f"expected a CSV table, got: {error}; correct or delete it", file=str(file)
        ) from None


def _rows_of(lines: Iterator[str], file: Path) -> Iterator[_Row]:
    columns = _columns(next(lines, ""), file)
    if columns is None:
        return
    table = csv.reader(lines, delimiter=columns.separator)
    seen = set()
    for cells in table:
        line = table.line_num + 1  # of the file, whose header is not in the table
        if not any(cell.strip() for cell in cells):
            continue
        row = _row(cells, columns, file, line)
        if row.name in seen:
            reason = f"expected each structure once, got {quote(row.name)} twice"
            raise InputError(reason, file=str(file), line=line)
        seen.add(row.name)
        yield row


def _columns(first: str, file: Path) -> _Columns | None:
    """What the first line of the table says; None without a column of weights."""
    separator = max(_SEPARATORS, key=first.count)
    header = [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])]
    _check_header(header, file)
    if WEIGHT not in header and CONFIG_WEIGHT not in header:
        return None
    weight, of_file = (header.index(own) if own in header else None for own in (WEIGHT, CONFIG_WEIGHT))
    return _Columns(separator, len(header), header.index(_NAME), weight, of_file)


def _row(cells: Sequence[str], columns: _Columns, file: Path, line: int) -> _Row:
    if len(cells) != columns.n_cells:
        reason = f"expected {counted(columns.n_cells, 'column')}, got {len(cells)}"
        raise InputError(reason, file=str(file), line=line)

    def number(column: int | None) -> str:
        text = "" if column is None else cells[column].strip()
        # a spreadsheet that separates by semicolons has decimal commas
        return text if columns.separator == "," else text.replace(",", ".")

    return _Row(line, cells[columns.name].strip(), number(columns.weight), number(columns.of_file))


def _check_header(header: Sequence[str], file: Path) -> None:
    for name in header:
        if _ALMOST.fullmatch(re.sub("[^a-z]", "", name.lower())) and name not in (WEIGHT, CONFIG_WEIGHT):
            raise InputError(f"expected the column {WEIGHT}, got {quoted(name)}", file=str(file), line=1)
    for name in (WEIGHT, CONFIG_WEIGHT):
        if header.count(name) > 1:
            raise InputError(f"expected one column {name}, got {header.count(name)}", file=str(file), line=1)
    if _NAME not in header and (WEIGHT in header or CONFIG_WEIGHT in header):
        reason = f"expected the column {_NAME}, got none"
        raise InputError(reason, file=str(file), line=1)


def _parsed(row: _Row, file: Path) -> float:
    weight = parse_number(row.weight)
    if weight is None or weight < 0.0:
        reason = f"expected a finite number of at least 0 for {WEIGHT}, got {quoted(row.weight)}"
        raise InputError(reason, file=str(file), line=row.line)
    return weight
