"""Energies of atoms from neighbors that another program found, with derivatives by the vectors to them.

That is what a program needs that divides space among processes: each has its own atoms and images of those around, and
adds up forces itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK, NeighborList
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.potential.potential import Potential


class Neighborhoods(NamedTuple):
    """Atoms and their neighbors within the cutoff, each pair from both ends that are centers.

    Elements are places in `Potential.elements`.
    """

    elements: IntArray  # (n_centers,) of each center
    centers: IntArray  # (n_pairs,) the center of each pair, ascending
    neighbors: IntArray  # (n_pairs,) the element of its neighbor
    vectors: FloatArray  # (n_pairs, 3) from center to neighbor, Å


class PairGradients(NamedTuple):
    """Energies of centers and their derivatives, means of the committee."""

    energies: FloatArray  # (n_centers,) eV, reference energies and repulsion included
    gradients: FloatArray  # (n_pairs, 3) derivative of the center's energy by the vector, eV/Å


class PairPotential:
    """A potential for neighbors that another program found."""

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self._calculator = SymmetryCalculator(potential.parameters)
        self._references = np.array([potential.reference_energies[element] for element in potential.elements])

    def __call__(self, atoms: Neighborhoods) -> PairGradients:
        """Energies of the centers and their derivatives.

        Raises:
            InputError: a result that is no prediction, as `Prediction.unusable`.
        """
        energies = np.empty(len(atoms.elements))
        gradients = np.empty(atoms.vectors.shape)
        for first in range(0, len(energies), CENTERS_PER_BLOCK):
            own = slice(first, min(first + CENTERS_PER_BLOCK, len(energies)))
            pairs = slice(*np.searchsorted(atoms.centers, (own.start, own.stop)).tolist())
            block = Neighborhoods(
                atoms.elements[own],
                atoms.centers[pairs] - first,
                atoms.neighbors[pairs],
                atoms.vectors[pairs],
            )
            energies[own], gradients[pairs] = self._networks(block)
        self._check(energies, gradients)
        energies += self._references[atoms.elements]
        if (repulsion := self.potential.repulsion) is not None:
            halves, slopes = repulsion.of_neighbors(
                atoms.elements[atoms.centers], atoms.neighbors, atoms.vectors
            )
            energies += np.bincount(atoms.centers, halves, len(energies))
            gradients += slopes
        return PairGradients(energies, gradients)

    @np.errstate(over="ignore", invalid="ignore")  # see `_check`
    def _networks(self, block: Neighborhoods) -> PairGradients:
        """Energies relative to the reference energies."""
        order, listed = self._list(block)
        features = self._calculator.of_neighbors(listed)
        found = self.potential.networks.evaluate_atoms(
            [block.elements], features, with_gradients=True, with_distances=False
        )
        gradients = np.empty(block.vectors.shape)
        gradients[order] = self._calculator.pair_gradients(listed, found.weights)[0]
        return PairGradients(found.atomic.mean(axis=0), gradients)

    def _list(self, block: Neighborhoods) -> tuple[IntArray, NeighborList]:
        """The pairs as the kernels want them, kind by kind, and the place that each had."""
        n_kinds = self._calculator.n_kinds
        rows = block.centers * n_kinds + (block.neighbors if n_kinds > 1 else 0)
        order = np.argsort(rows, kind="stable")
        n_centers = len(block.elements)
        first = np.searchsorted(rows[order], np.arange(n_centers * n_kinds + 1)).astype(np.int64)
        vectors = np.ascontiguousarray(block.vectors[order], np.float64)
        return order, NeighborList(0, n_centers, n_kinds, first, vectors, order.astype(np.int64))

    def _check(self, energies: FloatArray, gradients: FloatArray) -> None:
        for name, values in (("energy", energies), ("forces", gradients)):
            if not np.isfinite(values).all():
                raise InputError(f"cannot predict the {name}: the result is not finite")
        mean = abs(float(energies.mean())) if len(energies) else 0.0
        if mean > (limit := self.potential.limits.energy):
            raise InputError(
                f"cannot predict the energy: the result, {mean:.3g} eV/atom from the reference energies, exceeds the "
                f"limit of {limit:.4g}; the structure is unlike the training set"
            )
