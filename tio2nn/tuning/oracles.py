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

BLIND = frozenset({"grid", "random"})
"""Strategies with proposals independent of results, so all trials are known before the first runs."""


class Oracle:
    """Proposes candidates, deterministically for the same settings and results.

    Args:
        tuning: the strategy, and the values to choose from.

    KerasTuner must write files: into a temporary directory, removed at the end of the `with` block.
    """

    def __init__(self, tuning: TuningParameters) -> None:
        self._tuning = tuning
        self._oracle = _make_oracle(tuning)
        self._scratch = tempfile.TemporaryDirectory(prefix="tio2nn-")
        self._oracle.verbose = 0
        self._oracle._set_project_dir(self._scratch.name, "search")
        self._ongoing: dict[int, Any] = {}
        self._number = 0

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def ask(self) -> tuple[int, Candidate] | None:
        """The next candidate with its number, from 1; None until more results arrive, or at the end."""
        # an oracle gives each tuner one trial at a time, so every trial gets its own tuner
        trial = self._oracle.create_trial(f"tuner-{self._number}")
        if trial.status != "RUNNING":
            return None
        self._number += 1
        self._ongoing[self._number] = trial
        values = trial.hyperparameters.values
        candidate = Candidate(
            layers=values["layers"],
            nodes=values["nodes"],
            learning_rate=values["learning_rate"],
            dropout=values["dropout"],
            epochs=values.get(_KERAS_TUNER_EPOCHS, self._tuning.epochs),
        )
        return self._number, candidate

    def tell(self, number: int, outcome: Outcome) -> None:
        """Report the result of a candidate."""
        trial = self._ongoing.pop(number)
        if outcome.status == COMPLETED and math.isfinite(outcome.score):
            self._oracle.update_trial(trial.trial_id, {_OBJECTIVE: outcome.score})
            trial.status = "COMPLETED"
        else:
            trial.status = "FAILED"
            trial.message = outcome.message
        self._oracle.end_trial(trial)


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
    for name in ("layers", "nodes", "learning_rate", "dropout"):
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
        return keras_tuner.oracles.BayesianOptimizationOracle(max_trials=most, **settings)
    oracle = keras_tuner.oracles.HyperbandOracle(
        max_epochs=tuning.epochs, factor=_HYPERBAND_FACTOR, **settings
    )
    # the constructor takes no limit, but the base class respects one; a candidate may return with more epochs
    oracle.max_trials = tuning.max_trials
    return oracle
