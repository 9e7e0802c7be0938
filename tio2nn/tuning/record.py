"""What the trials of a search have in common, and which of them have an outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tio2nn.files.digests import digest_of
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_parameters import with_effect
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.schema import fields
from tio2nn.parameters.validation import Section
from tio2nn.training.data import TrainingData
from tio2nn.tuning.ledger import Ledger
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import FAILED, STARTED, Candidate, Outcome, Trial, write_trials

_PAUSE = 10.0  # s between two versions of the table of trials; it is not rewritten for each of hundreds


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the trials of a search have in common.

    Attributes:
        parameters: completed by their recipe.
        settings: digest of all that an outcome depends on besides the candidate.
        search: digest of all that proposals depend on besides outcomes.
        data_file: the data of all trials.
        derivatives_file: their derivatives; None for a search on energies alone.
        strains_file: those with respect to strain; None for a search without stress.
        features_file: the features; None if they are among the data.
        jobs: number of trials at a time.
    """

    parameters: ParameterSet
    settings: str
    search: str
    data_file: Path
    derivatives_file: Path | None
    strains_file: Path | None
    features_file: Path | None
    jobs: int

    @classmethod
    def of(cls, parameters: ParameterSet, data: TrainingData, data_file: Path, jobs: int) -> Conditions:
        """The conditions of a search with these parameters, completed by their recipe, and these data."""
        settings, tuning = _settings(parameters, data), parameters.tuning
        space = {
            name: getattr(tuning, name)
            for name in ("strategy", "layers", "nodes", "learning_rate", "dropout", "epochs", "seed")
        }
        search = digest_of([settings, json.dumps(space, sort_keys=True), version("keras-tuner")])
        return cls(
            parameters=parameters,
            settings=settings,
            search=search,
            data_file=data_file,
            derivatives_file=data.derivatives_file,
            strains_file=data.strains_file,
            features_file=data.features_file,
            jobs=jobs,
        )

    def submit(self, executor: Executor, candidate: Candidate) -> Future[Outcome]:
        """Let a worker process run a trial."""
        tuning = self.parameters.tuning
        changed = self.parameters.with_overrides(**candidate.overrides)
        training = replace(
            changed.training,
            epochs=candidate.epochs,
            batch_size=tuning.batch_size or changed.training.batch_size,
        )
        task = TrialTask(
            data=self.data_file,
            derivatives=self.derivatives_file,
            strains=self.strains_file,
            features=self.features_file,
            elements=changed.elements,
            n_features=changed.n_features,
            network=changed.network,
            training=training,
            seed=tuning.seed,
            # parallel trials share the cores; a single one may use two
            threads=1 if self.jobs > 1 else 2,
        )
        return executor.submit(run_trial, task)


class Record:
    """The trials of a search that have an outcome, from the ledgers or from this process.

    Args:
        conditions: of the trials.
        ledger: receives new outcomes.
        on_trial: called with each trial, including those of earlier searches.
        table: `trials.csv`; None for a part of a search, which leaves it to the command at the end.

    Attributes:
        trials: by number.
        n_known: number of trials that were not run here; set at the end.
    """

    def __init__(
        self,
        conditions: Conditions,
        ledger: Ledger,
        on_trial: Callable[[Trial], None] | None = None,
        table: Path | None = None,
    ) -> None:
        self.trials: dict[int, Trial] = {}
        self.n_known = 0
        self.conditions = conditions
        self.ledger = ledger
        self._on_trial = on_trial
        self._table = table
        self._run_here: set[int] = set()
        self._written = 0.0

    def knows(self, number: int, candidate: Candidate) -> bool:
        """Whether a ledger has the outcome of a trial, which then belongs to this search."""
        trial = self.ledger.find(self.conditions.settings, candidate, number)
        if trial is None:
            return False
        self._take(trial)
        return True

    def announce(self, number: int, candidate: Candidate, event: int) -> None:
        """Tell other workers that a trial is running here, as an event of a search that they share."""
        self._add(Trial.of(number, candidate, Outcome(status=STARTED)), event)

    def repeat(self, number: int, event: int) -> None:
        """Tell other workers of a trial that a ledger knows, as an event of a search that they share."""
        self._add(self.trials[number], event)

    def finish(self, number: int, candidate: Candidate, outcome: Outcome, event: int = 0) -> None:
        """Add an outcome to the ledger."""
        trial = Trial.of(number, candidate, outcome)
        self._add(trial, event)
        self._run_here.add(number)
        self._take(trial)

    def _add(self, trial: Trial, event: int) -> None:
        self.ledger.add(self.conditions.settings, trial, self.conditions.search if event else "", event)

    def _take(self, trial: Trial) -> None:
        self.trials[trial.trial] = trial
        if time.monotonic() >= self._written + _PAUSE:
            self._write()
        if self._on_trial is not None:
            self._on_trial(trial)

    def end_with(self, trials: Mapping[int, Trial]) -> list[Trial]:
        """Let these be the trials of the search, those of other workers included, and write the table."""
        self.n_known = len(trials.keys() - self._run_here)
        self.trials = dict(sorted(trials.items()))
        self._write()
        return list(self.trials.values())

    def _write(self) -> None:
        if self._table is not None:
            write_trials(self._table, self.trials.values())
            self._written = time.monotonic()


def outcome_of(future: Future[Outcome]) -> Outcome:
    """The outcome of a trial that has ended, with its process or without."""
    try:
        return future.result()
    except BrokenExecutor as error:
        return Outcome(status=FAILED, message=str(error))


def _settings(parameters: ParameterSet, data: TrainingData) -> str:
    """Digest of all that determines the outcome of a trial besides the candidate."""
    training = _without_searched(parameters.training, Affects.DATA | Affects.FIT)
    fixed: Mapping[str, Any] = {
        "network": _without_searched(parameters.network, Affects.FIT),
        # as 0.1.0 has it, which named the members
        "training": {**with_effect(training, bool(parameters.training.stress)), "members": None},
        **parameters.tuning.affecting(Affects.TRIAL),
        "reference_energies": data.reference.as_dict(),
    }
    return digest_of([data.fingerprint, json.dumps(fixed, sort_keys=True)])


def _without_searched(section: Section, part: Affects) -> dict[str, Any]:
    """As JSON, what a part depends on, with null for what the candidate decides."""
    return {
        **section.affecting(part),
        **{field.key: None for field in fields(type(section)) if field.about.searched},
    }
