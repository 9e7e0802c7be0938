"""A connection to a Dask scheduler, as all who use it need it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tio2nn.parallel.remote_errors import SchedulerLostError
from tio2nn.parallel.scheduler import Scheduler

Say = Callable[[str], None]


class Connection:
    """A connection to a scheduler.

    Args:
        client: of `distributed`.
        scheduler: that it is connected to.
        limit: of the tasks at a time; None for as many as the workers have threads.
        say: called with one line when the number of workers changes.

    Attributes:
        command: a name that no other connection has.
    """

    def __init__(self, client: Any, scheduler: Scheduler, limit: int | None, say: Say) -> None:
        self.client = client
        self.scheduler = scheduler
        self.limit = limit
        self.say = say
        self._address = str(client.scheduler.addr)
        self.command = secrets.token_hex(8)

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler does not answer any more."""
        return bool(self.client.status != "running")

    def lost(self) -> SchedulerLostError:
        """The error of a scheduler that went away."""
        return SchedulerLostError(
            f"lost the scheduler {self.address}; finished work is kept; run the same command again once it is back"
        )

    @property
    def n_workers(self) -> int:
        """Tasks that can run at a time: the threads of all workers, up to the limit; at least one."""
        return self.limited(sum(self.threads().values()))

    def limited(self, n_threads: int) -> int:
        """Tasks that so many threads can do at a time."""
        n = max(1, n_threads)
        return n if self.limit is None else min(n, self.limit)

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return self._address

    def threads(self) -> dict[str, int]:
        """The number of threads of each worker, by address; empty if the scheduler does not answer."""
        with suppress(Exception):
            return dict(self.client.nthreads())
        return {}
