"""Cores: how many this process may use, and work for several of them in one process.

Threads help where compiled loops and libraries let go of Python's lock. What a task computes depends on the task alone,
so results have the same bits whatever the number of threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

from tio2nn.errors import UsageError

THREADS_VARIABLE = "TIO2NN_THREADS"

COMPILED_BLAS = "scipy.linalg.cython_blas"
"""The module with the library whose products compiled loops call."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The given number of threads, else that in TIO2NN_THREADS, else one for each core.

    Raises:
        UsageError: a number below 1, or none.
    """
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads: expected a positive number, got {threads}")
        return threads
    text = environ.get(THREADS_VARIABLE, "")
    if not text:
        return available_cores()
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(f"{THREADS_VARIABLE}: expected a positive integer, got {text!r}")
    return int(text)


def threaded(function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> Iterator[_Result]:
    """The results for all items, in order, by so many threads; as with `map`, the first error ends it."""
    if threads == 1 or len(items) < 2:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="tio2nn")
    try:
        yield from executor.map(function, items)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def one_blas_thread() -> AbstractContextManager[Any]:
    """Matrix products in this block use the thread that asks for them, and no others.

    A library of its own threads would fight for the cores with ours, and split sums by their number.
    """
    return _blas(COMPILED_BLAS in sys.modules).limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@lru_cache(maxsize=2)
def _blas(with_compiled: bool) -> Any:  # noqa: ARG001  # it sees the libraries that are loaded by now
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
