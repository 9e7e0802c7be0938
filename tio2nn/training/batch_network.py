"""A network at the structures of one batch, in a graph of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tio2nn.training.backpropagation import forward, to_features, to_weights
from tio2nn.training.flat_network import Shape, joined, layers_of


class BatchNetwork:
    """One network at one batch, in the graph; or all members, with one more axis in front of every result.

    Args:
        shape: of the network.
        whitenings: for each subnet (n_features, n_features); needed for gradients.
        weights: (n_weights,), of all members (n_members, n_weights).
        features, segments: of the atoms of each subnet.
        size: structures of the batch.
        seed: of the dropout, two numbers; None for none.
    """

    def __init__(
        self,
        shape: Shape,
        whitenings: Sequence[tf.Tensor],
        weights: tf.Tensor,
        features: Sequence[tf.Tensor],
        segments: Sequence[tf.Tensor],
        size: int,
        seed: tf.Tensor | None = None,
    ) -> None:
        self._shape, self._whitenings, self._segments = shape, whitenings, segments
        self._members = weights.shape[:-1]
        self._layers = layers_of(shape, weights)
        self._done = [
            forward(shape, own, part, self._masks(k, part, seed))
            for k, (own, part) in enumerate(zip(self._layers, features, strict=True))
        ]
        self._back: list[Any] = [None] * len(features)
        # energies of atoms come first where they are summed
        of_structures = [
            tf.transpose(tf.math.unsorted_segment_sum(tf.transpose(done.energies), own, size))
            for done, own in zip(self._done, segments, strict=True)
        ]
        self.energies = tf.add_n(of_structures)

    def _masks(self, subnet: int, features: tf.Tensor, seed: tf.Tensor | None) -> list[tf.Tensor] | None:
        if seed is None or self._shape.dropout == 0.0:
            return None
        return dropout_masks(self._shape, subnet, (*self._members, tf.shape(features)[0]), seed)

    def gradients(self) -> tf.Tensor:
        """(n_atoms, n_features) ∂E/∂G of the atoms of all subnets."""
        self._back = [
            to_features(own, done, whitening)
            for own, done, whitening in zip(self._layers, self._done, self._whitenings, strict=True)
        ]
        return tf.concat([back.gradients for back in self._back], axis=-2)

    def to_weights(self, of_energies: tf.Tensor, of_gradients: tf.Tensor | None = None) -> tf.Tensor:
        """(n_weights,) derivatives of a loss, from those with respect to energies (size,) and `gradients`."""
        of_atoms = [tf.gather(of_energies, own, axis=-1) for own in self._segments]
        if of_gradients is None:
            return joined(list(map(to_weights, self._layers, self._done, of_atoms)))
        parts = tf.split(of_gradients, [tf.shape(done.energies)[-1] for done in self._done], axis=-2)
        whitenings = self._whitenings
        return joined(
            list(map(to_weights, self._layers, self._done, of_atoms, self._back, parts, whitenings))
        )


def dropout_masks(shape: Shape, subnet: int, atoms: tuple[Any, ...], seed: Any) -> list[tf.Tensor]:
    """Factors of the nodes of each hidden layer, (*atoms, n_nodes), whose mean is 1.

    Args:
        shape: of the network.
        subnet: its number.
        atoms: how many, of all members if there is an axis for them.
        seed: two numbers.
    """
    masks = []
    for level, width in enumerate(shape.widths[1:-1]):
        own_seed = tf.constant([0, 7919 * (subnet * len(shape.widths) + level)]) + seed
        drawn = tf.random.stateless_uniform((*atoms, width), own_seed)
        masks.append(tf.cast(drawn >= shape.dropout, tf.float32) / (1.0 - shape.dropout))
    return masks
