"""Compiled products with the derivatives with respect to strain, which stay where they are, as the Jacobian does.

For each structure of a batch W = Σ g·∂G/∂ε, g = ∂E/∂G, which is the volume times the stress; the loss of its error, and
the derivative of the loss with respect to g. The error counts per atom, as that of an energy does: W does not depend on
how much vacuum is in a cell. Its size is that of the tensor, each component off the diagonal taken twice, so that no
loss depends on the axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.descriptors.kernels.compiling import U, compiled


class StressBatch(NamedTuple):
    """The labels of a batch, and where what belongs to them is."""

    offsets: IntArray  # (n_structures,) where the derivatives of each begin; negative for structures without a stress
    first_atom: IntArray  # (n_structures + 1,) where the atoms of each structure begin in `rows`
    rows: IntArray  # (n_atoms,) the row of each atom in gradients and derivatives
    targets: Float32Array  # (n_structures, 6) volume times stress, per atom, eV
    densities: Float32Array  # (n_structures,) atoms per volume, 1/Å³
    weights: Float32Array  # (n_structures,) of the losses


@compiled
def stress_losses(
    strains: Float32Array,
    batch: StressBatch,
    gradients: Float32Array,
    scale: float,
    predicted: Float32Array,
    derivatives: Float32Array,
    results: NDArray[np.float64],
) -> None:
    """Losses of the stresses of structures, and their derivatives with respect to ∂E/∂G, for each member by itself.

    The loss of a structure is sqrt(1 + |error|² / scale²) - 1; components without a target have no error.

    Args:
        strains: flat; those of structure s are (n, n_features, 6) from offsets[s] on.
        batch: of the structures; several threads may have some each.
        gradients: (n_members, n_rows, n_features) ∂E/∂G, eV.
        scale: eV/atom.
        predicted: (n_members, n_structures, 6) receives the stresses, eV/Å³, zeros without.
        derivatives: (n_members, n_rows, n_features) receives the derivatives, zeros without.
        results: (n_structures, n_members, 2) receives weighted loss, and sum of the squared errors of the six
            components of the stress, (eV/Å³)².
    """
    offsets, first_atom, rows, targets, densities, weights = batch
    n_members, _, n_features = gradients.shape
    factors = np.empty(6, np.float32)
    results[:] = 0.0
    for s in range(offsets.shape[0]):
        begin, n = first_atom[s], first_atom[s + 1] - first_atom[s]
        for m in range(n_members):
            if offsets[s] < 0:
                for i in range(n):
                    derivatives[m, rows[begin + i], :] = np.float32(0.0)
                predicted[m, s, :] = np.float32(0.0)
                continue
            xx = yy = zz = yz = xz = xy = 0.0
            place = U(offsets[s])
            for i in range(n):
                row = rows[begin + i]
                for f in range(U(n_features)):
                    g = gradients[m, row, f]
                    xx += g * strains[place]
                    yy += g * strains[place + U(1)]
                    zz += g * strains[place + U(2)]
                    yz += g * strains[place + U(3)]
                    xz += g * strains[place + U(4)]
                    xy += g * strains[place + U(5)]
                    place += U(6)
            square, squares = 0.0, 0.0
            for v, found in enumerate((xx, yy, zz, yz, xz, xy)):
                error = found / n - targets[s, v]
                if np.isnan(targets[s, v]):
                    error = 0.0
                times = 1.0 if v < 3 else 2.0
                square += times * error * error
                squares += error * error
                factors[v] = np.float32(times * error)
                predicted[m, s, v] = np.float32(found / n * densities[s])
            root = np.sqrt(1.0 + square / (scale * scale))
            results[s, m, 0] = weights[s] * (root - 1.0)
            results[s, m, 1] = squares * densities[s] * densities[s]
            factor = np.float32(weights[s] / (scale * scale * root * n))
            for v in range(6):
                factors[v] *= factor
            place = U(offsets[s])
            for i in range(n):
                row = rows[begin + i]
                for f in range(U(n_features)):
                    derivatives[m, row, f] = (
                        factors[0] * strains[place]
                        + factors[1] * strains[place + U(1)]
                        + factors[2] * strains[place + U(2)]
                        + factors[3] * strains[place + U(3)]
                        + factors[4] * strains[place + U(4)]
                        + factors[5] * strains[place + U(5)]
                    )
                    place += U(6)


def compile_stress_losses(strains: Float32Array) -> None:
    """As `compile_force_losses`, of the stress; `strains` of the fit."""
    nothing = StressBatch(
        np.zeros(0, np.int64),
        np.zeros(1, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, 6), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.float32),
    )
    rows = np.zeros((2, 1, 0, 3), np.float32)
    stress_losses(
        strains, nothing, rows[0], 1.0, np.zeros((1, 0, 6), np.float32), rows[1], np.zeros((0, 1, 2))
    )
