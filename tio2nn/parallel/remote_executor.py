"""Tasks on the workers of a cluster, as an executor: submit, listen, and get results one at a time.

A result stays on its worker until somebody asks for it, so that no more than one is in the memory of this process,
however many workers there are.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_path
from tio2nn.parallel import brought_files
from tio2nn.parallel.connection import Connection
from tio2nn.parallel.hosting import end_pool, hosted
from tio2nn.parallel.hosts import software
from tio2nn.parallel.parcels import Answer, Parcel, opened, packed
from tio2nn.parallel.remote import ElasticExecutor
from tio2nn.parallel.remote_errors import (
    AbandonedError,
    MissingFilesError,
    as_here,
    no_workers,
)
from tio2nn.wording import counted

ResultT = TypeVar("ResultT")
Stamp = tuple[int, int]

_LARGEST_WITH_A_TASK = (
    2**20
)  # bytes of a file that travels with its task; larger ones go to each machine once
_PIECE = 16 * 2**20  # bytes of a file on its way
_WATCH_SECONDS = 1.0
_CHECKPOINT_SECONDS = 20.0  # work lost if a worker dies, at most
_APPEARS_SECONDS = 90.0  # a file that another machine wrote; NFS forgets that there was none after 60 s


@dataclass(frozen=True)
class Files:
    """Where the files of tasks are.

    Attributes:
        folder: that the paths in the arguments lie in.
        are_shared: whether all workers see it.
        with_tasks: whether small files travel with each task, as those that change from task to task must.
    """

    folder: Path
    are_shared: bool
    with_tasks: bool = True


class RemoteFuture(Future[Any]):
    """The future of a task; its result is fetched from the worker by the one who asks."""

    def __init__(self, executor: RemoteExecutor, parcel: Parcel, worker: str | None) -> None:
        super().__init__()
        self.parcel, self.worker = parcel, worker
        self.task: Any = None
        self._executor = executor

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task, then fetch its result and write its files."""
        super().result(timeout)
        return self._executor.fetch(self)

    def cancel(self) -> bool:
        """Cancel the task unless it is done; a running one is ended."""
        canceled = super().cancel()
        if canceled and self.task is not None:
            with suppress(Exception):
                self.task.cancel()
        return canceled


class RemoteExecutor(ElasticExecutor):
    """Tasks on a cluster.

    Args:
        cluster: that works.
        files: of the tasks; None if they have none.
        calls_per_process: tasks after which a process on a worker is replaced.

    Attributes:
        pool: a name that no other executor has.
    """

    def __init__(self, cluster: Connection, files: Files | None, calls_per_process: int) -> None:
        self._cluster, self._client = cluster, cluster.client
        self._folder = None if files is None else Path(os.path.abspath(files.folder))  # noqa: PTH100 -- keep links
        self._is_shared = files is not None and files.are_shared
        self._largest_with_a_task = _LARGEST_WITH_A_TASK if files is None or files.with_tasks else -1
        self._calls_per_process = calls_per_process
        self.pool = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._listeners: dict[str, Callable[[Any], None]] = {}
        self._pending: set[RemoteFuture] = set()
        self._arrived: dict[str, Stamp] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._pushing = threading.Lock()
        self._capacity = cluster.n_workers
        self._waiting: deque[tuple[RemoteFuture, Callable[[Any], None] | None]] = deque()
        if cluster.is_lost:
            raise cluster.lost()
        self._client.subscribe_topic(self.pool, self._heard)
        self._watcher = threading.Thread(target=self._watch, name="cluster", daemon=True)
        self._watcher.start()

    @property
    def capacity(self) -> int:
        """Tasks that can run at a time, as of a second ago."""
        return self._capacity

    # --- submitting ----------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., ResultT], /, *args: Any, **kwargs: Any) -> Future[ResultT]:
        """Run `fn`, a function that the workers can import.

        The future raises the error of the task; `WorkerDied` if its process or its worker died; `SchedulerLostError`.
        """
        return self._submit(fn, args, kwargs)

    def submit_listening(
        self, on_message: Callable[[Any], None], fn: Callable[..., ResultT], /, *args: Any
    ) -> Future[ResultT]:
        """As `submit`; `on_message` runs on the thread of the client, and checkpoints come back meanwhile."""
        return self._submit(fn, args, {}, on_message)

    def submit_to(self, worker: str, fn: Callable[..., ResultT], /, *args: Any) -> Future[ResultT]:
        """As `submit`, on this worker, unless it is gone."""
        return self._submit(fn, args, {}, worker=worker)

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_message: Callable[[Any], None] | None = None,
        worker: str | None = None,
    ) -> RemoteFuture:
        if self._closed.is_set():
            raise RuntimeError("cannot submit a task: the executor is shut down")
        call, names = packed(self._folder, fn, args, kwargs)
        brought: dict[str, bytes] = {}
        expected: dict[str, Stamp] = {}
        if self._folder is not None and not self._is_shared:
            for name in names:
                if (self._folder / name).is_file():
                    found = (self._folder / name).stat()
                    if found.st_size > self._largest_with_a_task:
                        expected[name] = (found.st_size, found.st_mtime_ns // 10**9)
                    else:
                        brought[name] = (self._folder / name).read_bytes()
        parcel = Parcel(
            call=call,
            names=names,
            folder=str(self._folder or Path.cwd().root) if self._is_shared or self._folder is None else None,
            command=self._cluster.command,
            pool=self.pool,
            calls_per_process=self._calls_per_process,
            topic=None if on_message is None else self.pool,
            brought=brought,
            expected=expected,
            software=software(),
        )
        future = RemoteFuture(self, parcel, worker)
        with self._lock:
            self._pending.add(future)
            self._waiting.append((future, on_message))
        self._send_more()
        return future

    def _send_more(self) -> None:
        """Send what waits, as far as the limit of tasks at a time allows."""
        limit = self._cluster.limit
        while True:
            with self._lock:
                n_sent = len(self._pending) - len(self._waiting)
                if not self._waiting or (limit is not None and n_sent >= limit):
                    return
                future, on_message = self._waiting.popleft()
            self._send(future, on_message)

    def _send(self, future: RemoteFuture, on_message: Callable[[Any], None] | None) -> None:
        if future.cancelled():
            self._end(future, None)
            return
        key = f"tio2nn-{self.pool}-{next(self._numbers)}"
        if on_message is not None:
            self._listeners[key] = on_message
        workers: dict[str, Any] = (
            {} if future.worker is None else {"workers": [future.worker], "allow_other_workers": True}
        )
        try:
            future.task = self._client.submit(
                hosted, future.parcel, key=key, pure=False, retries=0, **workers
            )
        except Exception as error:
            self._end(future, self._cluster.lost() if self._cluster.is_lost else error)
            return
        future.task.add_done_callback(lambda task: self._settle(future, task))

    def _settle(self, future: RemoteFuture, task: Any) -> None:
        """The task has ended: let those know who wait for it."""
        error: BaseException | None = None
        if task.status == "error":
            error = task.exception()
            if isinstance(error, MissingFilesError):
                try:
                    self._bring(future.parcel.expected, error.worker)
                except Exception as failed:
                    error = self._cluster.lost() if self._cluster.is_lost else failed
                else:
                    self._send(future, self._listeners.pop(task.key, None))
                    return
        elif task.status != "finished":
            error = self._cluster.lost() if self._cluster.is_lost else AbandonedError()
        self._listeners.pop(task.key, None)
        self._end(future, None if error is None else as_here(error))
        self._send_more()

    def _end(self, future: RemoteFuture, error: BaseException | None) -> None:
        with self._lock:
            if future not in self._pending:
                return
            self._pending.remove(future)
        if future.cancelled():
            return
        with suppress(Exception):  # canceled meanwhile
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _heard(self, event: tuple[float, Any]) -> None:
        key, content = event[1]
        if (listener := self._listeners.get(key)) is not None:
            listener(opened(content))

    # --- results -------------------------------------------------------------------------------------------

    def fetch(self, future: RemoteFuture) -> Any:
        """The result of a task that is done; its files are then in their places."""
        try:
            answer: Answer = future.task.result()
        except Exception as error:
            raise (self._cluster.lost() if self._cluster.is_lost else as_here(error)) from None
        if self._folder is not None:
            for name, content in answer.files.items():
                with atomic_path(self._folder / name) as temporary:
                    temporary.write_bytes(content)
            for name in answer.seen:
                _await_file(self._folder / name)
        return answer.result

    # --- files ---------------------------------------------------------------------------------------------

    def _bring(self, files: dict[str, Stamp], worker: str) -> None:
        """Bring files to a worker's machine, piece by piece, unless they are there."""
        assert self._folder is not None
        with self._pushing:
            for name, stamp in files.items():
                command, on = self._cluster.command, {"workers": [worker]}
                if self._client.run(brought_files.has_file, command, name, stamp, **on)[worker]:
                    continue
                with (self._folder / name).open("rb") as handle:
                    while content := handle.read(_PIECE):
                        piece = (handle.tell() - len(content), content)
                        self._client.run(brought_files.take_piece, command, name, piece, stamp, **on)

    def _fetch_checkpoints(self) -> None:
        """Fetch files that running tasks have written, so that their work is kept if their worker dies."""
        assert self._folder is not None
        with self._lock:
            running = [future for future in self._pending if future.parcel.topic is not None]
        names = {
            name for future in running for name in future.parcel.names if name not in future.parcel.expected
        }
        known = {name: self._arrived.get(name) for name in names}
        for found in self._client.run(brought_files.changed_files, self._cluster.command, known).values():
            for name, (stamp, content) in found.items():
                with self._lock:  # a task that ends now writes its files after this one
                    if stamp[1] <= self._arrived.get(name, (0, 0))[1] or not any(
                        name in future.parcel.names for future in self._pending
                    ):
                        continue
                    self._arrived[name] = stamp
                    with atomic_path(self._folder / name) as temporary:
                        temporary.write_bytes(content)

    # --- watching ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Notice that there are no workers any more, more of them or fewer, and bring checkpoints home."""
        last_worker = last_checkpoint = time.monotonic()
        known: int | None = None
        while not self._closed.wait(_WATCH_SECONDS):
            now = time.monotonic()
            if not self._pending or self._cluster.is_lost:
                last_worker = now
                continue
            n = sum(self._cluster.threads().values())
            self._capacity = self._cluster.limited(n)
            if n:
                last_worker = now
            if known is not None and n != known:
                self._cluster.say(f"the workers now have {counted(n, 'thread')}, {known} before")
            known = n
            if not n and now - last_worker > self._cluster.scheduler.wait:
                error = InputError(no_workers(self._cluster.scheduler.wait))
                for future in list(self._pending):
                    self._end(future, error)
            if (
                self._folder is not None
                and not self._is_shared
                and now - last_checkpoint > _CHECKPOINT_SECONDS
            ):
                last_checkpoint = now
                with suppress(Exception):
                    self._fetch_checkpoints()

    # --- the end -------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor after its tasks; with `cancel_futures`, at once."""
        if cancel_futures:
            self._cancel()
        elif wait:
            _wait(self._pending)
        if self._closed.is_set():
            return
        self._closed.set()
        with suppress(Exception):
            if not self._cluster.is_lost:
                self._client.unsubscribe_topic(self.pool)
                self._client.run(end_pool, self.pool, on_error="ignore")

    def _cancel(self) -> None:
        with self._lock:
            pending = list(self._pending)
            self._pending.clear()
            self._waiting.clear()
        for future in pending:
            Future.cancel(future)
        with suppress(Exception):
            if not self._cluster.is_lost:
                self._client.cancel([future.task for future in pending if future.task is not None])

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the submitted tasks; after an error or Ctrl-C, cancel them."""
        self.shutdown(wait=True, cancel_futures=error_type is not None)


def _wait(futures: set[RemoteFuture]) -> None:
    wait(list(futures))


def _await_file(path: Path) -> None:
    """Wait until a file that another machine wrote is seen here.

    Raises:
        InputError: it does not appear.
    """
    deadline = time.monotonic() + _APPEARS_SECONDS
    while True:
        if path.exists():
            return
        if time.monotonic() > deadline:
            raise InputError(
                f"expected a file that a worker wrote, got none after {_APPEARS_SECONDS:g} s; "
                "run the same command again",
                file=str(path),
            )
        with suppress(OSError):
            list(path.parent.iterdir())  # makes NFS look again
        time.sleep(0.1)
