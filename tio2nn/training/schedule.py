"""How learning rate, weight of forces and averaging of weights change during a fit."""

from __future__ import annotations

import math

import tensorflow as tf

from tio2nn.parameters.fit_parameters import TrainingParameters


class Schedule:
    """What each step of the optimizer is taken with; all of it is made of operations of TensorFlow's graph.

    Args:
        parameters: how to train.
        n_batches: steps of an epoch.
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
        """From `force_weight` to `final_force_weight` in equal factors; `step` as above."""
        first, last = self._parameters.force_weight, self._parameters.final_force_weight
        if last is None:
            return tf.constant(first, tf.float32)
        done = tf.cast(step, tf.float32) / (self._parameters.epochs * self._n_batches)
        return first * tf.exp(done * math.log(last / first))

    def averaging(self, step: tf.Tensor) -> tf.Tensor | float:
        """Share that the average of the weights keeps of itself; `step` as above.

        It forgets its random beginning faster than its decay says: after n steps the share is at most
        (1 + n) / (10 + n), as in TensorFlow's `ExponentialMovingAverage`.
        """
        if self._parameters.weight_averaging == 0.0:
            return 0.0
        done = tf.cast(step, tf.float32) + 1.0
        return tf.minimum(self._parameters.weight_averaging, done / (done + 9.0))
