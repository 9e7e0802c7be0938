"""Trajectories of ASE (`.traj`), frame by frame: ULM, JSON with arrays beside it.

Forces of the calculator are those without constraints. Labels may also stand in `info`; other arrays of atoms, such as
`REF_forces`, ASE does not write. Trajectories of ASE before 3.9 are pickles, which run code when they are read: they
are refused, and so are arrays of objects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, BinaryIO, Literal

import numpy as np

from tio2nn.errors import InputError
from tio2nn.io.electronic_states import stated
from tio2nn.io.labels import ReadOptions
from tio2nn.io.named_labels import TYPES_OF_NUMBERS, Geometry, array_in_json, named_labels
from tio2nn.io.stream import structure_of
from tio2nn.structures.structure import CONFIG_TYPE, CONFIG_WEIGHT, Structure

_MAGIC = (b"- of Ulm", b"AFFormat")
_TAG = b"ASE-Trajectory"
_PICKLE = b"PickleTrajectory"
_LARGEST_JSON = 2**26  # bytes
_TYPES = (*TYPES_OF_NUMBERS, "bool")
_DAMAGED = (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError, AttributeError)


def iter_trajectory(stream: BinaryIO, *, file: str, options: ReadOptions) -> Iterator[Structure | InputError]:
    """The frames of a file; an unusable frame yields an error. Frames beyond the end of the file are one error.

    Args:
        stream: the content; it is read at several places.
        file: for messages and `Structure.file`.
        options: which names hold the labels.

    Raises:
        InputError: it is no such file.
        OSError, EOFError: the content cannot be read.
    """
    ulm = _Ulm(stream, file)
    header: Mapping[str, Any] | None = None
    for k in range(len(ulm)):
        try:
            if not ulm.has(k):
                yield InputError(
                    f"expected {len(ulm)} frames, got {k} and the end of the file: truncated?", file=file
                )
                return
            item = ulm.item(k)
            if "numbers" in item:
                # the first frame has them for all that follow, unless they have their own
                header = item if header is None else header
            of_elements = item if "numbers" in item else header or item
            yield _structure(item, of_elements, file, options)
        except InputError as error:
            yield error
        except _DAMAGED as error:
            reason = f"expected a frame, got a damaged one ({type(error).__name__})"
            yield InputError(reason, file=file)
    if not len(ulm):
        yield InputError("expected frames, got none", file=file)


def _structure(
    item: Mapping[str, Any], header: Mapping[str, Any], file: str, options: ReadOptions
) -> Structure:
    results, info = item.get("calculator", {}), item.get("info", {})
    x, y, z = (bool(axis) for axis in header["pbc"])
    labels = named_labels(
        results,
        {name: array_in_json(value) for name, value in info.items()},
        Geometry(len(header["numbers"]), item["cell"], (x, y, z)),
        options,
        lambda reason: InputError(reason, file=file),
    )
    return structure_of(
        [int(number) for number in header["numbers"]],
        item["positions"],
        item["cell"],
        (x, y, z),
        labels=labels._replace(
            config_type=str(info.get(CONFIG_TYPE) or ""),
            weight=info.get(CONFIG_WEIGHT),
            states=stated(info, results.get("parameters"), initial_charges=item.get("charges")),
        ),
        file=file,
    )


class _Ulm:
    """The items of a file."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._stream, self._file = stream, file
        start = stream.read(24)
        if start.startswith(_PICKLE):
            raise self._error(
                "expected a trajectory of ASE 3.9 or later, got a pickled one, which could run code: "
                'convert it with "python -m ase.io.trajectory FILE" if you trust it'
            )
        if start[:8] not in _MAGIC or start[8:].strip() != _TAG:
            raise self._error("expected a trajectory of ASE, got something else")
        self._size = stream.seek(0, 2)
        _, n_items, place = self._integers(24, 3)
        if not 0 <= n_items <= self._size // 8:
            raise self._error(f"expected at most {self._size // 8} frames, got {n_items}: truncated?")
        self._offsets = self._integers(place, n_items)
        # many frames at one place would take the time of a much longer file
        if any(one >= next_one for one, next_one in pairwise(self._offsets)):
            raise self._error("expected one frame after the other, got other places: damaged?")

    def __len__(self) -> int:
        return len(self._offsets)

    def has(self, k: int) -> bool:
        """Whether an item ends within the file; those after one that does not do not either."""
        if k + 1 < len(self) and self._offsets[k + 1] < self._size:
            return True
        place = self._offsets[k]
        return place + 8 <= self._size and place + 8 + self._integers(place, 1)[0] <= self._size

    def _error(self, reason: str) -> InputError:
        return InputError(reason, file=self._file)

    def _bytes(self, place: int, n: int) -> bytes:
        if not (place >= 0 and n >= 0 and place + n <= self._size):
            raise self._error("expected a longer file, got one that ends early: truncated?")
        self._stream.seek(place)
        data = self._stream.read(n)
        if len(data) != n:
            raise self._error("expected a longer file, got one that ends early: truncated?")
        return data

    def _integers(self, place: int, n: int) -> list[int]:
        return [int(number) for number in np.frombuffer(self._bytes(place, 8 * n), "<i8")]

    def item(self, k: int) -> dict[str, Any]:
        """The content of an item: arrays, numbers, and dictionaries of those."""
        place = self._offsets[k]
        (size,) = self._integers(place, 1)
        if size > _LARGEST_JSON:
            raise self._error(f"expected at most {_LARGEST_JSON} bytes beside the arrays, got {size}")
        content = json.loads(self._bytes(place + 8, size))
        order: Literal["<", ">"] = "<" if content.get("_little_endian", True) else ">"
        return self._with_arrays(content, order)

    def _with_arrays(self, content: dict[str, Any], order: Literal["<", ">"]) -> dict[str, Any]:
        found = {}
        for name, value in content.items():
            if not name.endswith("."):
                found[name] = value
            elif "ndarray" in value:
                found[name[:-1]] = self._array(value["ndarray"], order)
            else:
                found[name[:-1]] = self._with_arrays(value, order)
        return found

    def _array(self, described: list[Any], order: Literal["<", ">"]) -> np.ndarray:
        shape, kind, place = described
        if kind not in _TYPES:
            raise self._error(f"expected arrays of numbers, got {str(kind)[:40]!r}")
        dtype = np.dtype(kind).newbyteorder(order)
        n = math.prod(shape)
        return np.asarray(np.frombuffer(self._bytes(place, n * dtype.itemsize), dtype).reshape(shape))
