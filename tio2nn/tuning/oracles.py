"""KerasTuner's oracles, which propose the settings of trials and receive their results.

Its tuners are not used: they run all trials in one process whose memory grows with each, and their files lose trials
when a search is killed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import keras_tuner

from tio2nn.parameters.fit_parameters import TuningParameters
from tio2nn.tuning.trials import COMPLETED, Candidate, Outcome

_OBJECTIVE = "score"
_HYPERBAND_FACTOR = 3  # the value of the Hyperband paper (L. Li et al., J. Mach. Learn. Res. 18 (2018) 1)
# KerasTuner ends a search after a few consecutive failures; but diverged trials show where not to search
_FAILURES_ALLOWED = 10**9
_KERAS_TUNER_EPOCHS = "tuner/epochs"
_SEARCHED = ("layers", "nodes", "learning_rate", "dropout")
# Bayesian: random trials before the first model; as KerasTuner has it, three for each dimension
_INITIAL_POINTS = 3 * len(_SEARCHED)
_MOST_COLLISIONS = 10_000

BLIND = frozenset({"grid", "random"})
"""Strategies with proposals independent of results, so all trials are known before the first runs."""


class Oracle:
    """Proposes candidates, deterministically for the same settings and results.

    Args:
        tuning: the strategy, and the values to choose from.

    Attributes:
        has_ended: whether there was nothing more to propose, independent of the results to come.

    KerasTuner must write files: into a temporary directory, removed at the end of the `with` block.
    """

    def __init__(self, tuning: TuningParameters) -> None:
        self._tuning = tuning
        self._oracle = _make_oracle(tuning)
        self._scratch = tempfile.TemporaryDirectory(prefix="tio2nn-")
        self._oracle.verbose = 0
        self._oracle._set_project_dir(self._scratch.name, "search")
        self._trials: dict[int, Any] = {}
        self.has_ended = False

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def ask(self) -> tuple[int, Candidate] | None:
        """The next candidate with its number, from 1; None until more results arrive, or at the end."""
        number = max(self._trials, default=0) + 1
        # an oracle gives each tuner one trial at a time, so every trial gets its own tuner
        trial = self._oracle.create_trial(f"tuner-{number}")
        self.has_ended = trial.status == "STOPPED"
        if trial.status != "RUNNING":
            return None
        self._trials[number] = trial
        values = trial.hyperparameters.values
        candidate = Candidate(
            layers=values["layers"],
            nodes=values["nodes"],
            learning_rate=values["learning_rate"],
            dropout=values["dropout"],
            epochs=values.get(_KERAS_TUNER_EPOCHS, self._tuning.epochs),
        )
        return number, candidate

    def follow(self, candidate: Candidate) -> bool:
        """Take the next candidate from another worker, which asked an oracle with the same results.

        Returns:
            Whether this oracle proposes the same, or could have.
        """
        if isinstance(self._oracle, _Bayesian):
            self._oracle.given = {name: getattr(candidate, name) for name in _SEARCHED}
        return (proposal := self.ask()) is not None and proposal[1] == candidate

    def tell(self, number: int, outcome: Outcome) -> None:
        """Report the result of a candidate, or another one if it has been tried again."""
        trial = self._trials[number]
        if outcome.status == COMPLETED and math.isfinite(outcome.score):
            self._oracle.update_trial(trial.trial_id, {_OBJECTIVE: outcome.score})
            trial.status = "COMPLETED"
        else:
            trial.status = "FAILED"
            trial.message = outcome.message
        self._oracle.end_trial(trial)


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """KerasTuner's oracle, which never proposes the same twice, and can follow another one.

    Where the best of its model is a candidate that was tried before, it draws one at random instead: among values to
    choose from, 69 of 100 proposals would be repetitions.

    Attributes:
        given: the values that another worker got for the next trial, at the cost of a fit of the model.
    """

    given: dict[str, Any] | None = None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        given, self.given = self.given, None
        n_completed = sum(trial.status == "COMPLETED" for trial in self.trials.values())
        if n_completed < self.num_initial_points:
            response = self._random_populate_space()  # depends on no result, and costs nothing
        elif given is not None:
            in_space = all(given[hp.name] in hp.values for hp in self.hyperparameters.space)
            response = {"status": "RUNNING", "values": given} if in_space else {"status": "IDLE"}
        else:
            response = super().populate_space(trial_id)
            if self._compute_values_hash(response["values"]) in self._tried_so_far:
                response = self._random_populate_space()
        return dict(response)


def candidates(tuning: TuningParameters) -> Iterator[tuple[int, Candidate]]:
    """All candidates of a blind strategy, in order, with their numbers."""
    # an oracle needs a result before it proposes the next candidate; its value does not matter here
    nothing = Outcome(status=COMPLETED, validation_rmse_meV_per_atom=0.0)
    with Oracle(tuning) as oracle:
        while (proposal := oracle.ask()) is not None:
            yield proposal
            oracle.tell(proposal[0], nothing)


def grid_size(tuning: TuningParameters) -> int:
    """Number of different candidates, apart from the number of epochs."""
    return len(tuning.layers) * len(tuning.nodes) * len(tuning.learning_rate) * len(tuning.dropout)


def _make_oracle(tuning: TuningParameters) -> Any:
    space = keras_tuner.HyperParameters()
    # the last varies fastest, so networks of one size are neighbors
    for name in _SEARCHED:
        space.Choice(name, list(getattr(tuning, name)))
    settings = {
        "objective": keras_tuner.Objective(_OBJECTIVE, "min"),
        "hyperparameters": space,
        "allow_new_entries": False,
        "tune_new_entries": False,
        # KerasTuner takes 0 for "draw one"
        "seed": tuning.seed + 1,
        "max_consecutive_failed_trials": _FAILURES_ALLOWED,
    }
    size = grid_size(tuning)
    most = size if tuning.max_trials is None else min(size, tuning.max_trials)
    if tuning.strategy == "grid":
        return keras_tuner.oracles.GridSearchOracle(max_trials=most, **settings)
    if tuning.strategy == "random":
        return keras_tuner.oracles.RandomSearchOracle(max_trials=most, **settings)
    if tuning.strategy == "bayesian":
        bayesian = _Bayesian(max_trials=most, num_initial_points=_INITIAL_POINTS, **settings)
        # KerasTuner takes the space for exhausted after 20 random draws of what was tried before
        bayesian._max_collisions = _MOST_COLLISIONS
        return bayesian
    oracle = keras_tuner.oracles.HyperbandOracle(
        max_epochs=tuning.epochs, factor=_HYPERBAND_FACTOR, **settings
    )
    # the constructor takes no limit, but the base class respects one; a candidate may return with more epochs
    oracle.max_trials = tuning.max_trials
    return oracle
