"""Tasks for the workers of a cluster, and what hands them over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deadly import _killed_by

from tio2nn.errors import InputError
from tio2nn.parallel.cluster import Cluster, ClusterPool
from tio2nn.parallel.remote_executor import Files, RemoteExecutor
from tio2nn.parallel.workers import tell


def of_worker(cluster: Cluster, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function returns on each worker."""
    return list(cluster.client.run(function, *arguments).values())


def executor_of(cluster: Cluster, folder: Path, shared: bool = True) -> RemoteExecutor:
    """Work of a command in a folder, which workers see or do not."""
    return RemoteExecutor(cluster, Files(folder, shared), 100)


def copy(source: Path, large: Path, target: Path) -> tuple[Path, int]:
    """Copy a text, and more; where the copy lies, and how long another file is."""
    target.write_text(source.read_text("utf-8") + ", and back", encoding="utf-8")
    return target.resolve(), len(large.read_bytes())


class DeadlyPool(ClusterPool):
    """Certain structures kill the process that computes them."""

    def __call__(self, workers: int) -> RemoteExecutor:
        executor = super().__call__(workers)
        submit = executor.submit
        executor.submit = lambda fn, /, *args, **kwargs: submit(  # type: ignore[method-assign]
            _killed_by, frozenset(["structure0007"]), 1, fn, *args, **kwargs
        )
        return executor


def kill_parent() -> None:
    """Kill the Dask worker that this process belongs to."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def fill(n_bytes: int) -> int:
    """Fill so much memory."""
    content = bytearray(os.urandom(1) * n_bytes)
    time.sleep(60)
    return len(content)


def count(n: int) -> int:
    """Tell each number below `n`."""
    for k in range(n):
        tell(("step", k))
    return n


def times_of_a_nap() -> tuple[float, float]:
    """When a short task begins and ends."""
    begin = time.time()
    time.sleep(0.1)
    return begin, time.time()


def sleep(marker: Path) -> None:
    """Write which process sleeps, and sleep for long."""
    marker.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def refuse() -> None:
    """Raise an error about a line of a file."""
    raise InputError("expected more", file="a.xsf", line=3)
