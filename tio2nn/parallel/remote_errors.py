"""What can happen to a task on another machine, in the words that the user reads."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from tio2nn.errors import InputError
from tio2nn.parallel.workers import WorkerDied


class SchedulerLostError(InputError):
    """The scheduler went away."""


class MissingFilesError(Exception):
    """Files that a call needs are not on this machine."""

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker


class AbandonedError(Exception):
    """Nobody waits for this call any more."""


def as_here(error: BaseException) -> BaseException:
    """An error as a local pool would raise it."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return WorkerDied(
            f"the worker {error.last_worker.address} died, as did {error.allowed_failures} before"
            if error.allowed_failures
            else f"the worker {error.last_worker.address} died"
        )
    if isinstance(error, AbandonedError):
        return BrokenExecutor("the task was canceled on the cluster")
    return error


def no_workers(seconds: float) -> str:
    """The message that there have been no workers for that long."""
    return (
        f"the cluster has had no worker for {seconds:g} s; start workers, or wait longer with --wait; "
        "finished work is kept"
    )
