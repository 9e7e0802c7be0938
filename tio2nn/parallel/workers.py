"""Worker processes for tasks that may take their process down with them.

Here a death costs one task, a worker is replaced after some tasks (with what its libraries never free), nothing
outlives the parent, and an error or Ctrl-C ends all at once. None of these pools does all of that:

==================================  ======  ========  ===========  ==========
..                                  here    stdlib    loky 3.7     Pebble 5.2
==================================  ======  ========  ===========  ==========
first answer of a worker            63 ms   60 ms     76 ms        197 ms
memory of an idle worker            11 MB   10 MB     13 MB        15 MB
10 tasks, the fourth dies: lost     1       8         8            1
killed while idle: next tasks lost  1       all       all          all
replaced after some tasks           yes     3.11      no           yes
left by an error, tasks of 5 s      0.07 s  9.5 s     9.5 s        0.2 s
after the parent was killed         0.05 s  > 4 s     > 30 s       17 s
Ctrl-C while workers start          works   breaks    breaks       breaks
==================================  ======  ========  ===========  ==========

Times after the parent was killed are those until its workers, in a task of 20 s, are gone. Pebble's pool is no
`Executor`, and that of the standard library replaces workers from Python 3.11 on.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, TypeVar

from tio2nn.cores import THREADS_VARIABLE, available_cores

ResultT = TypeVar("ResultT")


_NO_END = 10**9  # tasks; the memory of a process that computes symmetry functions does not grow
# each fit leaves some 20 MB behind in its process; a new process costs 5 s, as much as a trial
_TRIALS_PER_WORKER = 12


def worker_count(jobs: int | None) -> int:
    """The number of worker processes that a caller asks for; with None, one per core.

    Raises:
        TypeError: no whole number.
        ValueError: a number below 1.
    """
    if jobs is None:
        return available_cores()
    if isinstance(jobs, bool) or not hasattr(jobs, "__index__"):
        raise TypeError(f"jobs: expected a whole number or None, got {jobs!r}")
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1, got {jobs}")
    return jobs


def kernel_workers(workers: int) -> WorkerProcesses:
    """Processes for symmetry functions and their derivatives."""
    return WorkerProcesses(workers, _NO_END)


def trial_workers(workers: int) -> WorkerProcesses:
    """Processes for the trials of a search, each replaced after some trials."""
    return WorkerProcesses(workers, _TRIALS_PER_WORKER)


def member_workers(workers: int) -> WorkerProcesses:
    """Processes for committee members, a new one for each: a process keeps the data of its fit until it ends."""
    return WorkerProcesses(workers, 1)


class WorkerDied(BrokenExecutor):
    """The process that ran a task ended without a result."""


@dataclass(frozen=True)
class _Task:
    future: Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    on_message: Callable[[Any], None] | None = None


_parent: Connection[Any, Any] | None = None


def tell(message: object) -> None:
    """Send a message to the caller of `submit_listening`; without one it is dropped."""
    if _parent is not None:
        _parent.send(_Message(message))


class _Message(NamedTuple):
    """A message that a task sends before its result."""

    content: Any


class ListeningExecutor(Executor):
    """An executor whose tasks may send messages by `tell` before they end."""

    def submit_listening(
        self, on_message: Callable[[Any], None], fn: Callable[..., ResultT], /, *args: Any
    ) -> Future[ResultT]:
        """Like `submit`, and receive the messages of the task, on another thread."""
        raise NotImplementedError


def submit_listening(
    executor: Executor, on_message: Callable[[Any], None], fn: Callable[..., ResultT], /, *args: Any
) -> Future[ResultT]:
    """Submit a task and receive its messages, on another thread; other executors than ours pass none on."""
    if isinstance(executor, ListeningExecutor):
        return executor.submit_listening(on_message, fn, *args)
    return executor.submit(fn, *args)


class WorkerProcesses(ListeningExecutor):
    """Processes that start empty and each run one task at a time.

    Args:
        workers: largest number of processes; each starts with its first task.
        tasks_per_worker: tasks after which a process is replaced by a new one.

    Output to stderr is dropped: native libraries print notices there; errors come back as exceptions.

    Attributes:
        is_killed: whether `kill` was called.
    """

    def __init__(self, workers: int, tasks_per_worker: int) -> None:
        self._tasks_per_worker = tasks_per_worker
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closed = False
        self.is_killed = False
        self._slots = [_Slot() for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"worker-{k}", daemon=True)
            for k, slot in enumerate(self._slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., ResultT], /, *args: Any, **kwargs: Any) -> Future[ResultT]:
        """Run `fn`, a function that a new process can import, as soon as a worker is free.

        The future raises the error of the task, or `WorkerDied`.
        """
        return self._put(_Task(Future(), fn, args, kwargs))

    def submit_listening(
        self, on_message: Callable[[Any], None], fn: Callable[..., ResultT], /, *args: Any
    ) -> Future[ResultT]:
        """As `submit`; `on_message` runs on the thread of the worker."""
        return self._put(_Task(Future(), fn, args, {}, on_message))

    def _put(self, task: _Task) -> Future[Any]:
        if self._closed:
            raise RuntimeError("cannot submit a task: the executor is shut down")
        self._queue.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after all tasks; with `cancel_futures`, after the running ones."""
        self._closed = True
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the submitted tasks; after an error or Ctrl-C, end at once."""
        if error_type is not None:
            self.kill()
        self.shutdown(wait=True)

    def kill(self) -> None:
        """End all processes at once; their tasks raise `WorkerDied`."""
        self.is_killed = True
        self._cancel_waiting()
        for slot in self._slots:
            slot.kill()
        self.shutdown(wait=False)

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that have started."""
        return [found for slot in self._slots if (found := slot.process_id) is not None]

    def _cancel_waiting(self) -> None:
        while True:
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task.future.cancel()

    def _work(self, slot: _Slot) -> None:
        while (task := self._queue.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                result = slot.run(task)
            except BaseException as error:  # any error, as in the pools of the standard library
                task.future.set_exception(error)
            else:
                task.future.set_result(result)
            if slot.n_tasks >= self._tasks_per_worker:
                slot.stop()
        slot.stop()


class _Slot:
    """A slot for one process, empty at first and after each replacement."""

    def __init__(self) -> None:
        self.n_tasks = 0
        self._lock = threading.Lock()  # another thread may kill the process
        self._killed = False
        self._process: SpawnProcess | None = None
        self._connection: Connection[Any, Any] | None = None

    def run(self, task: _Task) -> Any:
        """The result of the task, or its error; `WorkerDied` if the process ends first."""
        self.n_tasks += 1
        connection = self._start()
        try:
            connection.send((task.function, task.args, task.kwargs))
            while isinstance(answer := connection.recv(), _Message):
                if task.on_message is not None:
                    task.on_message(answer.content)
        except (EOFError, OSError):
            raise WorkerDied(f"the worker process {self._ending()}") from None
        error, trace, result = answer
        if error is not None:
            raise error from RuntimeError(f"in a worker process:\n{trace}")
        return result

    def stop(self) -> None:
        """End an idle process."""
        with self._lock:
            process, connection = self._process, self._connection
            self._process, self._connection, self.n_tasks = None, None, 0
        if connection is not None:
            connection.close()
        if process is not None:
            process.join()
            process.close()

    @property
    def process_id(self) -> int | None:
        with self._lock:
            return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Kill the process, and never start another."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> Connection[Any, Any]:
        with self._lock:
            if self._killed:
                raise WorkerDied("the worker process was killed")
            if self._connection is None:
                context = multiprocessing.get_context("spawn")
                self._connection, theirs = context.Pipe()
                self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
                with _ctrl_c_held_back(), _script_set_aside():
                    self._process.start()
                theirs.close()
            return self._connection

    def _ending(self) -> str:
        process = self._process
        if process is None:
            return "is gone"
        process.join()
        code = process.exitcode or 0
        self.stop()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """A process started in this block never receives Ctrl-C, not even while Python itself starts."""
    if sys.platform == "win32":
        yield
        return
    # it starts with the first process of a pool, and would unblock Ctrl-C again
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_starting = threading.Lock()


@contextmanager
def _script_set_aside() -> Iterator[None]:
    """A process started in this block does not run the main script again, guarded or not.

    Python does so for functions defined in the script; our workers run functions of modules only.
    """
    with _starting:  # each slot has its own thread
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def _serve(connection: Connection[Any, Any]) -> None:
    """Run tasks until the parent closes the connection: the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the parent
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # the others of the pool have the other cores
    os.environ[THREADS_VARIABLE] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _parent
    _parent = connection
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        answer: tuple[Exception | None, str, Any]
        try:
            answer = (None, "", function(*args, **kwargs))
        except Exception as error:
            answer = (error, traceback.format_exc(), None)
        connection.send(answer)


def _end_with_parent() -> None:
    """Exit with the parent: a killed parent sends nothing, and a running task would not listen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
