"""The dense layers of a trained subnet, and their output by NumPy, in float64; `loops.py` has what predictions take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tio2nn.array_types import FloatArray


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
        x = _activated(layer.activation, x @ layer.kernel + layer.bias)
    return x[:, 0]


def _activated(name: str, x: FloatArray) -> FloatArray:
    if name == "linear":
        return x
    if name == "relu":
        return np.maximum(x, 0.0)
    if name == "tanh":
        return np.tanh(x)
    if name == "softplus":
        return np.logaddexp(x, 0.0)
    # exp(-|x|) cannot overflow
    e = np.exp(-np.abs(x))
    sigmoid = np.where(x >= 0, 1.0, e) / (1.0 + e)
    if name == "sigmoid":
        return sigmoid
    if name == "silu":
        return x * sigmoid
    raise ValueError(f"activation {name!r}")
