"""Compiled products with the Jacobian, which lies in memory: that of a mapped file, or a copy.

For each structure of a batch the forces F = -Jᵀ g, g = ∂E/∂G, the loss of their errors, and the derivative of the
loss with respect to g, -J ∂loss/∂F, in one go: the second product finds the structure's Jacobian in the cache, so an
epoch reads every number from memory once, for all members of a committee, and no batch is ever copied together. Each
structure is its own product, so structures of any size share a batch without padding. Four features at a time spare
three of four loads and stores of the forces: 11.6 instead of 9.2 GB/s on one core, and 31 ms for four members instead
of 4 × 22 (600 structures of 24 atoms, 48 features).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.descriptors.kernels.compiling import U, compiled


class ForceBatch(NamedTuple):
    """The labels of a batch, and where what belongs to them is."""

    offsets: IntArray  # (n_structures,) where each Jacobian begins; negative for structures that are left out
    first_atom: IntArray  # (n_structures + 1,) where the atoms of each structure begin in the arrays by atom
    rows: IntArray  # (n_atoms,) the row of each atom in gradients and derivatives
    targets: Float32Array  # (n_atoms, 3) forces, eV/Å
    weights: Float32Array  # (n_structures,) of the losses


@compiled
def force_losses(
    jacobian: Float32Array,
    batch: ForceBatch,
    gradients: Float32Array,
    scale: float,
    predicted: Float32Array,
    derivatives: Float32Array,
    results: NDArray[np.float64],
) -> None:
    """Losses of the forces of structures, and their derivatives with respect to ∂E/∂G, for each member by itself.

    The loss of an atom is sqrt(1 + |F - F_true|² / scale²) - 1, that of a structure the sum over its atoms.

    Args:
        jacobian: flat; that of structure s is (n, n_features, n, 3) from offsets[s] on.
        batch: of the structures; several threads may have some each.
        gradients: (n_members, n_rows, n_features) ∂E/∂G, eV.
        scale: eV/Å.
        predicted: (n_members, n_atoms, 3) receives the forces, zeros where left out.
        derivatives: (n_members, n_rows, n_features) receives the derivatives, zeros where left out.
        results: (n_structures, n_members, 2) receives weighted loss, and sum of the squared errors of all components.
    """
    offsets, first_atom, rows, targets, weights = batch
    n_members, _, n_features = gradients.shape
    whole = U(n_features - n_features % 4)
    results[:] = 0.0
    for s in range(offsets.shape[0]):
        begin, end = first_atom[s], first_atom[s + 1]
        n = end - begin
        width = U(3 * n)
        if offsets[s] < 0:
            for m in range(n_members):
                for i in range(n):
                    derivatives[m, rows[begin + i], :] = np.float32(0.0)
                    predicted[m, begin + i, :] = np.float32(0.0)
            continue
        forces = np.zeros((n_members, 3 * n), np.float32)
        place = U(offsets[s])
        for i in range(n):
            row = rows[begin + i]
            for f in range(U(0), whole, U(4)):
                p1, p2, p3 = place + width, place + U(2) * width, place + U(3) * width
                for m in range(n_members):
                    g0, g1 = -gradients[m, row, f], -gradients[m, row, f + U(1)]
                    g2, g3 = -gradients[m, row, f + U(2)], -gradients[m, row, f + U(3)]
                    for c in range(width):
                        forces[m, c] += (
                            g0 * jacobian[place + c]
                            + g1 * jacobian[p1 + c]
                            + g2 * jacobian[p2 + c]
                            + g3 * jacobian[p3 + c]
                        )
                place += U(4) * width
            for f in range(whole, U(n_features)):
                for m in range(n_members):
                    g0 = -gradients[m, row, f]
                    for c in range(width):
                        forces[m, c] += g0 * jacobian[place + c]
                place += width
        for m in range(n_members):
            loss, squares = 0.0, 0.0
            for i in range(n):
                square = np.float32(0.0)
                for x in range(3):
                    predicted[m, begin + i, x] = forces[m, 3 * i + x]
                    forces[m, 3 * i + x] -= targets[begin + i, x]
                    square += forces[m, 3 * i + x] * forces[m, 3 * i + x]
                root = np.sqrt(1.0 + square / (scale * scale))
                loss += root - 1.0
                squares += square
                # from here on the derivative of the loss with respect to the forces, with the sign of F = -Jᵀ g
                factor = np.float32(-weights[s] / (scale * scale * root))
                for x in range(3):
                    forces[m, 3 * i + x] *= factor
            results[s, m, 0] = weights[s] * loss
            results[s, m, 1] = squares
        place = U(offsets[s])
        for i in range(n):
            row = rows[begin + i]
            for f in range(U(0), whole, U(4)):
                p1, p2, p3 = place + width, place + U(2) * width, place + U(3) * width
                for m in range(n_members):
                    d0 = d1 = d2 = d3 = np.float32(0.0)
                    for c in range(width):
                        x = forces[m, c]
                        d0 += x * jacobian[place + c]
                        d1 += x * jacobian[p1 + c]
                        d2 += x * jacobian[p2 + c]
                        d3 += x * jacobian[p3 + c]
                    derivatives[m, row, f] = d0
                    derivatives[m, row, f + U(1)] = d1
                    derivatives[m, row, f + U(2)] = d2
                    derivatives[m, row, f + U(3)] = d3
                place += U(4) * width
            for f in range(whole, U(n_features)):
                for m in range(n_members):
                    d0 = np.float32(0.0)
                    for c in range(width):
                        d0 += forces[m, c] * jacobian[place + c]
                    derivatives[m, row, f] = d0
                place += width


def compile_force_losses(jacobian: Float32Array) -> None:
    """Compile the loss, or load it from Numba's cache, so that worker processes find it on disk.

    Args:
        jacobian: of the fit; whether it may be written to decides what is compiled.
    """
    nothing = ForceBatch(
        np.zeros(0, np.int64),
        np.zeros(1, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, 3), np.float32),
        np.zeros(0, np.float32),
    )
    rows = np.zeros((3, 1, 0, 3), np.float32)
    force_losses(jacobian, nothing, rows[0], 1.0, rows[1], rows[2], np.zeros((0, 1, 2)))
