"""Structures as the network sees them: the atoms of each subnet in one flat matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AtomTable:
    """Features of the atoms of many structures, one matrix for each subnet.

    Attributes:
        features: for each subnet (n_atoms of it, n_features), float64 or float32, structures consecutive.
        counts: (n_structures, n_subnets) atoms of each structure that belong to each subnet.
    """

    features: tuple[NDArray[np.floating], ...]
    counts: IntArray

    @classmethod
    def from_rows(
        cls, features: FloatArray, subnet_of_atom: IntArray, n_atoms: IntArray, n_subnets: int
    ) -> AtomTable:
        """Sort the atoms of structures, given one after the other, by subnet.

        Args:
            features: (n_atoms of all, n_features)
            subnet_of_atom: (n_atoms of all,)
            n_atoms: (n_structures,)
            n_subnets: number of subnets.
        """
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        counts = np.bincount(structure * n_subnets + subnet_of_atom, minlength=len(n_atoms) * n_subnets)
        parts = tuple(features[subnet_of_atom == k] for k in range(n_subnets))
        return cls(parts, counts.reshape(len(n_atoms), n_subnets))

    @property
    def n_atoms(self) -> IntArray:
        """(n_structures,) number of atoms."""
        return np.asarray(self.counts.sum(axis=1))

    def select(self, structures: IntArray) -> AtomTable:
        """The table of these structures, in this order."""
        return AtomTable(
            tuple(part[self.rows(k, structures)] for k, part in enumerate(self.features)),
            self.counts[structures],
        )

    def rows(self, subnet: int, structures: IntArray) -> IntArray:
        """Rows of one subnet's matrix that belong to these structures, one structure after the other."""
        counts = self.counts[:, subnet]
        first = np.cumsum(counts) - counts
        chosen = counts[structures]
        before = np.cumsum(chosen) - chosen
        return np.asarray(np.repeat(first[structures] - before, chosen) + np.arange(chosen.sum()))

    def segments(self, subnet: int) -> NDArray[np.int32]:
        """(n_atoms of the subnet,) index of the structure that each row belongs to."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts[:, subnet])

    def transformed(self, functions: Sequence[Callable[[NDArray[np.floating]], FloatArray]]) -> AtomTable:
        """Each matrix mapped by its function, as float32."""
        return AtomTable(
            tuple(
                np.asarray(f(part), dtype=np.float32)
                for f, part in zip(functions, self.features, strict=True)
            ),
            self.counts,
        )
