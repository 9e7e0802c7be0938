"""Work on the shards of a project, in this process or in a pool; a structure that kills its worker is found and named.

The time is estimated from a sample of the structures, which also decides whether a pool pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, TypeVar

from tio2nn.array_types import IntArray
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parallel.progress import Track
from tio2nn.parallel.remote import capacity_of, is_remote
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Died = tuple[_Item, BaseException]


# A process takes about 1.5 s to import NumPy, SciPy and Numba; for less work than this, one process is faster.
_POOL_PAYS_SECONDS = 3.0
_AHEAD = 2  # items queued per worker, which bounds the structures in memory
_MOST_NAMED = 10  # each costs a pass over its shard and a new process
# A machine short of memory kills a process, or refuses an allocation.
_DEATHS = (BrokenExecutor, MemoryError)


@dataclass(frozen=True)
class ShardWork(Generic[_Item, _Result]):
    """What is done to the shards of a project. `run` and `compute` go to workers: module-level functions, or partials.

    Attributes:
        title: of the progress bar.
        run: the work on one shard.
        task: gives the arguments of `run` for a shard, called only when its turn comes.
        structures: gives the structures of a shard.
        n_atoms: gives their number of atoms.
        compute: the same work on any structures, one result after the other, without keeping them.
        on_done: called with each shard and its result, in any order.
    """

    title: str
    run: Callable[..., _Result]
    task: Callable[[_Item], tuple[object, ...]]
    structures: Callable[[_Item], Sequence[Structure]]
    n_atoms: Callable[[_Item], int]
    compute: Callable[[Sequence[Structure]], Iterable[object]]
    on_done: Callable[[_Item, _Result], None]


@dataclass(frozen=True)
class Workers:
    """How work is distributed.

    Attributes:
        jobs: largest number of worker processes.
        are_fixed: use a pool even if it does not pay.
        make_executor: makes a pool of that many workers.
        track: reports progress in atoms.
    """

    jobs: int
    are_fixed: bool
    make_executor: Callable[[int], Executor]
    track: Track


def carry_out(
    work: ShardWork[_Item, _Result],
    shards: Sequence[_Item],
    seconds: float,
    workers: Workers,
    announce: Callable[[int, float], None],
) -> None:
    """Do the work on all shards, in this process if a pool does not pay.

    Args:
        work: what is done.
        shards: at least one.
        seconds: time that one process needs for all.
        workers: who does it.
        announce: called with the number of processes and the wall time, s, before the work begins.

    Raises:
        InputError, Exception: as `work_through`.
    """
    jobs, title = 1, work.title
    if is_remote(workers.make_executor):
        jobs = workers.jobs
        title += f" on {counted(jobs, 'thread')} of workers"
    elif workers.are_fixed or seconds >= _POOL_PAYS_SECONDS:
        jobs = min(workers.jobs, len(shards))
    announce(jobs, seconds / jobs)
    with workers.track(title, sum(map(work.n_atoms, shards))) as advance:

        def on_done(shard: _Item, result: _Result) -> None:
            work.on_done(shard, result)
            advance(work.n_atoms(shard))

        work_through(replace(work, on_done=on_done), shards, jobs, workers.make_executor)


@lru_cache(maxsize=1)
def calculator_of(parameters: ParameterSet) -> SymmetryCalculator:
    """The calculator for these parameters, created once per process."""
    return SymmetryCalculator(parameters)


def measured_seconds(
    store: StructureStore,
    structures: Sequence[int],
    compute: Callable[[Sequence[Structure]], Iterable[object]],
    costs: IntArray,
    sample_atoms: int,
) -> float:
    """Time that one process needs for some structures, s, measured on an evenly spaced sample.

    Args:
        store: holds the structures.
        structures: their indices, at least one.
        compute: the work; yields one result after the other.
        costs: (n_structures of the store,) numbers proportional to the time of each structure.
        sample_atoms: approximate size of the sample, in atoms.

    Raises:
        Exception: from `compute`, for a structure of the sample.
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


def work_through(
    work: ShardWork[_Item, _Result],
    shards: Sequence[_Item],
    jobs: int,
    make_executor: Callable[[int], Executor],
) -> None:
    """Process each shard, here or in a pool, and report each one that is done.

    A shard whose worker died is examined after all others are done and their memory is free: its structures run one
    by one in a new process, and the structure that also kills this process is named. If none does, the whole shard is
    tried once more.

    Args:
        work: what is done.
        shards: what it is done to.
        jobs: number of worker processes; with one, work runs in this process, unless the pool is elsewhere.
        make_executor: creates the pool.

    Raises:
        InputError: workers died (a machine short of memory kills them); everything else is done.
        Exception: the first error of a worker; shards not yet started are skipped.
    """
    died: list[Died[_Item]] = []
    if jobs == 1 and not is_remote(make_executor):
        for shard in shards:
            try:
                result = work.run(*work.task(shard))
            except MemoryError as error:
                died.append((shard, error))
            else:
                work.on_done(shard, result)
    else:
        with make_executor(jobs) as executor:
            died = _pooled(work, shards, executor, jobs)
    if not died:
        return
    died.sort(key=lambda pair: shards.index(pair[0]))  # the same message, whichever died first
    deadly: list[tuple[Structure, BaseException]] = []
    undone: list[Died[_Item]] = []
    with make_executor(1) as executor:
        for shard, first in died:
            if len(deadly) == _MOST_NAMED:
                undone.append((shard, first))
            elif (found := _first_death(executor, work.compute, work.structures(shard))) is not None:
                deadly.append(found)
            else:
                undone.extend(_pooled(work, [shard], executor, jobs))
    if deadly or undone:
        raise _report(deadly, [(work.structures(shard), error) for shard, error in undone])


def _pooled(
    work: ShardWork[_Item, _Result], shards: Iterable[_Item], executor: Executor, jobs: int
) -> list[Died[_Item]]:
    """Process the shards, some at a time; return those whose workers died."""
    running: dict[Future[_Result], _Item] = {}
    died: list[Died[_Item]] = []

    def collect() -> None:
        """Wait for at least one result; errors of workers are raised here."""
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            shard = running.pop(future)
            try:
                result = future.result()
            except _DEATHS as error:
                died.append((shard, error))
            else:
                work.on_done(shard, result)

    for shard in shards:
        while len(running) >= _AHEAD * capacity_of(executor, jobs):
            collect()
        running[executor.submit(work.run, *work.task(shard))] = shard
    while running:
        collect()
    return died


def _first_death(
    executor: Executor,
    compute: Callable[[Sequence[Structure]], Iterable[object]],
    structures: Iterable[Structure],
) -> tuple[Structure, BaseException] | None:
    """The first structure that kills its worker; they run one by one, so that each has all the memory."""
    for structure in structures:
        try:
            executor.submit(_computed, structure, compute).result()
        except _DEATHS as error:
            return structure, error
    return None


def _computed(structure: Structure, compute: Callable[[Sequence[Structure]], Iterable[object]]) -> None:
    """Compute a structure and discard the result, to see whether the process survives."""
    for _ in compute([structure]):
        pass


def _report(
    deadly: Sequence[tuple[Structure, BaseException]],
    undone: Sequence[tuple[Sequence[Structure], BaseException]],
) -> InputError:
    kept = "all other shards are computed and kept; run the same command again"
    if deadly:
        structure, error = deadly[0]
        names = [other.name for other, _ in deadly[1:]]
        others = f"; the same holds for {', '.join(names)}" if names else ""
        not_examined = counted(len(undone), "more shard was", "more shards were")
        others += f"; {not_examined} not examined" if undone else ""
        return InputError(
            f"cannot compute {structure.name} ({counted(structure.n_atoms, 'atom')}): {_reason(error)}, even with no "
            f"other structure{others}; {kept} with more memory or without this structure",
            file=structure.file,
        )
    structures, error = undone[0]
    more = counted(len(undone) - 1, "more shard")
    others = f"; the same holds for {more}" if len(undone) > 1 else ""
    return InputError(
        f"cannot compute {structures[0].name} to {structures[-1].name}: {_reason(error)}, twice, though each of them "
        f"can be computed alone{others}; {kept} with more memory"
    )


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, BrokenExecutor) else "out of memory"
