"""Derivatives, and features, that exceed the memory, read from their file window by window.

An epoch goes through windows of consecutive batches. The structures of a window come from blocks of neighbors in the
file, so they are read in large pieces; the blocks of all windows are drawn anew in each epoch, and the structures of a
window are shuffled. While the batches of a window are computed, a thread reads the next one into a second buffer.
It goes past the file cache of the system, which would keep nothing from epoch to epoch of a file that exceeds it:
pieces of 2 MB of 3.5 GB in random order come at 1.0 GB/s and take 0.3 s of CPU time this way, through the cache at
0.4 GB/s and 1.7 s. The share of the file that the cache can keep is read through it.

Mean absolute errors on the validation set, TiO2 in 30 epochs of the recipe `forces` with two seeds, and Si by the
recipe `auto` with one, whose structures are alike in size:

==================================  ==================  =================
..                                  energies, meV/atom  forces, meV/Å
==================================  ==================  =================
TiO2, in memory                     1.27, 1.26          67.5, 68.0
TiO2, windows of a sixteenth        1.25, 1.25          68.0, 68.4
... with blocks of equal bytes      1.36, 1.37          68.3, 67.9
... and windows of a quarter        1.26 (one seed)     68.1
Si, in memory                       1.68                60.9
Si, windows of a quarter            1.63                59.5
Si, windows of a sixteenth          1.70                60.2
==================================  ==================  =================

The order of an epoch follows from the sizes of the structures, the seed and the capacity of a window, not from what
was read when.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.errors import InputError, naming
from tio2nn.training.atom_table import AtomTable

_BYTES = 4
_BLOCK = 2_000_000  # values, 8 MB: a disk with a head loses a sixth of its time on finding the next one
_BLOCKS_OF_WINDOW = 128  # at least, so that a window mixes what is far apart
_PAGE = (
    1024  # values, 4 kB: reading past the cache begins and ends at multiples of it, in the file and in memory
)
_PIECE = 16 << 20  # bytes read at a time; between them a reader can be stopped


class Window(NamedTuple):
    """How much of the derivatives, and of the features, is held in memory.

    Attributes:
        capacity: values of a window, of which there are two.
        kept: values that stay in the file cache.
        n_features: symmetry functions.
        has_features: whether it holds features, too, which are otherwise all in memory.
    """

    capacity: int
    kept: int
    n_features: int
    has_features: bool = False

    @classmethod
    def read(cls, numbers: Sequence[int]) -> Window:
        """From a file, in which all fields are numbers."""
        capacity, kept, n_features, has_features = numbers
        return cls(capacity, kept, n_features, bool(has_features))

    @classmethod
    def of(
        cls,
        n_values: int,
        memory_bytes: float,
        n_features: int,
        processes: int = 1,
        *,
        has_features: bool = False,
    ) -> Window | None:
        """Windows for `n_values` in all; None if those are derivatives that fit into memory.

        A quarter of the memory for each of the two windows, and half of it for what is kept.

        Args:
            n_values: that a fit reads.
            memory_bytes: for them, in all processes.
            n_features: symmetry functions.
            processes: that read at the same time.
            has_features: whether features are among them.
        """
        values = memory_bytes / _BYTES
        if n_values <= values and not has_features:
            return None
        return cls(int(values / (4 * processes)), int(values / 2), n_features, has_features)


class Plan(NamedTuple):
    """An order of structures, cut into windows.

    Attributes:
        order: (n_structures,)
        first_batches: (n_windows + 1,) where each window begins, and the number of batches.
    """

    order: IntArray
    first_batches: IntArray


def mixed(sizes: IntArray, batch_size: int, capacity: int, random: np.random.Generator) -> Plan:
    """An order that mixes well, and reads whole blocks.

    Args:
        sizes: (n_structures,) values of each structure, in the order of the file; 0 for those without.
        batch_size: structures of a batch.
        capacity: values of a window.
        random: draws.
    """
    labeled = np.flatnonzero(sizes)
    keys = random.random(len(sizes))  # structures without derivatives are spread over all windows
    if len(labeled):
        # bytes and structures count alike: blocks of bytes alone would hold dozens of small structures, all akin
        total = int(sizes.sum())
        shares = sizes[labeled] / total + 1 / len(labeled)
        block = min(2 * capacity / total / _BLOCKS_OF_WINDOW, _BLOCK / total)
        blocks = ((np.cumsum(shares) - shares) / block + random.random()).astype(np.int64)
        drawn = random.permutation(int(blocks[-1]) + 1)[blocks]
        keys[labeled[np.argsort(drawn, kind="stable")]] = (np.arange(len(labeled)) + 0.5) / len(labeled)
    order = np.argsort(keys, kind="stable")
    first_batches = in_turn(sizes[order], batch_size, capacity)
    for begin, end in zip(first_batches[:-1] * batch_size, first_batches[1:] * batch_size, strict=True):
        order[begin:end] = random.permutation(order[begin:end])
    return Plan(order, first_batches)


def in_turn(sizes: IntArray, batch_size: int, capacity: int) -> IntArray:
    """Windows of about equal size for batches in a given order, as in `Plan.first_batches`.

    Args:
        sizes: (n_structures,) values of each structure, in that order.
        batch_size, capacity: as for `mixed`; a single batch may exceed the capacity.
    """
    of_batch = np.add.reduceat(sizes, np.arange(0, len(sizes), batch_size))
    total = int(of_batch.sum())
    n_windows = max(1, -(-total // max(capacity - int(of_batch.max()), capacity // 2, 1)))
    # a batch belongs to the window in which its middle lies
    middles = np.cumsum(of_batch) - of_batch / 2
    window = np.minimum((middles * n_windows / max(1, total)).astype(np.int64), n_windows - 1)
    edges = np.flatnonzero(np.diff(window)) + 1
    return np.concatenate([[0], edges, [len(of_batch)]]).astype(np.int64)


class _Runs(NamedTuple):
    """What a window reads: (n_runs,) the place of each run in the file and its length, as numbers of values."""

    places: IntArray
    lengths: IntArray

    @property
    def n_values(self) -> int:
        return int(self.lengths.sum())


class WindowReader:
    """Reads windows into two buffers, on a thread of its own; close it at the end.

    Args:
        file: of the derivatives.
        kept: values at its beginning that are left to the file cache.
    """

    def __init__(self, file: Path, kept: int) -> None:
        self._path, self._kept = file, _BYTES * kept
        with naming(file):
            self._file: FileIO = file.open("rb", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
        self._past_cache = _opened_past_cache(file)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tio2nn-windows")
        self._stop = threading.Event()
        self._buffers = [_aligned(0), _aligned(0)]
        self._windows: Windows | None = None
        self._present = -1  # the window that is being computed, in the first buffer
        self._next: Future[None] | None = None  # reads the window after that into the second one
        self._error: BaseException | None = None

    def read(self, windows: Windows, number: int) -> Float32Array:
        """The values of a window; the next one is read meanwhile.

        Args:
            windows: whose windows are asked for in their order, again from the first one at any time.
            number: of the window.

        Raises:
            InputError: the file ends too early.
            OSError: it cannot be read.
        """
        if self._windows is not windows or number not in (self._present, self._present + 1):
            self._forget()
            self._windows, self._present = windows, number - 1
            self._begin(number)
        if number != self._present:
            try:
                assert self._next is not None, "each window has begun with the one before"
                self._next.result()
            except BaseException as error:
                self._error, self._windows = error, None
                raise
            self._present = number
            self._buffers.reverse()
            self._begin(number + 1)
        values = self._buffers[0][: windows.runs[number].n_values]
        values.flags.writeable = False  # as a mapped file, for which the kernel is compiled
        return values

    @contextmanager
    def errors_in_the_open(self) -> Iterator[None]:
        """What keeps it from reading in this block is raised as it is, and not as a graph wraps it."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise

    def close(self) -> None:
        """Stop reading."""
        self._forget()
        self._thread.shutdown()
        self._file.close()
        if self._past_cache is not None:
            self._past_cache.close()

    def _forget(self) -> None:
        self._stop.set()
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        self._stop.clear()
        self._windows, self._next = None, None

    def _begin(self, number: int) -> None:
        self._next = None
        if self._windows is None or number >= len(self._windows.runs):
            return
        runs = self._windows.runs[number]
        if len(self._buffers[1]) < runs.n_values:
            self._buffers[1] = _aligned(0)  # give it back before the larger one is made
            self._buffers[1] = _aligned(runs.n_values)
        self._next = self._thread.submit(self._fill, self._buffers[1], runs)

    def _fill(self, buffer: Float32Array, runs: _Runs) -> None:
        view, first = buffer.data.cast("B"), 0
        for place, length in zip(
            (_BYTES * runs.places).tolist(), (_BYTES * runs.lengths).tolist(), strict=True
        ):
            for begin in range(0, length, _PIECE):
                if self._stop.is_set():
                    return
                n = min(_PIECE, length - begin)
                self._fill_piece(view[first : first + n], place + begin)
                first += n

    def _fill_piece(self, view: memoryview, place: int) -> None:
        expected = min(len(view), self._size - place)  # the file may end within the last page
        file = self._file
        if place >= self._kept and self._past_cache is not None:
            file = self._past_cache
        with naming(self._path):
            file.seek(place)
            done = 0
            while done < expected:
                n = file.readinto(view[done:])
                if not n:
                    raise InputError(
                        f"expected {expected} bytes from byte {place} on, got {done}", file=str(self._path)
                    )
                done += n
            if place >= self._kept and self._past_cache is None and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), place, len(view), os.POSIX_FADV_DONTNEED)


def _opened_past_cache(file: Path) -> FileIO | None:
    """The file, to be read past the cache; None where system or file system cannot do that."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        opened: FileIO = os.fdopen(os.open(file, os.O_RDONLY | os.O_DIRECT), "rb", buffering=0)
    except OSError:
        return None
    try:
        opened.readinto(_aligned(_PAGE).data.cast("B"))
    except OSError:
        opened.close()
        return None
    return opened


def _aligned(n_values: int) -> Float32Array:
    """An array that begins at a multiple of a page."""
    space = np.empty(n_values + _PAGE, np.float32)
    begin = (-space.ctypes.data // _BYTES) % _PAGE
    return space[begin : begin + n_values]


class Windows:
    """The derivatives of structures in an order, window by window.

    Args:
        reader: shared by several.
        offsets: (n_structures,) place of each structure in the file, as a number of values; negative without.
        sizes: (n_structures,) values of each; 0 without.
        batch_size: structures of a batch.
        first_batches: as in `Plan`.

    Attributes:
        runs: what each window reads.
    """

    def __init__(
        self,
        reader: WindowReader,
        offsets: IntArray,
        sizes: IntArray,
        batch_size: int,
        first_batches: IntArray,
    ) -> None:
        self._reader, self._batch_size, self._first_batches = reader, batch_size, first_batches
        self._offsets = np.full(len(offsets), -1)  # in the window of each structure
        self.runs: Sequence[_Runs] = [
            self._laid_out(offsets, sizes, int(begin), int(end))
            for begin, end in zip(
                first_batches[:-1] * batch_size, first_batches[1:] * batch_size, strict=True
            )
        ]

    def _laid_out(self, offsets: IntArray, sizes: IntArray, begin: int, end: int) -> _Runs:
        """Give the structures of a window their places, in the order of the file."""
        own = begin + np.flatnonzero(offsets[begin:end] >= 0)
        own = own[np.argsort(offsets[own], kind="stable")]
        begins, ends = offsets[own], offsets[own] + sizes[own]
        is_first = np.ones(len(own), np.bool_)
        is_first[1:] = begins[1:] != ends[:-1]
        first = np.flatnonzero(is_first)
        places = begins[first] // _PAGE * _PAGE
        lengths = -(-ends[np.append(first[1:], len(own))[: len(first)] - 1] // _PAGE) * _PAGE - places
        run = np.cumsum(is_first) - 1
        self._offsets[own] = (np.cumsum(lengths) - lengths - places)[run] + begins
        return _Runs(places, lengths)

    def of_batch(self, batch: int) -> tuple[Float32Array, IntArray]:
        """Values of the window of a batch, and (n_structures of the batch,) where each of its structures begins."""
        window = int(np.searchsorted(self._first_batches, batch, side="right")) - 1
        own = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
        return self._reader.read(self, window), self._offsets[own]


class FeatureWindows:
    """The features of structures in the order of batches, window by window.

    Args:
        reader: of their file.
        table: of the structures, in a file.
        order: (n_structures,) of them.
        size: structures of a batch.
        first_batches: as in `Plan`.
    """

    def __init__(
        self, reader: WindowReader, table: AtomTable, order: IntArray, size: int, first_batches: IntArray
    ) -> None:
        self._n_features = table.features[0].shape[1]
        # a structure has as many places in the file as there are subnets
        self._counts, (_, n) = table.counts[order], table.counts.shape
        sizes = self._n_features * self._counts
        begins = np.where(sizes, table.begins()[order], -1)
        self._size = size
        self._windows = Windows(reader, begins.ravel(), sizes.ravel(), n * size, first_batches)

    def of_batch(self, batch: int) -> list[Float32Array]:
        """Of each subnet, (n_atoms of it, n_features) of a batch."""
        values, offsets = self._windows.of_batch(batch)
        counts = self._counts[batch * self._size : (batch + 1) * self._size]
        n, found = self._n_features, []
        # a row may begin at any value of a window
        rows = sliding_window_view(values, n) if len(values) >= n else np.empty((0, n), np.float32)
        for own, begins in zip(counts.T, offsets.reshape(counts.shape).T, strict=True):
            before = np.cumsum(own) - own
            found.append(rows[np.repeat(begins - n * before, own) + n * np.arange(own.sum())])
        return found
