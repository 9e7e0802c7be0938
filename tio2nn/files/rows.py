"""Matrices in files, of which only the rows that are asked for are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import IntArray
from tio2nn.errors import InputError, naming


class Rows(Protocol):
    """A matrix, in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_rows, n_columns)"""

    def __len__(self) -> int:
        """n_rows"""

    def __getitem__(self, rows: Any, /) -> Any:
        """As of an array: some rows; or some columns of all rows, or the rows of a mask, which may stay in the file."""


@dataclass(frozen=True)
class FileRows:
    """A matrix in a file, row after row.

    Attributes:
        path: of the file.
        begin: place of its first value, counted in values.
        shape: (n_rows, n_columns), of what is chosen.
        dtype: of the values, such as "<f4".
        chosen_rows, chosen_columns: those of the matrix in the file; None for all.
        width: columns of the matrix in the file.
    """

    path: Path
    begin: int
    shape: tuple[int, int]
    dtype: str
    width: int
    chosen_rows: IntArray | None = None
    chosen_columns: IntArray | None = None

    @classmethod
    def of(cls, path: Path, begin: int, shape: tuple[int, int], dtype: str) -> FileRows:
        """A whole matrix."""
        return cls(path, begin, shape, dtype, shape[1])

    @property
    def end(self) -> int:
        """The place after its last value."""
        return self.begin + self.shape[0] * self.width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        """Consecutive rows, or rows by their numbers, as an array; a mask, or columns after a colon, as `FileRows`.

        Raises:
            OSError: the file cannot be read.
            InputError: it ends too early.
        """
        if isinstance(rows, tuple):
            columns = np.arange(self.width) if self.chosen_columns is None else self.chosen_columns
            columns = columns[rows[1]]
            return replace(self, shape=(len(self), len(columns)), chosen_columns=columns)
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            if self.chosen_rows is None:
                return self._columns_of(self._read(first, last))
            rows = self.chosen_rows[first:last]
            if not len(rows):
                return self._columns_of(self._read(0, 0))
            return self._columns_of(self._read(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]])
        rows = np.asarray(rows)
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
            chosen = rows if self.chosen_rows is None else self.chosen_rows[rows]
            return replace(self, shape=(len(chosen), self.shape[1]), chosen_rows=chosen)
        if self.chosen_rows is not None:
            rows = self.chosen_rows[rows]
        found = np.empty((len(rows), self.width), self.dtype)
        for place, row in enumerate(rows.tolist()):
            found[place] = self._read(row, row + 1)
        return self._columns_of(found)

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        """Write consecutive rows of a whole matrix, from the first one on that is named."""
        with naming(self.path), self.path.open("r+b") as handle:
            handle.seek(np.dtype(self.dtype).itemsize * (self.begin + rows.start * self.width))
            handle.write(np.ascontiguousarray(values, self.dtype).data)

    def _columns_of(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows if self.chosen_columns is None else rows[:, self.chosen_columns]

    def _read(self, first: int, last: int) -> NDArray[Any]:
        """Consecutive rows of the matrix in the file."""
        size, n = np.dtype(self.dtype).itemsize, max(0, last - first) * self.width
        place = self.begin + first * self.width
        found = np.fromfile(self.path, self.dtype, n, offset=size * place)
        if len(found) < n:
            raise InputError(
                f"expected {size * n} bytes from byte {size * place} on, got {size * len(found)}",
                file=str(self.path),
            )
        return found.reshape(-1, self.width)


@contextmanager
def scratch_beside(file: Path | None) -> Iterator[Path | None]:
    """A file for what is needed in a `with` block, beside another one; None for None.

    A process that is killed leaves it under a name that `remove_unfinished` knows.

    Raises:
        OSError: the folder is not writable.
    """
    if file is None:
        yield None
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=f".{file.name}.", suffix=".part", dir=file.parent) as made:
        yield Path(made.name)
