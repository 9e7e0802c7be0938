"""The optimizers of `host_optimizer` as operations of TensorFlow, for all networks at once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training import adam, muon
from tio2nn.training.flat_network import Shape


class GraphOptimizer:
    """Moves the weights of networks of one shape, after each batch.

    Args:
        shape: of the networks.
        parameters: training settings.
    """

    def __init__(self, shape: Shape, parameters: TrainingParameters) -> None:
        self._shape, self._parameters = shape, parameters
        self._layers = shape.hidden_layers if parameters.optimizer == "muon" else []

    def move(
        self, state: list[tf.Variable], gradient: tf.Tensor, number: tf.Tensor, rates: tf.Tensor
    ) -> None:
        """One step of all networks.

        Args:
            state: each (n_members, n_weights) weights, first and second moments of their gradients, average of the
                weights; changed in place.
            gradient: (n_members, n_weights) of the loss of the batch.
            number: of the step, from 0.
            rates: learning rate, and decay of the average.
        """
        weights, first, second, average = state
        parameters, learning_rate = self._parameters, rates[0]
        if parameters.gradient_clip is not None:
            gradient = tf.clip_by_norm(gradient, parameters.gradient_clip, axes=[-1])
        step = self._adam(first, second, gradient, number)
        if self._layers:
            step = self._muon(first, gradient, step)
        decays = tf.constant(np.float32(parameters.weight_decay) * self._shape.decays)
        weights.assign(weights * (1.0 - learning_rate * decays) - learning_rate * step)
        average.assign(rates[1] * average + (1.0 - rates[1]) * weights)

    def _adam(
        self, first: tf.Variable, second: tf.Variable, gradient: tf.Tensor, number: tf.Tensor
    ) -> tf.Tensor:
        """Move the moments; the step at a learning rate of one."""
        first.assign_add((gradient - first) * (1.0 - adam.FIRST))
        second.assign_add((gradient * gradient - second) * (1.0 - adam.SECOND))
        done = tf.cast(number + 1, tf.float32)
        factor = tf.sqrt(1.0 - adam.SECOND**done) / (1.0 - adam.FIRST**done)
        return factor * first / (tf.sqrt(second) + adam.SMALL)

    def _muon(self, first: tf.Variable, gradient: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The step of Adam, with that of Muon for the hidden layers; both at a learning rate of one."""
        of_subnets = (*gradient.shape[:-1], self._shape.n_subnets, -1)
        ahead = tf.reshape(first + (gradient - first) * (1.0 - adam.FIRST), of_subnets)
        gradient, by_adam = tf.reshape(gradient, of_subnets), tf.reshape(step, of_subnets)
        parts, end = [], 0
        for begin, rows, columns in self._layers:
            end = begin + rows * columns
            found = _orthogonalized(tf.reshape(ahead[..., begin:end], (*of_subnets[:-1], rows, columns)))
            found = muon.scale_of(rows, columns) * tf.reshape(found, (*of_subnets[:-1], end - begin))
            has_gradient = tf.reduce_any(gradient[..., begin:end] != 0.0, axis=-1, keepdims=True)
            parts.append(tf.where(has_gradient, found, 0.0))
        return tf.reshape(tf.concat([*parts, by_adam[..., end:]], axis=-1), step.shape)


def _orthogonalized(matrices: tf.Tensor) -> tf.Tensor:
    """As `muon.orthogonalized`, of matrices (..., n_rows, n_columns)."""
    a, b, c = muon.POLYNOMIAL
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = tf.linalg.matrix_transpose(matrices) if is_tall else matrices
    x /= tf.norm(x, axis=(-2, -1), keepdims=True) + muon.SMALL
    for _ in range(muon.STEPS):
        square = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return tf.linalg.matrix_transpose(x) if is_tall else x
