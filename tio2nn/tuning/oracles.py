"""What a search tries next: KerasTuner's oracles, asked for settings and told what came of them.

Its tuners are not used: they run one trial after another in one process whose memory grows with each, and what they
keep on disk loses trials when a search is killed.
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
# KerasTuner ends a search after a few failures in a row; a row of diverged trials says where not to search
_FAILURES_ALLOWED = 10**9
_KERAS_TUNER_EPOCHS = "tuner/epochs"

BLIND = frozenset({"grid", "random"})
"""Strategies whose proposals do not depend on results, so that all trials are known before the first is run."""


class Oracle:
    """Proposes candidates; of the same settings and the same answers it proposes the same.

    Args:
        tuning: the strategy, and the values to choose among.

    KerasTuner insists on writing what it does: into a temporary directory, removed at the end of the `with` block.
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
        """The next candidate with its number, from 1; None if there is none before further answers, or at all."""
        # an oracle gives each tuner one trial at a time; every trial has a tuner of its own here
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
        """What came of a candidate."""
        trial = self._ongoing.pop(number)
        if outcome.status == COMPLETED and math.isfinite(outcome.score):
            self._oracle.update_trial(trial.trial_id, {_OBJECTIVE: outcome.score})
            trial.status = "COMPLETED"
        else:
            trial.status = "FAILED"
            trial.message = outcome.message
        self._oracle.end_trial(trial)


def candidates(tuning: TuningParameters) -> Iterator[tuple[int, Candidate]]:
    """All candidates of a blind strategy, in its order, with their numbers."""
    # an oracle proposes no next one before it was told something of the last; what, does not matter here
    nothing = Outcome(status=COMPLETED, validation_rmse_meV_per_atom=0.0)
    with Oracle(tuning) as oracle:
        while (proposal := oracle.ask()) is not None:
            yield proposal
            oracle.tell(proposal[0], nothing)


def grid_size(tuning: TuningParameters) -> int:
    """Number of different candidates of the same length."""
    return len(tuning.layers) * len(tuning.nodes) * len(tuning.learning_rate) * len(tuning.dropout)


def _make_oracle(tuning: TuningParameters) -> Any:
    space = keras_tuner.HyperParameters()
    # the last changes fastest: networks of one size stand together
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
    # its constructor takes no limit, its base class heeds one; a candidate may come several times, with more epochs
    oracle.max_trials = tuning.max_trials
    return oracle
