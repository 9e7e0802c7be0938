"""Work on the shards of a project, in this process or in a pool; what takes a worker down is found and named.

How long the work will take is measured on a sample of its structures, and says whether a pool pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import Structure

Item = TypeVar("Item")
Result = TypeVar("Result")
Died = tuple[Item, BaseException]

IntArray = NDArray[np.int64]

# A process needs about 1.5 s to import NumPy, SciPy and Numba; below this much work one process is faster.
_POOL_PAYS_SECONDS = 3.0
_AHEAD = 2  # items handed to the pool for each worker, so that structures in memory stay bounded
_MOST_NAMED = 10  # finding each costs a pass over its shard and a new process
# A machine short of memory kills a process, or denies it the memory.
_DEATHS = (BrokenExecutor, MemoryError)


@lru_cache(maxsize=1)
def calculator_of(parameters: ParameterSet) -> SymmetryCalculator:
    """The calculator of these parameters, made once in each process."""
    return SymmetryCalculator(parameters)


def measured_seconds(
    store: StructureStore,
    structures: Sequence[int],
    compute: Callable[[Sequence[Structure]], Iterable[object]],
    costs: IntArray,
    sample_atoms: int,
) -> float:
    """How long one process needs for some structures, measured on a few that are spread over them.

    Args:
        store: that they are in.
        structures: their indices, at least one.
        compute: what is done to them; gives the results one after the other.
        costs: (n_structures of the store,) what the time of each is proportional to.
        sample_atoms: about so many are measured.

    Raises:
        Exception: of `compute`, for one of those that are measured.
    """
    n_atoms = int(store.n_atoms[structures].sum())
    stride = max(1, round(n_atoms / sample_atoms))
    chosen = structures[stride // 2 :: stride] or structures[:1]
    sample = [store[k] for k in chosen]
    begin = time.perf_counter()
    for _ in compute(sample):
        pass
    seconds = time.perf_counter() - begin
    return seconds * float(costs[structures].sum()) / float(costs[chosen].sum())


def useful_jobs(jobs: int, n_items: int, seconds: float, *, are_fixed: bool) -> int:
    """How many processes to use: one where a pool does not pay, and no more than there are items.

    Args:
        jobs: largest number.
        n_items: pieces of work, at least one.
        seconds: that one process needs for all.
        are_fixed: use a pool even where it does not pay.
    """
    if not are_fixed and seconds < _POOL_PAYS_SECONDS:
        return 1
    return min(jobs, n_items)


def work_through(
    items: Sequence[Item],
    work: Callable[..., Result],
    task: Callable[[Item], tuple[object, ...]],
    on_done: Callable[[Item, Result], None],
    *,
    jobs: int,
    make_executor: Callable[[int], Executor],
    structures: Callable[[Item], Sequence[Structure]],
    work_alone: Callable[[Structure], object],
) -> None:
    """Do a piece of work for each item, here or in a pool, and hear of each one that is done.

    An item whose worker died is looked at when all others are done and their memory is free: its structures go
    to a new process one by one, and the one that ends that process, too, is named. Where none does, the item as a
    whole has a second chance.

    Args:
        items: the pieces.
        work: what a worker does; a module's function.
        task: the arguments of `work` for an item, made only when its turn comes.
        on_done: hears of each item and its result, in any order.
        jobs: worker processes; one works here.
        make_executor: makes the pool.
        structures: of an item.
        work_alone: what `work` does to a single structure, but keeps nothing of it; a module's function.

    Raises:
        InputError: workers died (a machine short of memory kills them); everything else was done before.
        Exception: the first of a worker; what was not begun is left undone.
    """
    died: list[Died[Item]] = []
    if jobs == 1:
        for item in items:
            try:
                result = work(*task(item))
            except MemoryError as error:
                died.append((item, error))
            else:
                on_done(item, result)
    else:
        with make_executor(jobs) as executor:
            died = _pooled(items, work, task, on_done, executor, _AHEAD * jobs)
    if not died:
        return
    died.sort(key=lambda pair: items.index(pair[0]))  # the same message, whichever was first
    deadly: list[tuple[Structure, BaseException]] = []
    undone: list[Died[Item]] = []
    with make_executor(1) as executor:
        for item, first in died:
            if len(deadly) == _MOST_NAMED:
                undone.append((item, first))
            elif (found := _first_death(executor, work_alone, structures(item))) is not None:
                deadly.append(found)
            else:
                undone.extend(_pooled([item], work, task, on_done, executor, 1))
    if deadly or undone:
        raise _report(deadly, [(structures(item), error) for item, error in undone])


def _pooled(
    items: Iterable[Item],
    work: Callable[..., Result],
    task: Callable[[Item], tuple[object, ...]],
    on_done: Callable[[Item, Result], None],
    executor: Executor,
    most: int,
) -> list[Died[Item]]:
    """Do what can be done, at most so many items at a time; return the items whose workers died."""
    running: dict[Future[Result], Item] = {}
    died: list[Died[Item]] = []

    def collect() -> None:
        """Wait for at least one; the error of a worker comes home here."""
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            item = running.pop(future)
            try:
                result = future.result()
            except _DEATHS as error:
                died.append((item, error))
            else:
                on_done(item, result)

    for item in items:
        if len(running) >= most:
            collect()
        running[executor.submit(work, *task(item))] = item
    while running:
        collect()
    return died


def _first_death(
    executor: Executor, work_alone: Callable[[Structure], object], structures: Iterable[Structure]
) -> tuple[Structure, BaseException] | None:
    """The first structure that a worker does not survive; one after the other, so that memory serves only one."""
    for structure in structures:
        try:
            executor.submit(work_alone, structure).result()
        except _DEATHS as error:
            return structure, error
    return None


def _report(
    deadly: Sequence[tuple[Structure, BaseException]],
    undone: Sequence[tuple[Sequence[Structure], BaseException]],
) -> InputError:
    kept = "what does not share a file with it is computed and kept, the same command goes on with the rest"
    if deadly:
        structure, error = deadly[0]
        names = [other.name for other, _ in deadly[1:]]
        others = f"; likewise {', '.join(names)}" if names else ""
        others += f"; {len(undone)} more parts were not looked at" if undone else ""
        return InputError(
            f"expected a worker process that computes {structure.name} ({structure.n_atoms} atoms), got none: "
            f"{_reason(error)}, also when it had no other structure{others}; {kept}, with more memory or "
            "without this structure",
            file=structure.file,
        )
    structures, error = undone[0]
    others = f", and {len(undone) - 1} more such parts" if len(undone) > 1 else ""
    return InputError(
        f"expected a worker process that computes {structures[0].name} to {structures[-1].name}, got none: "
        f"{_reason(error)}, twice, but not by any one of them alone{others}; {kept}"
    )


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, BrokenExecutor) else "it ran out of memory"
