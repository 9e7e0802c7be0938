"""When a search ends because it no longer improves."""

from __future__ import annotations

import math

from tio2nn.parameters.fit_parameters import TuningParameters
from tio2nn.tuning.trials import Trial

# What is less is no improvement: the same settings with another seed differ by more (docs/how-to/tuning.md)
_IMPROVEMENT = 0.01
# Of random draws, the best of 30 is among the best tenth of all settings with a probability of 96 %
_PATIENCE = 30


class Stopping:
    """Follows the trials of a search in their order.

    Only trials of full length count: Hyperband's short ones are no match for its best. A grid is tried as a whole
    unless the parameters say otherwise, for its order is no order of promise.

    Args:
        tuning: the strategy, its patience and the length of its trials.

    Attributes:
        is_over: whether the search has ended.
    """

    def __init__(self, tuning: TuningParameters) -> None:
        self.is_over = False
        default = None if tuning.strategy == "grid" else _PATIENCE
        self._patience = default if tuning.patience is None else tuning.patience
        self._epochs = tuning.epochs
        self._best = math.inf
        self._n_without = 0

    def tell(self, trial: Trial) -> None:
        """Take the next trial."""
        if trial.epochs < self._epochs:
            return
        if trial.score < (1.0 - _IMPROVEMENT) * self._best:
            self._best, self._n_without = trial.score, 0
        else:
            self._n_without += 1
        self.is_over = self.is_over or (self._patience is not None and self._n_without >= self._patience)
