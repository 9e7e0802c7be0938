"""Trials of a search, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tio2nn.tuning.trials import COMPLETED, Candidate, Outcome, Trial

COMMAND = "tio2nn tune -C p"
CANDIDATE = Candidate(layers=2, nodes=16, learning_rate=5e-4, dropout=0.1, epochs=20)


def make_trial(number: int = 1, rmse: float | None = 12.5, status: str = COMPLETED, **changes: Any) -> Trial:
    mae = None if rmse is None else rmse / 3  # a number without a short decimal form
    outcome = Outcome(
        status=status,
        validation_rmse_meV_per_atom=rmse,
        validation_mae_meV_per_atom=mae,
        best_epoch=None if rmse is None else 17,
        n_parameters=None if rmse is None else 400,
        seconds=1.25,
    )
    return replace(Trial.of(number, CANDIDATE, outcome), **changes)
