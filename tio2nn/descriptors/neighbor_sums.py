"""Which sums over neighbors there are: one for each element, or one for all of them, weighted or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.arguments import Around
from tio2nn.descriptors.neighbors import NeighborList
from tio2nn.structures.elements import ATOMIC_NUMBERS


@dataclass(frozen=True)
class NeighborSums:
    """Which sums over neighbors the functions of one sort are.

    Attributes:
        n_kinds: how many kinds of neighbors have sums of their own: those of the neighbor list, or 1.
        weights: (n_kinds of the neighbor list,) factor of a neighbor of each kind; None where all are 1.
    """

    n_kinds: int
    weights: FloatArray | None

    @classmethod
    def of(cls, choice: str, elements: Sequence[str], n_kinds: int) -> NeighborSums:
        """By `ParameterSet.radial_elements` or `angular_elements`; kinds are those of the neighbor list."""
        if choice == "weighted":
            return cls(1, np.array([float(ATOMIC_NUMBERS[element]) for element in elements]))
        return cls(1 if choice == "blind" else n_kinds, None)

    def around(self, neighbors: NeighborList) -> Around:
        """The neighbors as the kernels take them."""
        if self.weights is None:
            weights = np.ones(len(neighbors.vectors))
        else:
            weights = np.repeat(np.tile(self.weights, neighbors.n_atoms), np.diff(neighbors.first))
        # the neighbors of an atom follow one another, kind by kind
        is_whole = self.n_kinds == neighbors.n_kinds
        first = neighbors.first if is_whole else neighbors.first[:: neighbors.n_kinds].copy()
        return Around(first, neighbors.vectors, weights, self.n_kinds)
