"""The verb train in several processes that compute the same batches together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tio2nn.cores import thread_count
from tio2nn.files.paths import AnyPath
from tio2nn.job_part import JobPart
from tio2nn.parallel.exchange import WAIT_SECONDS, Exchange, exchange
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import run_in_company
from tio2nn.training.history import Epoch
from tio2nn.workflow.members import diverged, member_task
from tio2nn.workflow.prepared import require_preparation, require_rank


@dataclass(frozen=True)
class RankSummary:
    """Result of one rank.

    Attributes:
        rank: its number, from 1, and the number of ranks.
        members: size of the committee.
        seconds: wall time of this run, from the moment when all ranks were there.
        waited: seconds of it spent in sending, in receiving, and in waiting for other ranks.
        fitted: numbers of the members that are fitted now.
    """

    rank: tuple[int, int]
    members: int
    seconds: float
    waited: float
    fitted: list[int]


@dataclass(frozen=True)
class RankListener:
    """Functions that are called while a rank works.

    Attributes:
        on_wait: with a sentence, if other ranks are not there yet.
        on_begin: with the connections to the others, when all are there.
        on_epoch: after each epoch with the number of the member, from 1, and the epoch.
    """

    on_wait: Callable[[str], None] | None = None
    on_begin: Callable[[Exchange], None] | None = None
    on_epoch: Callable[[int, Epoch], None] | None = None


def fit_rank(
    project: Project | Snapshot | AnyPath,
    rank: tuple[int, int],
    *,
    wait: float = WAIT_SECONDS,
    listener: RankListener | None = None,
) -> RankSummary:
    """Fit all members of a prepared committee together with other ranks, to their finished checkpoints.

    Each rank computes its share of every batch; the gradients are added before each step. Losses are those of one
    process to rounding. Ranks run as processes of any machines that share the project and reach the first one; fits
    that were killed resume. `train` then assembles the potential.

    Args:
        project: project with a preparation, or its directory.
        rank: its number, from 1, and the number of ranks.
        wait: seconds for the other ranks to start.
        listener: is told how the work goes.

    Raises:
        MissingInputError: nothing is prepared.
        StaleError: the project has changed since.
        UsageError: batches cannot be shared by so many.
        InputError: the preparation is damaged, another rank does not start or is gone, or the fit diverges.
        TypeError, ValueError: the rank is no such pair of numbers.
    """
    own = JobPart.given("rank", rank)
    listener = listener or RankListener()
    snapshot = Snapshot.of(project)
    project = snapshot.project
    preparation = require_preparation(snapshot)
    require_rank(project, preparation, own)
    threads = thread_count()
    configure_threads(threads)
    settings = preparation.resolved
    tasks = [member_task(project, preparation, member) for member in range(1, len(preparation.members) + 1)]
    fits = [task.begin() for task in tasks]

    def on_epoch(place: int, epoch: Epoch) -> None:
        if listener.on_epoch is not None:
            listener.on_epoch(place + 1, epoch)

    work = " ".join(preparation.members)
    with exchange(project.ranks_file, own, work, wait, listener.on_wait) as connections:
        begin = time.perf_counter()
        if listener.on_begin is not None:
            listener.on_begin(connections)
        try:
            resumptions = [task.resumption for task in tasks]
            run_in_company(fits, resumptions, on_epoch, threads, exchange=connections)
        except FloatingPointError as error:
            raise diverged(error, settings) from None
        # so that the first one has written the last checkpoints when the others end
        connections.from_first(np.zeros(1))
    return RankSummary(
        rank=(own.number, own.total),
        members=len(fits),
        seconds=time.perf_counter() - begin,
        waited=connections.seconds,
        fitted=preparation.fitted(project),
    )
