"""tio2nn train --rank: all members of a prepared committee, fitted by several processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tio2nn.cli import console
from tio2nn.cli.fit_lines import errors_of

if TYPE_CHECKING:
    from tio2nn.job_part import JobPart
    from tio2nn.parallel.exchange import Exchange
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.history import Epoch


def fit(snapshot: Snapshot, rank: JobPart, wait: float | None) -> None:
    """Do the work of one rank and report it; the epochs are shown by the first one."""
    from tio2nn.parallel.exchange import WAIT_SECONDS
    from tio2nn.project.preparation import told_members
    from tio2nn.workflow.prepared import require_preparation, require_rank

    # before TensorFlow takes seconds to start
    preparation = require_preparation(snapshot)
    require_rank(snapshot.project, preparation, rank)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.ranks import RankListener, fit_rank
    n_epochs = preparation.resolved.training.epochs
    is_first = rank.number == 1
    with console.compile_notice("the loops of the fit"), console.epochs(n_epochs) as show:
        begun: set[int] = set()

        def on_epoch(member: int, epoch: Epoch) -> None:
            if not is_first:
                return
            if member not in begun and epoch.epoch > 1:
                console.say(f"member {member}: resuming after epoch {epoch.epoch - 1}")
            begun.add(member)
            show(member, epoch.epoch, errors_of(epoch))

        def on_begin(_: Exchange) -> None:
            console.say(f"rank {rank.number} of {rank.total}: all ranks have started")

        summary = fit_rank(
            snapshot,
            (rank.number, rank.total),
            wait=WAIT_SECONDS if wait is None else wait,
            listener=RankListener(console.say, on_begin, on_epoch),
        )
    told = told_members(summary.fitted, summary.members)
    then = f'; run "{snapshot.project.command("train")}"' if len(summary.fitted) == summary.members else ""
    share = f"{100 * summary.waited / max(summary.seconds, 1e-9):.0f} %"
    console.say(
        f"rank {rank.number} of {rank.total}: fitted in {console.duration(summary.seconds)}, {share} of it spent "
        f"on sending and waiting for other ranks; {told} fitted{then}"
    )
