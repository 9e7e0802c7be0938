"""Compiled products with the Jacobian, which stays where it is: in a file mapped into memory.

For each structure of a batch the forces F = -Jᵀ g, g = ∂E/∂G, the loss of their errors, and the derivative of the
loss with respect to g, -J ∂loss/∂F, in one go: the second product finds the structure's Jacobian in the cache, so an
epoch reads every number from memory once, and no batch is ever copied together. Each structure is its own product,
so structures of any size share a batch without padding.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.kernels.compiling import OPTIONS, U, compiled_once

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


class ForceBatch(NamedTuple):
    """The labels of a batch, and where what belongs to them is."""

    offsets: IntArray  # (n_structures,) where each Jacobian begins; negative for structures that are left out
    first_atom: IntArray  # (n_structures + 1,) where the atoms of each structure begin in the arrays by atom
    rows: IntArray  # (n_atoms,) the row of each atom in gradients and derivatives
    targets: Float32Array  # (n_atoms, 3) forces, eV/Å
    weights: Float32Array  # (n_structures,) of the losses


@compiled_once(parallel=True, **OPTIONS)
def force_losses(
    jacobian: Float32Array,
    batch: ForceBatch,
    gradients: Float32Array,
    scale: float,
    predicted: Float32Array,
    derivatives: Float32Array,
) -> NDArray[np.float64]:
    """Losses of the forces of a batch, and their derivatives with respect to ∂E/∂G.

    The loss of an atom is sqrt(1 + |F - F_true|² / scale²) - 1, that of a structure the sum over its atoms.

    Args:
        jacobian: flat; that of structure s is (n, n_features, n, 3) from offsets[s] on.
        batch: of the structures.
        gradients: (n_rows, n_features) ∂E/∂G, eV.
        scale: eV/Å.
        predicted: (n_atoms, 3) receives the forces, zeros where left out.
        derivatives: (n_rows, n_features) receives the derivatives, zeros where left out.

    Returns:
        (n_structures, 2) weighted loss, and sum of the squared errors of all components.
    """
    offsets, first_atom, rows, targets, weights = batch
    n_features = gradients.shape[1]
    results = np.zeros((offsets.shape[0], 2))
    for s in numba.prange(offsets.shape[0]):
        begin, end = first_atom[s], first_atom[s + 1]
        n, width = end - begin, 3 * (end - begin)
        forces = np.zeros(width, np.float32)
        if offsets[s] < 0:
            for i in range(n):
                for f in range(n_features):
                    derivatives[rows[begin + i], f] = np.float32(0.0)
                predicted[begin + i, :] = np.float32(0.0)
            continue
        place = U(offsets[s])
        for i in range(n):
            gradient = gradients[rows[begin + i]]
            for f in range(n_features):
                g = -gradient[f]
                for c in range(U(width)):
                    forces[c] += g * jacobian[place + c]
                place += U(width)
        loss, squares = 0.0, 0.0
        for i in range(n):
            square = np.float32(0.0)
            for x in range(3):
                predicted[begin + i, x] = forces[3 * i + x]
                forces[3 * i + x] -= targets[begin + i, x]
                square += forces[3 * i + x] * forces[3 * i + x]
            root = np.sqrt(1.0 + square / (scale * scale))
            loss += root - 1.0
            squares += square
            # from here on the derivative of the loss with respect to the forces, with the sign of F = -Jᵀ g
            factor = np.float32(-weights[s] / (scale * scale * root))
            for x in range(3):
                forces[3 * i + x] *= factor
        results[s, 0] = weights[s] * loss
        results[s, 1] = squares
        place = U(offsets[s])
        for i in range(n):
            target = derivatives[rows[begin + i]]
            for f in range(n_features):
                total = np.float32(0.0)
                for c in range(U(width)):
                    total += forces[c] * jacobian[place + c]
                target[f] = total
                place += U(width)
    return results


def compile_force_losses(jacobian: Float32Array) -> None:
    """Compile the loss, or load it from Numba's cache, so that worker processes find it on disk.

    Args:
        jacobian: of the fit; whether it may be written to decides what is compiled.
    """
    labels = np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    nothing = ForceBatch(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64), *labels)
    rows = np.zeros((3, 0, 3), np.float32)
    force_losses(jacobian, nothing, rows[0], 1.0, rows[1], rows[2])
