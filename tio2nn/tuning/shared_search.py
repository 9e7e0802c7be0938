"""A Bayesian or Hyperband search of several workers at once, on machines that share a file system.

Each worker has an oracle of its own and feeds it with what all have begun and finished, in the order in which it
happened: the events, which are numbered lines of their ledgers. So all oracles are alike, and the next proposal depends
on what was finished first, but not on who asks. Workers take turns: whoever asks has read all events before, and writes
down what it got before the next one asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path

from tio2nn.errors import InputError
from tio2nn.files.lock import turn
from tio2nn.tuning.ledger import Line
from tio2nn.tuning.oracles import Oracle
from tio2nn.tuning.record import Record, outcome_of
from tio2nn.tuning.stopping import Stopping
from tio2nn.tuning.trials import FAILED, STARTED, Candidate, Outcome, Trial

_PAUSE = 1.0  # s between two looks at what others have finished, for a worker with nothing to do


class SharedSearch:
    """The share of one worker.

    Args:
        record: of the search.
        turns: a file whose lock the worker holds for its turn.
        at_work: the ledgers of the workers that are running now.
    """

    def __init__(self, record: Record, turns: Path, at_work: Callable[[], Set[Path]]) -> None:
        self._record = record
        self._turns = turns
        self._at_work = at_work
        self._stopping = Stopping(record.conditions.parameters.tuning)
        self._n_lines = 0
        self._event = 0
        self._begun: dict[int, Candidate] = {}
        self._finished: dict[int, Trial] = {}
        self._workers: dict[int, Path] = {}
        self._running: dict[Future[Outcome], int] = {}
        self._again: list[int] | None = None

    def run(self, executor: Executor) -> list[Trial]:
        """Run trials until the search ends, or others run the last ones; return all that are finished.

        A trial whose worker was killed is taken over by the next one that is free, and one that failed is tried again.

        Raises:
            InputError: the file system has no locks, or the ledgers contradict each other.
        """
        jobs = self._record.conditions.jobs
        with Oracle(self._record.conditions.parameters.tuning) as oracle:
            while True:
                with turn(self._turns):
                    self._record.ledger.refresh()
                    self._follow(oracle)
                    done = [future for future in self._running if future.done()]
                    for future in sorted(done, key=self._running.__getitem__):
                        self._finish(oracle, future)
                    others = self._at_work() - {self._record.ledger.path}
                    while len(self._running) < jobs and (number := self._next(oracle, others)) is not None:
                        self._begin(oracle, executor, number)
                if self._running:
                    timeout = _PAUSE if len(self._running) < jobs else None
                    wait(self._running, timeout, FIRST_COMPLETED)
                elif oracle.has_ended or self._stopping.is_over or not self._of_others(others):
                    break
                else:
                    time.sleep(_PAUSE)
        return self._record.end_with(self._finished)

    def _next(self, oracle: Oracle, others: Set[Path]) -> int | None:
        """The number of the next trial to run here."""
        mine = set(self._running.values())
        lost = [
            number for number, worker in self._workers.items() if number not in mine and worker not in others
        ]
        if lost:
            return min(lost)
        if self._again is None:
            self._again = sorted(n for n, trial in self._finished.items() if trial.status == FAILED)
        while self._again:
            number = self._again.pop(0)
            if number in self._finished and self._finished[number].status == FAILED:
                return number
        if self._stopping.is_over or (proposal := oracle.ask()) is None:
            return None
        self._begun[proposal[0]] = proposal[1]
        return proposal[0]

    def _begin(self, oracle: Oracle, executor: Executor, number: int) -> None:
        record, candidate = self._record, self._begun[number]
        if record.knows(number, candidate):
            record.repeat(number, self._event + 1)
        else:
            record.announce(number, candidate, self._event + 1)
            self._running[record.conditions.submit(executor, candidate)] = number
        self._follow(oracle)

    def _finish(self, oracle: Oracle, future: Future[Outcome]) -> None:
        number = self._running.pop(future)
        self._record.finish(number, self._begun[number], outcome_of(future), self._event + 1)
        self._follow(oracle)

    def _of_others(self, others: Set[Path]) -> bool:
        return any(worker in others for worker in self._workers.values())

    # --- events -----------------------------------------------------------------------------------------------

    def _follow(self, oracle: Oracle) -> None:
        """Take the events that are new in the ledgers."""
        lines = self._record.ledger.lines
        new = [line for line in lines[self._n_lines :] if line.search == self._record.conditions.search]
        self._n_lines = len(lines)
        for line in sorted(new, key=lambda line: line.event):
            self._take(oracle, line)

    def _take(self, oracle: Oracle, line: Line) -> None:
        trial, number = line.trial, line.trial.trial
        self._event += 1
        fits = line.event == self._event
        if fits and number not in self._begun:
            fits = number == len(self._begun) + 1 and oracle.follow(trial.candidate)
            self._begun[number] = trial.candidate
        if not fits or trial.candidate != self._begun[number]:
            raise InputError(
                f"expected event {self._event} of a search of several workers, got trial {number} as event "
                f"{line.event}: the ledgers do not belong together; delete all of them",
                file=str(line.ledger),
            )
        if trial.status == STARTED:
            self._workers[number] = line.ledger
            self._finished.pop(number, None)
            return
        self._workers.pop(number, None)
        self._finished[number] = trial
        oracle.tell(number, trial)
        self._stopping.tell(trial)
