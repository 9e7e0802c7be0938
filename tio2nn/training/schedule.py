"""Schedules: learning rate, force weight and weight averaging during a fit."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.parameters.fit_parameters import TrainingParameters


class Schedule:
    """The settings of each optimizer step.

    Args:
        parameters: training settings.
        n_batches: steps per epoch.
    """

    def __init__(self, parameters: TrainingParameters, n_batches: int) -> None:
        self._parameters = parameters
        self._n_batches = n_batches
        self._n_steps = parameters.epochs * n_batches

    def learning_rates(self, steps: IntArray) -> FloatArray:
        """Linear warm-up, then half a cosine down to zero, or constant; `steps` (n,) from 0."""
        settings, done = self._parameters, steps + 1.0
        warmup = max(1, settings.warmup_epochs * self._n_batches)
        rates = settings.learning_rate * np.minimum(1.0, done / warmup)
        if settings.schedule == "cosine":
            rates = rates * 0.5 * (1.0 + np.cos(np.pi * done / self._n_steps))
        return np.asarray(rates)

    def force_weights(self, steps: IntArray) -> FloatArray:
        """From `force_weight` to `final_force_weight`, geometrically; `steps` as above."""
        first, last = self._parameters.force_weight, self._parameters.final_force_weight
        return np.asarray(first * ((last or first) / first) ** (steps / self._n_steps))

    def averaging(self, steps: IntArray) -> FloatArray:
        """Decay of the average of the weights; `steps` as above.

        To forget the random initial weights sooner, the decay after n steps is at most
        (1 + n) / (10 + n), as in TensorFlow's `ExponentialMovingAverage`.
        """
        return np.minimum(self._parameters.weight_averaging, (steps + 1.0) / (steps + 10.0))
