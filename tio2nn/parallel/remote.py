"""What the verbs know about pools on other machines, without what makes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeGuard

from tio2nn.parallel.workers import ListeningExecutor

MakeExecutor = Callable[[int], Executor]


class ElasticExecutor(ListeningExecutor):
    """An executor whose workers come and go."""

    @property
    def capacity(self) -> int:
        """Tasks that can run at a time now."""
        raise NotImplementedError


def capacity_of(executor: Executor, workers: int) -> int:
    """Tasks that can run at a time: as many as workers were asked for, unless they come and go."""
    return executor.capacity if isinstance(executor, ElasticExecutor) else workers


class RemotePool:
    """Makes executors that work elsewhere: even a single task is worth sending there."""

    def __call__(self, workers: int) -> Executor:
        """An executor for at most that many tasks at a time."""
        raise NotImplementedError

    def bringing(self, folder: Path) -> RemotePool:
        """The same pool for tasks that read the files of another folder, which are brought to each machine once."""
        raise NotImplementedError


def is_remote(make_executor: MakeExecutor | None) -> TypeGuard[RemotePool]:
    """Whether a pool works elsewhere."""
    return isinstance(make_executor, RemotePool)
