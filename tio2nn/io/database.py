"""Databases of ASE in SQLite (`.db`), row by row, opened for reading only; and new ones.

Forces are those of the row, not those that constraints leave. Labels may also stand in key-value pairs and data, where
SchNetPack has them. A database is a program's input: what could compute something when it is read (views, virtual
tables, functions) is refused by the authorizer of SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from tio2nn.errors import InputError, one_line
from tio2nn.io.agreement import agree
from tio2nn.io.database_data import OtherUnitsError, StatedUnits, data_of_row
from tio2nn.io.electronic_states import stated
from tio2nn.io.labels import ReadOptions, is_reference_label
from tio2nn.io.named_labels import Geometry, named_labels
from tio2nn.io.stream import structure_of
from tio2nn.structures.structure import CONFIG_TYPE, CONFIG_WEIGHT, Structure

_COLUMNS = (
    "id",
    "numbers",
    "positions",
    "cell",
    "pbc",
    "energy",
    "free_energy",
    "forces",
    "stress",
    "key_value_pairs",
    "calculator_parameters",
    "initial_charges",
    "data",
)
_VERSIONS = range(5, 10)
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
# of a kind that ASE would not take as it is
_QUOTED_TYPE, _QUOTE = "tio2nn_config_type", "kind "
_ODD = ("True", "False", "nan", "inf", "NaN", "Infinity", "infinity", "Inf")
_JOURNALS = ("-journal", "-wal")


def iter_database(path: Path, *, file: str, options: ReadOptions) -> Iterator[Structure | InputError]:
    """The rows of a database; an unusable row yields an error.

    Args:
        path: of the database.
        file: for messages and `Structure.file`.
        options: which names hold the labels.

    Raises:
        InputError: it is no such database, or states other units.
    """
    for suffix in _JOURNALS:
        journal = path.with_name(path.name + suffix)
        if journal.exists() and journal.stat().st_size:
            raise InputError(
                f"expected a database that no program is writing, got one with {journal.name}", file=file
            )
    # immutable: no locks, no journal, nothing beside the file is touched
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.text_factory = bytes
            connection.set_authorizer(_authorize)
            rules = _Rules(file, options, _check(connection, file), _units(connection, file))
            rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM systems ORDER BY id")
            n_rows = 0
            for row in rows:
                n_rows += 1
                try:
                    yield _structure(row, rules)
                except OtherUnitsError:
                    raise  # of all rows
                except InputError as error:
                    yield error
                except (ValueError, TypeError, OverflowError):
                    yield InputError(f"expected a structure, got damaged data in row {n_rows}", file=file)
            if n_rows == 0:
                yield InputError("expected rows, got none", file=file)
    except sqlite3.Error as error:
        yield InputError(f"expected a database of ASE, got {one_line(error)}", file=file)


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


class _Rules(NamedTuple):
    """What all rows of a database share."""

    file: str
    options: ReadOptions
    version: int
    units: StatedUnits


def _units(connection: sqlite3.Connection, file: str) -> StatedUnits:
    found = connection.execute("SELECT value FROM information WHERE name = 'metadata'").fetchall()
    return StatedUnits(found[0][0] if found else None, file)


def _check(connection: sqlite3.Connection, file: str) -> int:
    """The version of a database of ASE.

    Raises:
        InputError: it is none.
    """
    query = "SELECT type, sql FROM sqlite_master WHERE name = 'systems'"
    found = connection.execute(query).fetchall()
    if [kind for kind, _ in found] != [b"table"] or b"VIRTUAL" in bytes(found[0][1] or b"").upper()[:200]:
        raise InputError("expected a table named systems, got none", file=file)
    query = "SELECT value FROM information WHERE name = 'version'"
    found = connection.execute(query).fetchall()
    version = found[0][0] if found else b"none"
    shown = version.decode("ascii", "replace")[:20] if isinstance(version, bytes) else str(version)
    if shown not in map(str, _VERSIONS):
        wanted = f"{_VERSIONS.start} to {_VERSIONS.stop - 1}"
        raise InputError(f"expected a database of version {wanted}, got {shown!r}", file=file)
    return int(shown)


def _structure(row: tuple[object, ...], rules: _Rules) -> Structure:
    (
        number,
        numbers,
        positions,
        cell,
        pbc,
        energy,
        free_energy,
        forces,
        stress,
        words,
        settings,
        charges,
        data,
    ) = row
    line = number if isinstance(number, int) else None
    elements = _array(numbers, "<i4").tolist()
    vectors = np.zeros((3, 3)) if cell is None else _array(cell, "<f8").reshape(3, 3)
    flags = int(pbc) if isinstance(pbc, int) else 0
    x, y, z = (bool(flags >> axis & 1) for axis in range(3))
    results = {
        "energy": _number(energy),
        "free_energy": _number(free_energy),
        "forces": None if forces is None else _array(forces, "<f8").reshape(-1, 3),
        "stress": None if stress is None else _array(stress, "<f8"),
    }
    pairs, others = _pairs(words), data_of_row(data, rules.version)

    def failed(reason: str) -> InputError:
        return InputError(reason, file=rules.file, line=line)

    labels = named_labels(
        results,
        _together(pairs, others or {}, failed),
        Geometry(len(elements), vectors, (x, y, z)),
        rules.options,
        failed,
        rules.units.check,
    )
    labels = labels._replace(
        remarks=(*labels.remarks, "data of the row ignored: damaged") if others is None else labels.remarks,
        config_type=_kind(pairs),
        weight=pairs.get(CONFIG_WEIGHT),
        states=stated(pairs, _pairs(settings), initial_charges=_charges(charges)),
    )
    return structure_of(
        elements,
        _array(positions, "<f8").reshape(-1, 3),
        vectors,
        (x, y, z),
        labels=labels,
        file=rules.file,
        line=line,
    )


def _together(
    pairs: Mapping[str, Any], data: Mapping[str, Any], failed: Callable[[str], InputError]
) -> dict[str, Any]:
    """Key-value pairs and data of a row.

    Raises:
        InputError: a label has one value in each.
    """
    for name in pairs.keys() & data.keys():
        values = pairs[name], data[name]
        if not is_reference_label(name) or any(isinstance(value, str) for value in values):
            continue
        if not agree(*values):
            raise failed(f"expected one value of {name}, got others in key-value pairs and data")
    return {**data, **pairs}


def _array(value: object, kind: str) -> np.ndarray:
    if not isinstance(value, bytes):
        raise TypeError("expected bytes")
    return np.frombuffer(value, kind)


def _charges(value: object) -> np.ndarray | None:
    """Initial charges of a row; None if there are none, or they are damaged, as no number depends on them."""
    try:
        return _array(value, "<f8")
    except (TypeError, ValueError):
        return None


def _pairs(value: object) -> Mapping[str, object]:
    """Key-value pairs or parameters of a row; none if they are damaged, as no number depends on them."""
    try:
        found = json.loads(value) if isinstance(value, bytes) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _kind(pairs: Mapping[str, object]) -> str:
    quoted_kind = pairs.get(_QUOTED_TYPE)
    if isinstance(quoted_kind, str):
        return quoted_kind.removeprefix(_QUOTE)
    return str(pairs.get(CONFIG_TYPE) or "")


def _words(structure: Structure) -> dict[str, str | float]:
    """Kind and weight as key-value pairs; ASE refuses text that looks like a number or is empty."""
    words: dict[str, str | float] = {}
    if (
        structure.config_type.replace("-", "").replace("_", "").isalpha()
        and structure.config_type not in _ODD
    ):
        words[CONFIG_TYPE] = structure.config_type
    elif structure.config_type:
        words[_QUOTED_TYPE] = _QUOTE + structure.config_type
    if structure.weight != 1.0:
        words[CONFIG_WEIGHT] = structure.weight
    return words


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        raise TypeError("expected a number")
    return float(value)


def write_database(path: Path, rows: Iterable[tuple[Structure, Mapping[str, str]]]) -> None:
    """Write a new database.

    Args:
        path: of a file that does not exist.
        rows: structures, and notes on them: words to select rows by are key-value pairs, the rest is data, since ASE
            refuses text that looks like a number.

    Raises:
        OSError: it cannot be written.
    """
    from ase.db import connect

    with connect(path, type="db", append=False, use_lock_file=False) as database:
        for structure, notes in rows:
            words = {key: text for key, text in notes.items() if text.isalpha()}
            # a name of our own: ASE has `name` and others for itself
            pairs = {f"tio2nn_{key}": word for key, word in words.items()}
            database.write(
                structure.to_ase(), key_value_pairs={**pairs, **_words(structure)}, data=dict(notes)
            )
