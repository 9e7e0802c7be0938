"""Worker processes that certain structures kill, as a machine does that runs out of memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar
from unittest import mock

from tio2nn.descriptors.neighbors import NeighborSearch
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parallel.workers import WorkerProcesses
from tio2nn.structures.structure import Structure

ResultT = TypeVar("ResultT")


class DeadlyWorkers(WorkerProcesses):
    """Processes that end when they look for the neighbors of certain structures.

    Args:
        workers: number of processes.
        names: of those structures.
        together: so many of them in one batch are deadly.
    """

    def __init__(self, workers: int, names: Collection[str], together: int = 1) -> None:
        super().__init__(workers, 100)
        self._names, self._together = frozenset(names), together

    def submit(self, fn: Callable[..., ResultT], /, *args: Any, **kwargs: Any) -> Future[ResultT]:
        return super().submit(_killed_by, self._names, self._together, fn, *args, **kwargs)


def _killed_by(
    names: frozenset[str], together: int, fn: Callable[..., ResultT], *args: Any, **kwargs: Any
) -> ResultT:
    search = SymmetryCalculator._search

    def deadly(
        calculator: SymmetryCalculator, structures: Sequence[Structure], threads: int = 1
    ) -> NeighborSearch:
        if sum(structure.name in names for structure in structures) >= together:
            os.kill(os.getpid(), signal.SIGKILL)
        return search(calculator, structures, threads)

    with mock.patch.object(SymmetryCalculator, "_search", deadly):
        return fn(*args, **kwargs)
