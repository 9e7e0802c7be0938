"""Screened nuclear repulsion (ZBL) of atoms closer than any in the training set, where networks are untrained.

E(r) = Z_i Z_j e² / (4π ε₀ r) φ(r / a) + S(r), φ a sum of four exponentials, a = 0.4685 Å / (Z_i^0.23 + Z_j^0.23)

J. F. Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of Ions in Matter (1985). S(r) takes energy, force
and curvature to zero between an inner and an outer radius: a constant below the inner radius, t³ (A/3 + B/4 t) + C with
t = r - inner above. Constants and S are those of LAMMPS's `pair_style zbl` in metal units.

The outer radius of a pair of elements is 0.85 of their smallest distance in the training set, so the repulsion is zero
in all training structures, and the fit does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.batches import batches
from tio2nn.descriptors.neighbors import ClosePairs, neighbor_lists
from tio2nn.structures.elements import ATOMIC_NUMBERS, COVALENT_RADII
from tio2nn.structures.structure import Structure

_COULOMB = 14.399645  # e² / (4π ε₀), eV Å
_SCREENING_LENGTH = 0.46850  # Å
_SCREENING_POWER = 0.23
_AMPLITUDES = np.array([0.02817, 0.28022, 0.50986, 0.18175])
_DECAYS = np.array([0.20162, 0.40290, 0.94229, 3.19980])

INNER = 0.7  # of the outer radius
# Outer radius over the smallest training distance. For a few percent below that distance, networks extrapolate bonds
# better than a model of colliding nuclei: molecules displaced by 0.09 Å have
# errors of 5.0 meV/atom and 0.46 eV/Å (RMSE) without repulsion and with 0.85, 5.5 and 0.72 with 0.9, 69 and 6.1 with
# 1.
_OF_CLOSEST = 0.85
_OF_COVALENT_RADII = 0.7  # outer radius of a pair without training distances: bonds are not shorter

# Relative; distances in equal crystals differ by rounding in files and by the choice of the cell
_ROUNDING = 1e-8

# Ratio of successive search radii: the cost of a search grows with the cube of its radius
_WIDER = 1.5


class Repelled(NamedTuple):
    """Repulsion of the atoms in a batch of structures, or of some of them."""

    energies: FloatArray  # (n_atoms,) half of each pair energy, eV
    gradient: FloatArray  # (n_atoms, 3) ∂E/∂R, eV/Å
    strain: FloatArray  # (n_atoms, 3, 3) contribution of each atom to ∂E/∂strain, eV

    def of(self, atoms: slice) -> Repelled:
        """The repulsion of some atoms."""
        return Repelled(*(array[atoms] for array in self))


@dataclass(frozen=True)
class Repulsion:
    """The repulsion between all pairs of some elements.

    Attributes:
        elements: chemical symbols.
        outer: (n_elements, n_elements) symmetric, Å; the repulsion is zero at and beyond this distance.
    """

    elements: tuple[str, ...]
    outer: FloatArray

    @classmethod
    def beyond(cls, structures: Sequence[Structure], elements: tuple[str, ...], cutoff: float) -> Repulsion:
        """The repulsion below the smallest distances of some structures.

        The outer radius of a pair of elements without a distance within the cutoff is 0.7 times the sum of covalent
        radii, or the cutoff if that is less.

        Args:
            structures: the training set.
            elements: all their elements.
            cutoff: of the symmetry functions, Å.
        """
        closest = closest_distances(structures, elements, cutoff) * (_OF_CLOSEST * (1.0 - _ROUNDING))
        bonds = _sums_of_radii(elements)
        return cls(
            elements, np.where(np.isfinite(closest), closest, np.minimum(_OF_COVALENT_RADII * bonds, cutoff))
        )

    @property
    def closest(self) -> FloatArray:
        """(n_elements, n_elements) smallest training distances, Å, or their substitutes."""
        return np.asarray(self.outer / _OF_CLOSEST)

    @property
    def reach(self) -> float:
        """Largest outer radius, Å."""
        return float(self.outer.max())

    def __call__(self, structures: Sequence[Structure], pairs: ClosePairs) -> Repelled | None:
        """Energies, gradient and strain of a batch.

        Args:
            structures: of the batch.
            pairs: all pairs closer than `reach`, from both ends.

        Returns:
            None if no pair is within its outer radius.
        """
        if not len(pairs.centers):
            return None
        place = {element: k for k, element in enumerate(self.elements)}
        kinds = np.array([place[element] for structure in structures for element in structure.elements])
        distances = np.sqrt(np.einsum("ij,ij->i", pairs.vectors, pairs.vectors))
        one, other = kinds[pairs.centers], kinds[pairs.atoms]
        close = distances < self.outer[one, other]
        if not close.any():
            return None
        # sorted, so that the bits do not depend on the neighbor search
        order = np.flatnonzero(close)
        order = order[np.lexsort((distances[order], other[order], pairs.centers[order]))]
        centers, vectors, distances = pairs.centers[order], pairs.vectors[order], distances[order]
        energies, slopes = self._of_pairs(one[order], other[order], distances)
        directions = vectors / distances[:, None]
        n_atoms = len(kinds)
        # each pair comes from both ends: half of its energy belongs to each, and the whole force acts on the center
        pulls = -slopes[:, None] * directions
        strains = 0.5 * slopes[:, None, None] * vectors[:, :, None] * directions[:, None, :]
        return Repelled(
            _sums(centers, 0.5 * energies[:, None], n_atoms)[:, 0],
            _sums(centers, pulls, n_atoms),
            _sums(centers, strains.reshape(-1, 9), n_atoms).reshape(-1, 3, 3),
        )

    def of_structure(self, structure: Structure) -> Repelled | None:
        """As for a batch, with its own neighbor search.

        Raises:
            InputError: two atoms at the same position, or a cell that spans no volume.
        """
        kinds = np.zeros(structure.n_atoms, dtype=np.int64)
        lists = neighbor_lists([structure], self.reach, kinds, 1)
        return self([structure], ClosePairs.joined([neighbors.within(self.reach) for neighbors in lists]))

    def of_neighbors(
        self, one: IntArray, other: IntArray, vectors: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The halves of pair energies that belong to one end, and their derivatives.

        Args:
            one, other: (n_pairs,) places of the elements of center and neighbor in `elements`.
            vectors: (n_pairs, 3) from center to neighbor, Å.

        Returns:
            energies: (n_pairs,) eV.
            gradients: (n_pairs, 3) by the vectors, eV/Å.
        """
        energies, gradients = np.zeros(len(vectors)), np.zeros((len(vectors), 3))
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        close = np.flatnonzero(distances < self.outer[one, other])
        halves, slopes = self._of_pairs(one[close], other[close], distances[close])
        energies[close] = 0.5 * halves
        gradients[close] = (0.5 * slopes / distances[close])[:, None] * vectors[close]
        return energies, gradients

    def _of_pairs(self, one: IntArray, other: IntArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies of pairs at distances r and their derivatives, eV and eV/Å."""
        tables = self._tables
        energies, slopes, _ = _screened(tables.charges[one, other], tables.inverse_lengths[one, other], r)
        # the constant holds from zero to the outer radius
        t = np.maximum(r - INNER * self.outer[one, other], 0.0)
        a, b = tables.cubic[one, other], tables.quartic[one, other]
        energies = energies + tables.constant[one, other] + t**3 * (a / 3.0 + b / 4.0 * t)
        return energies, slopes + t**2 * (a + b * t)

    @cached_property
    def _tables(self) -> _Tables:
        numbers = np.array([ATOMIC_NUMBERS[element] for element in self.elements], dtype=np.float64)
        charges = _COULOMB * np.multiply.outer(numbers, numbers)
        powers = numbers**_SCREENING_POWER
        inverse_lengths = np.add.outer(powers, powers) / _SCREENING_LENGTH
        width = (1.0 - INNER) * self.outer
        f, slope, curvature = (
            table.reshape(self.outer.shape)
            for table in _screened(charges.ravel(), inverse_lengths.ravel(), self.outer.ravel())
        )
        return _Tables(
            charges,
            inverse_lengths,
            cubic=(-3.0 * slope + width * curvature) / width**2,
            quartic=(2.0 * slope - width * curvature) / width**3,
            constant=-f + width / 2.0 * slope - width**2 / 12.0 * curvature,
        )


class _Tables(NamedTuple):
    """Constants of each pair of elements, (n_elements, n_elements)."""

    charges: FloatArray  # eV Å
    inverse_lengths: FloatArray  # 1/Å
    cubic: FloatArray  # A, eV/Å³
    quartic: FloatArray  # B, eV/Å⁴
    constant: FloatArray  # C, eV


def _screened(
    charges: FloatArray, inverse_lengths: FloatArray, r: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Screened Coulomb energies of pairs, first and second derivatives; (n_pairs,) each."""
    decays = _DECAYS * inverse_lengths[:, None]
    terms = _AMPLITUDES * np.exp(-decays * r[:, None])
    # summed in a fixed order, so that the bits of a pair do not depend on other pairs
    phi, first, second = (_row_sums(terms * decays**power) for power in range(3))
    return (
        charges * phi / r,
        -charges * (first + phi / r) / r,
        charges * (second + 2.0 * (first + phi / r) / r) / r,
    )


def _row_sums(terms: FloatArray) -> FloatArray:
    return np.asarray(terms[:, 0] + terms[:, 1] + terms[:, 2] + terms[:, 3])


def _sums(atoms: IntArray, rows: FloatArray, n_atoms: int) -> FloatArray:
    """(n_atoms, n_columns) sums over the rows of each atom."""
    return np.stack([np.bincount(atoms, column, n_atoms) for column in rows.T], axis=1)


def _sums_of_radii(elements: Sequence[str]) -> FloatArray:
    radii = np.array([COVALENT_RADII[element] for element in elements])
    return np.asarray(np.add.outer(radii, radii))


def closest_distances(structures: Sequence[Structure], elements: Sequence[str], cutoff: float) -> FloatArray:
    """The smallest distance of each pair of elements, periodic images included.

    7,000 structures of TiO2 take a second: neighbors are searched within a bond length, and farther only for pairs of
    elements without a distance so far, in structures that contain both.

    Args:
        structures: any.
        elements: all their elements.
        cutoff: the largest distance of interest, Å.

    Returns:
        (n_elements, n_elements) symmetric, Å; inf without a distance within the cutoff.

    Raises:
        InputError: as for a neighbor search.
    """
    n = len(elements)
    place = {element: k for k, element in enumerate(elements)}
    closest = np.full((n, n), np.inf)
    present = np.array(
        [[element in structure.composition for element in elements] for structure in structures]
    )
    if not len(structures):
        return closest
    together = (present.T.astype(float) @ present) > 0
    radius = min(float(_sums_of_radii(elements)[together].max()), cutoff)
    chosen = np.arange(len(structures))
    while len(chosen):
        # one after the other, as those of a project are made when they are asked for
        for batch in batches(structures[k] for k in chosen.tolist()):
            kinds = np.array([place[element] for s in batch for element in s.elements], dtype=np.int64)
            for neighbors in neighbor_lists(batch, radius, np.zeros_like(kinds), 1):
                pairs = neighbors.within(radius)
                squares = np.einsum("ij,ij->i", pairs.vectors, pairs.vectors)
                np.minimum.at(closest, (kinds[pairs.centers], kinds[pairs.atoms]), np.sqrt(squares))
        missing = together & ~np.isfinite(closest)
        if radius >= cutoff or not missing.any():
            break
        radius = min(_WIDER * radius, cutoff)
        chosen = np.flatnonzero(((present @ missing.astype(float)) * present).any(axis=1))
    return np.asarray(np.minimum(closest, closest.T))
