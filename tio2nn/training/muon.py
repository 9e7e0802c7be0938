"""Muon: a hidden layer moves along its momentum, all singular values of which are made about one.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The bias of a layer is one more row
of its kernel, whose input is one. Momentum is the first moment of Adam. Other weights, those of the last layer, move by
Adam.
"""

from __future__ import annotations

import math

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.training.adam import FIRST, Step

POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Of the Newton–Schulz iteration: x to a x + b x³ + c x⁵ takes 0.003 to 1 to between 0.68 and 1.21 in five steps."""
STEPS = 5
SMALL = 1e-7
"""Keeps the norm of a matrix of zeros from dividing."""

# Four times the step of Adam, whose root mean square is about 0.2 of the learning rate (J. Liu et al.,
# arXiv:2502.16982, equation 4). One network of 128-128 on 5,157 structures of TiO2, errors on 600 others (MAE and RMSE
# of energies, meV/atom, and of forces, eV/Å) and CPU time of all:
#   40 epochs, Adam, batches of 16       1.12, 1.99, 0.062, 0.108, 65 s
#              batches of 16, 0.2        0.76, 1.33, 0.054, 0.098, 76 s
#              batches of 16, 0.4        0.71, 1.26, 0.051, 0.093, 76 s
#              the same, 3 iterations    0.80, 1.62, 0.053, 0.097, 68 s
#              batches of 16, 0.8        0.69, 1.11, 0.050, 0.093, 77 s
#              batches of 32, 0.4        0.70, 1.29, 0.052, 0.096, 59 s
#              batches of 32, 0.8        0.67, 1.23, 0.050, 0.094, 58 s
#              batches of 32, 1.6        0.70, 1.37, 0.050, 0.093, 57 s
#              batches of 64, 1.6        0.69, 1.23, 0.050, 0.091, 48 s
#              the last layer, too       0.79, 1.41, 0.052, 0.093, 47 s
#              batches of 128, 3.2       0.76, 1.38, 0.051, 0.094, 43 s
#   100 epochs, batches of 64, 0.4       0.63, 1.32, 0.049, 0.092
#               batches of 64, 0.8       0.59, 1.21, 0.047, 0.090
#               batches of 64, 1.6       0.64, 1.30, 0.048, 0.095
# Long steps are worse far from training: 5,500 structures of Cu, Au and Pd (EMT; eight atoms, displaced by up to 0.25
# Å), two networks, 150 epochs, batches of 64; 95th percentile and largest error of energies of a tenth, meV/atom: 0.4
# 0.38, 129; 0.8 0.35, 137; 1.6 0.37, 326; Adam, 300 epochs, 0.64, 43.
LENGTH = 0.8
"""Root mean square of a step over the learning rate."""


def scale_of(n_rows: int, n_columns: int) -> float:
    """The factor by which a step is longer than a matrix whose singular values are one."""
    return LENGTH * math.sqrt(max(n_rows, n_columns))


def orthogonalized(matrix: Float32Array) -> Float32Array:
    """U Vᵀ of a matrix U S Vᵀ (n_rows, n_columns), approximately; zero of a matrix of zeros."""
    a, b, c = map(np.float32, POLYNOMIAL)
    is_tall = matrix.shape[0] > matrix.shape[1]
    x: Float32Array = matrix.T if is_tall else matrix
    x = x / (np.float32(np.linalg.norm(x)) + np.float32(SMALL))
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.T if is_tall else x


def move(state: Float32Array, gradient: Float32Array, decays: Float32Array, step: Step) -> None:
    """One step of one layer; it stays, but for its decay, where it has no gradient.

    Args:
        state: (4, n_rows, n_columns) weights, first moment of their gradients, nothing, average of the weights.
        gradient: (n_rows, n_columns) of the loss.
        decays: (n_rows, n_columns) one for the weights that decay, zero for others.
        step: of this network.
    """
    weights, first, _, average = state
    own = gradient * step.clip
    first += (own - first) * np.float32(1.0 - FIRST)
    weights *= np.float32(1.0) - decays * step.decay
    if gradient.any():  # an element may be missing in a batch, and steps are long however short the momentum
        # the momentum that the next gradient would find (Nesterov)
        ahead = first + (own - first) * np.float32(1.0 - FIRST)
        weights -= step.learning_rate * np.float32(scale_of(*gradient.shape)) * orthogonalized(ahead)
    average *= step.average
    average += (np.float32(1.0) - step.average) * weights
