"""Schedules: learning rate, force weight and weight averaging during a fit."""

from __future__ import annotations

import math

import tensorflow as tf

from tio2nn.parameters.fit_parameters import TrainingParameters


class Schedule:
    """The settings of each optimizer step, as operations in the TensorFlow graph.

    Args:
        parameters: training settings.
        n_batches: steps per epoch.
    """

    def __init__(self, parameters: TrainingParameters, n_batches: int) -> None:
        self._parameters = parameters
        self._n_batches = n_batches

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Linear warm-up, then half a cosine down to zero, or constant.

        Args:
            step: () int, from 0.
        """
        settings = self._parameters
        done = tf.cast(step, tf.float32) + 1.0
        total = settings.epochs * self._n_batches
        rate = settings.learning_rate * tf.minimum(
            1.0, done / max(1, settings.warmup_epochs * self._n_batches)
        )
        if settings.schedule == "cosine":
            rate *= 0.5 * (1.0 + tf.cos(math.pi * done / total))
        return rate

    def force_weight(self, step: tf.Tensor) -> tf.Tensor:
        """From `force_weight` to `final_force_weight`, geometrically; `step` as above."""
        first, last = self._parameters.force_weight, self._parameters.final_force_weight
        if last is None:
            return tf.constant(first, tf.float32)
        done = tf.cast(step, tf.float32) / (self._parameters.epochs * self._n_batches)
        return first * tf.exp(done * math.log(last / first))

    def averaging(self, step: tf.Tensor) -> tf.Tensor | float:
        """Decay of the average of the weights; `step` as above.

        To forget the random initial weights sooner, the decay after n steps is at most
        (1 + n) / (10 + n), as in TensorFlow's `ExponentialMovingAverage`.
        """
        if self._parameters.weight_averaging == 0.0:
            return 0.0
        done = tf.cast(step, tf.float32) + 1.0
        return tf.minimum(self._parameters.weight_averaging, done / (done + 9.0))
