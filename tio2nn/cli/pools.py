"""Who does the work of a command: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tio2nn.errors import UsageError

if TYPE_CHECKING:
    from tio2nn.parallel.cluster import Cluster
    from tio2nn.parallel.remote import MakeExecutor, RemotePool
    from tio2nn.project.project import Project


_LIBRARIES = ("distributed", "dask", "tornado", "asyncio")


@dataclass(frozen=True)
class Pool:
    """What the verbs need to know of who does the work.

    Attributes:
        asked: number of processes that --jobs asks for, if any.
        cluster: that works instead of this machine.
    """

    asked: int | None = None
    cluster: Cluster | None = None

    @property
    def jobs(self) -> int | None:
        """Tasks at a time; None to leave it to the verb."""
        return self.asked if self.cluster is None else self.cluster.n_workers

    @property
    def is_fixed(self) -> bool:
        """Whether to use it even if it is not faster."""
        return self.asked is not None or self.cluster is not None

    def kernels(self, project: Project, *, derivatives: bool = False, strains: bool = False) -> MakeExecutor:
        """For symmetry functions, and their derivatives with respect to positions and strain."""
        from tio2nn.parallel.workers import kernel_workers

        if self.cluster is None:
            return kernel_workers
        return self.cluster.kernel_workers(project.root, derivatives=derivatives, strains=strains)

    def trials(self, project: Project) -> MakeExecutor:
        """For the trials of a search."""
        from tio2nn.parallel.workers import trial_workers

        return trial_workers if self.cluster is None else self.cluster.trial_workers(project.root)

    def members(self, project: Project) -> MakeExecutor | None:
        """For committee members; None to fit them in this process."""
        return None if self.cluster is None else self.cluster.member_workers(project.root)

    def predictors(self) -> RemotePool | None:
        """For predictions; None to predict in this process."""
        return None if self.cluster is None else self.cluster.predicting_workers()


def refuse_both(part: str | None, scheduler: str | None) -> None:
    """Refuse a part of a job array on a cluster.

    Raises:
        UsageError: both are given.
    """
    if part is not None and scheduler is not None:
        raise UsageError("--part cannot be combined with --scheduler, which distributes the work itself")


@contextmanager
def pool(
    jobs: int | None,
    scheduler: str | None,
    tls: tuple[Path, Path, Path] | None,
    insecure: bool,
    wait: float | None,
) -> Iterator[Pool]:
    """The pool that the options ask for; the arguments are those of `tio2nn.parallel.scheduler.Scheduler`.

    Raises:
        UsageError: options about a scheduler without one.
        Tio2nnError: as `tio2nn.parallel.cluster.connected`.
    """
    if scheduler is None:
        for is_given, option in (
            (tls is not None, "--tls"),
            (insecure, "--insecure"),
            (wait is not None, "--wait"),
        ):
            if is_given:
                raise UsageError(f"{option}: expected --scheduler as well, got none")
        yield Pool(jobs)
        return
    from tio2nn.cli import console
    from tio2nn.parallel.cluster import connected
    from tio2nn.parallel.scheduler import WAIT_SECONDS, Scheduler

    wanted = Scheduler(scheduler, tls, insecure, WAIT_SECONDS if wait is None else wait)
    with _libraries_silent(), connected(wanted, limit=jobs, say=console.say, warn=console.warn) as cluster:
        yield Pool(jobs, cluster)


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """Dask does not write to stderr; what matters to a user we say in one line."""
    with suppress(ImportError):  # told by what needs it
        import distributed  # noqa: F401 -- it makes its loggers
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LIBRARIES]
    loggers = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
