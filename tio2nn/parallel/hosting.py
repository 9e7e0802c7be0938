"""The side of a Dask worker: each call runs in a process of its own, as on one's own machine.

A call that takes its process down with it then costs this process alone, and its death is told as there. Threads of one
Dask worker do not share what TensorFlow keeps for a whole process. A call whose result is no longer wanted is ended at
once, and so is one that needs more than the memory of the worker, which Dask itself measures in its own process only.

NumPy and everything heavier is imported by these processes only.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_path
from tio2nn.parallel.brought_files import is_that, stamp_of, stand_in
from tio2nn.parallel.hosts import other_software, software
from tio2nn.parallel.parcels import Answer, Parcel, perform, sealed
from tio2nn.parallel.remote_errors import AbandonedError, MissingFilesError
from tio2nn.parallel.workers import WorkerDied, WorkerProcesses
from tio2nn.wording import size

_POLL_SECONDS = 0.25  # until a call whose result is no longer wanted is ended
_IDLE_SECONDS = 60.0  # a process whose command is gone ends after this time


def hosted(parcel: Parcel) -> Answer:
    """Carry out a call in a process of its own; the function that Dask runs.

    Raises:
        WorkerDied: the process ended without an answer.
        MissingFilesError: files have not been brought to this machine.
        InputError: another version of tio2nn, or a folder that this worker does not see.
        AbandonedError: the call was canceled.
        Exception: that of the call.
    """
    from distributed import get_worker

    worker = get_worker()
    key = str(worker.get_current_task())
    if parcel.software != software():
        raise InputError(other_software(worker.address, software(), parcel.software))
    folder = _folder(parcel, worker)
    before = {name: stamp_of(folder / name) for name in parcel.names}

    def send(message: object) -> None:
        if parcel.topic is not None:
            worker.log_event(parcel.topic, [key, sealed(message)])

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state not in ("cancelled", "released", "forgotten")

    with _processes.one_of(parcel.pool, parcel.calls_per_process) as process:
        future = process.submit_listening(send, perform, parcel.call, folder)
        result = _awaited(future, process, is_wanted, worker.memory_manager.memory_limit)
    if parcel.folder is not None:
        return Answer(result, {}, tuple(name for name in parcel.names if (folder / name).exists()))
    changed = [
        name
        for name in parcel.names
        if name not in parcel.expected and stamp_of(folder / name) not in (None, before[name])
    ]
    files = {name: (folder / name).read_bytes() for name in changed}
    for name in changed:
        (folder / name).unlink()
    return Answer(result, files, ())


def _folder(parcel: Parcel, worker: Any) -> Path:
    """The folder of the files of a call."""
    if parcel.folder is not None:
        if not Path(parcel.folder).is_dir():
            raise InputError(
                f"expected the folder on all workers, as on those before, but {worker.address} does not see it",
                file=parcel.folder,
            )
        return Path(parcel.folder)
    folder = stand_in(worker, parcel.command)
    for name, content in parcel.brought.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    for name in parcel.names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, stamp in parcel.expected.items():
        if not is_that(folder / name, stamp):
            raise MissingFilesError(worker.address)
    return folder


def _awaited(
    future: Future[Any], process: WorkerProcesses, is_wanted: Callable[[], bool], limit: int | None
) -> Any:
    """The result of a call, unless it is no longer wanted or memory is short."""
    while True:
        try:
            return future.result(timeout=_POLL_SECONDS)
        except NotYet:
            if future.done():
                return future.result()  # the call itself ran into a timeout
        if not is_wanted():
            process.kill()
            raise AbandonedError
        if limit and (used := _processes.memory_if_largest(process)) > _share_of(limit):
            process.kill()
            raise WorkerDied(
                f"the worker process was killed for {size(used)} of memory, more than its Dask worker may have, "
                f"{size(limit)}"
            )


def _share_of(limit: int) -> float:
    """Bytes at which Dask kills a worker."""
    import dask

    fraction = dask.config.get("distributed.worker.memory.terminate", 0.95)
    return float(limit * fraction) if fraction else float("inf")


class _Processes:
    """The processes of this Dask worker: at most one for each of its threads, kept for the next call of their pool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, float, WorkerProcesses]] = []
        self._at_work: set[WorkerProcesses] = set()
        self._is_watched = False

    @contextmanager
    def one_of(self, pool: str, calls_per_process: int) -> Iterator[WorkerProcesses]:
        """A process for one call."""
        with self._lock:
            mine = [entry for entry in self._waiting if entry[0] == pool]
            if mine:
                self._waiting.remove(mine[-1])
                process = mine[-1][2]
            else:
                # Dask's workers are daemons, to which Python allows no processes; ours end with their parent
                multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
                process = WorkerProcesses(1, calls_per_process)
            self._at_work.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._at_work.remove(process)
                if not process.is_killed:
                    self._waiting.append((pool, time.monotonic(), process))
                if not self._is_watched:
                    self._is_watched = True
                    threading.Thread(target=self._end_idle, name="tio2nn-idle", daemon=True).start()

    def end(self, pool: str) -> None:
        """End the waiting processes of a pool."""
        self._end(lambda entry: entry[0] == pool)

    def _end_idle(self) -> None:
        """End processes that are no longer wanted, until there is none."""
        while True:
            time.sleep(_IDLE_SECONDS / 4)
            self._end(lambda entry: time.monotonic() - entry[1] >= _IDLE_SECONDS)
            with self._lock:
                if not self._waiting:
                    self._is_watched = False
                    return

    def _end(self, condition: Callable[[tuple[str, float, WorkerProcesses]], bool]) -> None:
        with self._lock:
            ended = [entry for entry in self._waiting if condition(entry)]
            self._waiting = [entry for entry in self._waiting if entry not in ended]
        for _, _, process in ended:
            process.shutdown()

    def memory_if_largest(self, process: WorkerProcesses) -> float:
        """Bytes of this Dask worker and all its processes, or 0 if another process is larger."""
        with self._lock:
            all_of_them = [*self._at_work, *(entry[2] for entry in self._waiting)]
        used = {id(other): sum(map(_memory_of, other.process_ids)) for other in all_of_them}
        if used.get(id(process), 0.0) < max(used.values(), default=0.0):
            return 0.0
        return sum(used.values()) + _memory_of(os.getpid())


_processes = _Processes()


def _memory_of(process_id: int) -> float:
    """Bytes that a process has for itself, without the files that it maps."""
    import psutil

    with suppress(psutil.Error):
        info = psutil.Process(process_id).memory_info()
        return float(info.rss - getattr(info, "shared", 0))
    return 0.0


def end_pool(pool: str) -> None:
    """End the processes of a pool that is done; runs in the worker."""
    threading.Thread(target=_processes.end, args=(pool,), daemon=True).start()
