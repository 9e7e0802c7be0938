"""Searches whose trials do not depend on how fast they are: all of one process, grid and random ones of several."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from tio2nn.job_part import JobPart
from tio2nn.tuning.oracles import Oracle, candidates
from tio2nn.tuning.record import Record, outcome_of
from tio2nn.tuning.stopping import Stopping
from tio2nn.tuning.trials import Candidate, Outcome, Trial

_Proposal = tuple[int, Candidate]


def search_blindly(record: Record, executor: Executor, part: JobPart | None = None) -> list[Trial]:
    """Run the trials of a strategy that does not depend on results, as workers become free.

    Where the search ends follows from outcomes in the order of numbers. Later trials, which a worker may have begun
    before that was known, do not belong to it. So the trials of a search are the same for any number of workers.

    Args:
        record: of the search.
        executor: runs trials.
        part: the part of the trials to run; by default all.

    Returns:
        The trials that belong to the search, as far as they were looked at.
    """
    conditions = record.conditions
    everything = list(candidates(conditions.parameters.tuning))
    end = _End(record, everything)
    waiting = deque(everything if part is None else part.share(everything))
    running: dict[Future[Outcome], _Proposal] = {}
    while True:
        if part is not None:
            record.ledger.refresh()
        while waiting and len(running) < conditions.jobs and end.includes(waiting[0][0]):
            number, candidate = waiting.popleft()
            if not record.knows(number, candidate):
                running[conditions.submit(executor, candidate)] = number, candidate
        if not running:
            break
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda future: running[future][0]):
            record.finish(*running.pop(future), outcome_of(future))
    return record.end_with({n: trial for n, trial in record.trials.items() if end.includes(n)})


def missing_trials(record: Record) -> list[int]:
    """Places, from 0, of the trials of a blind search that no ledger has, as far as is known where it ends."""
    everything = list(candidates(record.conditions.parameters.tuning))
    end = _End(record, everything)
    settings, find = record.conditions.settings, record.ledger.find
    return [
        place
        for place, (number, candidate) in enumerate(everything)
        if end.includes(number) and find(settings, candidate, number) is None
    ]


class _End:
    """Where a blind search ends."""

    def __init__(self, record: Record, everything: Sequence[_Proposal]) -> None:
        self._record = record
        self._waiting = deque(everything)
        self._stopping = Stopping(record.conditions.parameters.tuning)
        self._last: int | None = None

    def includes(self, number: int) -> bool:
        """Whether a trial belongs to the search, as far as outcomes are known."""
        record = self._record
        while self._last is None and self._waiting:
            next_number, candidate = self._waiting[0]
            trial = record.trials.get(next_number) or record.ledger.find(
                record.conditions.settings, candidate, next_number
            )
            if trial is None:
                break
            self._waiting.popleft()
            self._stopping.tell(trial)
            if self._stopping.is_over:
                self._last = next_number
        return self._last is None or number <= self._last


def search_guided(record: Record, executor: Executor) -> list[Trial]:
    """Run the trials of a strategy that learns from results.

    Results are passed to the oracle in the order of its proposals, and the oldest of `jobs` running trials must
    finish before the next is proposed. Proposals therefore depend on results and on `jobs`, not on the speed of the
    workers.
    """
    conditions = record.conditions
    tuning = conditions.parameters.tuning
    stopping = Stopping(tuning)
    with Oracle(tuning) as oracle:
        running: dict[int, tuple[Candidate, Future[Outcome] | None]] = {}
        while True:
            while (
                len(running) < conditions.jobs
                and not stopping.is_over
                and (proposal := oracle.ask()) is not None
            ):
                number, candidate = proposal
                known = record.knows(number, candidate)
                running[number] = candidate, None if known else conditions.submit(executor, candidate)
            if not running:
                return record.end_with(record.trials)
            number = min(running)
            candidate, future = running.pop(number)
            if future is not None:
                record.finish(number, candidate, outcome_of(future))
            oracle.tell(number, record.trials[number])
            stopping.tell(record.trials[number])
