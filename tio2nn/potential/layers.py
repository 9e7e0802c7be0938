"""The dense layers of a trained subnet in NumPy, forward and backward, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tio2nn.structures.structure import FloatArray


@dataclass(frozen=True)
class Layer:
    """One dense layer.

    Attributes:
        kernel: (n_in, n_out)
        bias: (n_out,)
        activation: a name in `tio2nn.parameters.fit_parameters.ACTIVATIONS`.
    """

    kernel: FloatArray
    bias: FloatArray
    activation: str


def energies(layers: Sequence[Layer], x: FloatArray) -> FloatArray:
    """Output (n_atoms,) for inputs (n_atoms, n_in); the last layer has one node."""
    for layer in layers:
        x, _ = _activate(layer.activation, x @ layer.kernel + layer.bias, with_slope=False)
    return x[:, 0]


def energies_and_gradients(layers: Sequence[Layer], x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Output (n_atoms,), and its derivatives (n_atoms, n_in) with respect to the inputs."""
    slopes = []
    for layer in layers:
        x, slope = _activate(layer.activation, x @ layer.kernel + layer.bias, with_slope=True)
        slopes.append(slope)
    gradient = np.ones_like(x)
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ layer.kernel.T
    return x[:, 0], gradient


def _activate(name: str, x: FloatArray, *, with_slope: bool) -> tuple[FloatArray, FloatArray]:
    """Value and, if requested, slope."""
    nothing = x
    if name == "linear":
        return x, np.ones_like(x) if with_slope else nothing
    if name == "relu":
        return np.maximum(x, 0.0), (x > 0.0).astype(np.float64) if with_slope else nothing
    if name == "tanh":
        y = np.tanh(x)
        return y, 1.0 - y * y if with_slope else nothing
    # exp(-|x|) cannot overflow
    e = np.exp(-np.abs(x))
    sigmoid = np.where(x >= 0, 1.0, e) / (1.0 + e)
    if name == "softplus":
        return np.logaddexp(x, 0.0), sigmoid
    if name == "sigmoid":
        return sigmoid, sigmoid * (1.0 - sigmoid) if with_slope else nothing
    if name == "silu":
        y = x * sigmoid
        return y, sigmoid + y * (1.0 - sigmoid) if with_slope else nothing
    raise ValueError(f"activation {name!r}")
