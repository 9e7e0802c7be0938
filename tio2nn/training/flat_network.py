"""The weights of a network as one vector: what an optimizer moves, and a checkpoint keeps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array
from tio2nn.errors import UsageError
from tio2nn.parameters.fit_parameters import Activation
from tio2nn.training.network import BPNN, dense_layers


class Shape(NamedTuple):
    """The layers of a network, the same in each subnet.

    Attributes:
        n_subnets: one for each element, or one.
        widths: inputs, nodes of each hidden layer, one output.
        activations: of the hidden layers.
        dropout: of the nodes of each hidden layer.
    """

    n_subnets: int
    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    dropout: float

    @property
    def kernels(self) -> list[tuple[int, int]]:
        """The kernel of each layer of a subnet."""
        return list(itertools.pairwise(self.widths))

    @property
    def hidden_layers(self) -> list[tuple[int, int, int]]:
        """Each hidden layer of a subnet: where it begins among its weights, rows and columns, the last row its bias."""
        layers, begin = [], 0
        for n_in, n_out in self.kernels[:-1]:
            layers.append((begin, n_in + 1, n_out))
            begin += (n_in + 1) * n_out
        return layers

    @property
    def sizes(self) -> list[int]:
        """Numbers of weights, subnet after subnet, layer after layer, kernel and bias."""
        return [n for n_in, n_out in self.kernels for n in (n_in * n_out, n_out)] * self.n_subnets

    @property
    def decays(self) -> Float32Array:
        """(n_weights,) one for the weights of kernels, which decay, zero for biases."""
        return np.repeat(np.tile(np.array([1.0, 0.0], np.float32), len(self.sizes) // 2), self.sizes)


class Layers(NamedTuple):
    """The weights of one subnet as tensors, layer by layer; of several networks with one more axis in front."""

    kernels: list[tf.Tensor]
    biases: list[tf.Tensor]


def layers_of(shape: Shape, weights: tf.Tensor) -> list[Layers]:
    """The layers of each subnet, whose weights are (n_weights,), or (n_members, n_weights) of several networks."""
    members = weights.shape[:-1]
    parts = iter(tf.split(weights, shape.sizes, axis=-1))
    found = []
    for _ in range(shape.n_subnets):
        kernels, biases = [], []
        for kernel in shape.kernels:
            kernels.append(tf.reshape(next(parts), (*members, *kernel)))
            biases.append(next(parts))
        found.append(Layers(kernels, biases))
    return found


def joined(subnets: Sequence[Layers]) -> tf.Tensor:
    """The inverse of `layers_of`."""
    members = subnets[0].biases[0].shape[:-1]
    parts = [
        tf.reshape(part, (*members, -1))
        for layers in subnets
        for pair in zip(*layers, strict=True)
        for part in pair
    ]
    return tf.concat(parts, axis=-1)


class FlatNetwork:
    """A network whose weights go to and from one vector.

    Args:
        network: with the same layers in each subnet, the last one linear.

    Raises:
        UsageError: other layers.
    """

    def __init__(self, network: BPNN) -> None:
        subnets = [dense_layers(subnet) for subnet in network.subnets.values()]
        plans = {tuple((*kernel.shape, activation) for kernel, _, activation in layers) for layers in subnets}
        if len(plans) != 1 or subnets[0][-1][2] != "linear":
            raise UsageError("network: expected the same layers in each subnet, the last one linear")
        (layers,) = plans
        own_layers = [layer for subnet in network.subnets.values() for layer in subnet.layers]
        rates = {layer.rate for layer in own_layers if isinstance(layer, keras.layers.Dropout)}
        if len(rates) > 1:
            raise UsageError("network: expected the same dropout after each hidden layer")
        self._dense = [layer for layer in own_layers if isinstance(layer, keras.layers.Dense)]
        self.shape = Shape(
            len(subnets),
            (layers[0][0], *(n_out for _, n_out, _ in layers)),
            tuple(cast(Activation, activation) for *_, activation in layers[:-1]),
            float(max(rates, default=0.0)),
        )

    def weights(self) -> Float32Array:
        """(n_weights,) of the network."""
        parts = [np.ravel(np.asarray(weight)) for layer in self._dense for weight in layer.get_weights()]
        return np.concatenate(parts).astype(np.float32)

    def assign(self, weights: Float32Array) -> None:
        """Set the weights (n_weights,) of the network."""
        parts = iter(np.split(weights, np.cumsum(self.shape.sizes)[:-1]))
        for layer in self._dense:
            layer.set_weights([next(parts).reshape(layer.kernel.shape), next(parts)])
