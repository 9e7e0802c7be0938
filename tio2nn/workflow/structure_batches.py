"""Many structures in one pass: batches in threads, in order, where a bad structure does not affect others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tio2nn.cores import one_blas_thread
from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK
from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure

Batch = list[Structure | InputError]
_Result = TypeVar("_Result")
Compute = Callable[[Sequence[Structure], int], Sequence[_Result]]
"""The results for some structures, by so many threads; an InputError if one of them cannot be used."""

# Structures per batch: enough for the kernels to be efficient, and few enough that the first line appears soon
_TOGETHER = 64
AHEAD = 2
"""Batches per thread or worker that are read, or computed, before the first of them is asked for."""


def batches_of(items: Iterable[Structure | InputError]) -> Iterator[Batch]:
    """Consecutive items; a structure that keeps several threads busy is alone."""
    batch: Batch = []
    for item in items:
        if batch and _is_large(item):
            yield batch
            batch = []
        batch.append(item)
        if _is_large(item) or len(batch) == _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def structures_in(batch: Iterable[Structure | InputError]) -> list[Structure]:
    """The structures of a batch."""
    return [item for item in batch if isinstance(item, Structure)]


def _is_large(item: Structure | InputError) -> bool:
    return isinstance(item, Structure) and item.n_atoms > CENTERS_PER_BLOCK


def one_by_one(
    compute: Compute[_Result], structures: Sequence[Structure], threads: int
) -> list[_Result | InputError]:
    """The results for some structures; the error in place of one that cannot be used."""
    if not structures:
        return []
    try:
        return list(compute(structures, threads))
    except InputError as error:
        if len(structures) == 1:
            return [error]
        return [result for structure in structures for result in one_by_one(compute, [structure], threads)]


def in_threads(
    batches: Iterable[Batch], compute: Compute[_Result], threads: int
) -> Iterator[tuple[Batch, list[_Result | InputError]]]:
    """Batches and the results for their structures, in order.

    Each thread computes a batch of small structures while this one reads and writes others. With forces, 300 files of
    21 atoms on average take this thread 0.13 of 0.88 s of CPU time; 0.25 of 0.94 s where all threads share each batch.
    Processes would take 1.9 s each to start, as much as 650 such files: 1,200 files 7.4 s by two, 3.7 s by two threads.
    """
    if threads == 1:
        yield from ((batch, one_by_one(compute, structures_in(batch), 1)) for batch in batches)
        return
    running: deque[tuple[Batch, Future[list[_Result | InputError]]]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="tio2nn")
    try:
        # here and not in each thread, where the first to end would undo it for the others
        with one_blas_thread():
            for batch in batches:
                structures = structures_in(batch)
                if _is_large(batch[0]):
                    yield from ((earlier, future.result()) for earlier, future in running)
                    running.clear()
                    yield batch, one_by_one(compute, structures, threads)
                    continue
                running.append((batch, executor.submit(one_by_one, compute, structures, 1)))
                if len(running) > AHEAD * threads:
                    earlier, future = running.popleft()
                    yield earlier, future.result()
            yield from ((batch, future.result()) for batch, future in running)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
