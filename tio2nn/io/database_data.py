"""The column `data` of a database of ASE, and the units that SchNetPack notes for it.

`data` is JSON; from version 9 on, arrays stand before it as bytes. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.text import quoted
from tio2nn.io.named_labels import TYPES_OF_NUMBERS, array_in_json

_BINARY = 9  # the first version with bytes
_DAMAGED = (ValueError, TypeError, AttributeError, RecursionError, OverflowError)
_ANGSTROM = ("ang", "angstrom", "a", "å")
_UNITS_OF_SCHNETPACK, _LENGTH_OF_SCHNETPACK = "_property_unit_dict", "_distance_unit"


def data_of_row(value: object, version: int) -> dict[str, object] | None:
    """Numbers and arrays of a row, by name, without those that are damaged; None if all of it is.

    Args:
        value: of the column.
        version: of the database.
    """
    if not isinstance(value, bytes) or not value:
        return {}
    binary = b""
    try:
        if version >= _BINARY:
            start = int(np.frombuffer(value, "<i8", 1)[0])
            if not 8 <= start <= len(value):
                return None
            binary, value = value[:start], value[start:]
        described = json.loads(value)
    except _DAMAGED:
        return None
    if not isinstance(described, dict):
        return {} if described is None else None
    found = {}
    for key, item in described.items():
        try:
            found[key] = _array_in_bytes(item, binary) if binary else array_in_json(item)
        except _DAMAGED:
            continue
    return found


def _array_in_bytes(described: object, data: bytes) -> object:
    """An array by `{"__ndarray__": [shape, type, place]}`; any other value as it is."""
    if not isinstance(described, Mapping) or "__ndarray__" not in described:
        return described
    shape, kind, place = described["__ndarray__"]
    if kind not in TYPES_OF_NUMBERS or min(shape, default=0) < 0:
        raise ValueError("expected an array of numbers")
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<"), math.prod(shape), place).reshape(shape)


class OtherUnitsError(InputError):
    """A database states other units than eV and Å."""


class StatedUnits:
    """The units that SchNetPack notes in a database.

    Args:
        metadata: of the database, JSON; None without any.
        file: for messages.

    Raises:
        OtherUnitsError: lengths are not in Å.
    """

    def __init__(self, metadata: object, file: str) -> None:
        try:
            found = json.loads(metadata) if isinstance(metadata, bytes) else {}
        except (ValueError, RecursionError):
            found = {}
        self._file = file
        table = found if isinstance(found, dict) else {}
        units = table.get(_UNITS_OF_SCHNETPACK)
        self._units = units if isinstance(units, dict) else {}
        length = table.get(_LENGTH_OF_SCHNETPACK)
        if length is not None and str(length).lower() not in _ANGSTROM:
            raise OtherUnitsError(
                f"expected a database in Å, got lengths in {quoted(str(length))}: convert it", file=file
            )

    def check(self, name: str, power: int) -> None:
        """Refuse another unit than eV/Å to a power.

        Args:
            name: of a label.
            power: of 1/Å: 0 for energies and virials, 1 for forces, 3 for stresses.

        Raises:
            OtherUnitsError: the database notes another one.
        """
        unit = str(self._units.get(name, ""))
        parts = unit.lower().replace("**", "^").replace("^3", "/ang/ang").split("/")
        if unit and not (
            parts[0] == "ev" and len(parts) == 1 + power and all(part in _ANGSTROM for part in parts[1:])
        ):
            wanted = {0: "eV", 1: "eV/Å", 3: "eV/Å³"}[power]
            raise OtherUnitsError(
                f"expected {name} in {wanted}, got {quoted(unit)}, as the database says: convert it",
                file=self._file,
            )
