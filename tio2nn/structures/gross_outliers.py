"""Gross outliers: structures whose energy or forces cannot be physical, judged by the rest of the set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.geometry import touching_spheres
from tio2nn.structures.outliers import (
    GROSS_ENERGY,
    GROSS_FORCE,
    GROSS_FORCE_FACTOR,
    beyond_factor,
    beyond_gap,
)
from tio2nn.structures.reference_energies import robust_residuals
from tio2nn.structures.structure import Structure

# eV/atom; more than any two structures differ by whose atoms all have the same bonds: allotropes and melts of one
# element, ions on wrong sites with like neighbors apart, isomers
_GAP_AMONG_EQUAL_BONDS = 1.0
# Neighbors up to so many sums of covalent radii are bonded: 1.0 in molecules, 1.19 in lithium
_BONDED = 1.3
_REACH = 1.6  # ... and up to here their distances are compared, with like ions beyond the unlike ones
# A structure has bonds like the others' if their lengths and number are within the range of the others', up to so much
_LENGTH, _NUMBER = 1.05, 1.1
# ... and its largest force is at most so large, relative to theirs: bonds strained by 1 eV/atom pull
_FORCE = 2.0
# More structures that stand apart are a population of their own; each takes some 2 ms
_MOST_APART, _MOST_APART_OF_ALL = 100, 0.1
_FEWEST_OTHERS = 10  # that show what bonds they have
_FEWEST_WITH_PAIR = 3  # others that have two elements next to each other, to know their distances
_MOST_COMPARED = 200


def gross_outliers(
    structures: Sequence[Structure],
    compositions: NDArray[np.integer],
    energies: FloatArray,
    max_forces: FloatArray,
) -> BoolArray:
    """Structures whose energy or forces cannot be physical, judged by the rest of the set.

    A structure is a gross outlier

    - if its energy per atom, relative to robust reference energies of the set, is separated from the rest by more
      than `GROSS_ENERGY` and more than the spread of the rest;
    - if the gap is wider than 1 eV/atom and than the spread of the rest, but the structure has nothing that explains
      it: the same elements, bonds of the same lengths and number as in the rest, forces at most twice as large;
    - if its largest force exceeds `GROSS_FORCE` and `GROSS_FORCE_FACTOR` times the largest force of all others.

    At most a quarter of the set are outliers on either side; sets of fewer than `FEWEST` structures have none.

    Args:
        structures: only those that are compared are looked at.
        compositions: (n_structures, n_elements) number of atoms of each element.
        energies: (n_structures,) total energies, eV; NaN where unknown.
        max_forces: (n_structures,) length of the largest force on an atom, eV/Å; NaN without forces.

    Returns:
        (n_structures,)
    """
    gross = beyond_factor(max_forces, GROSS_FORCE_FACTOR, GROSS_FORCE)
    known = np.flatnonzero(~np.isnan(energies))
    residuals = robust_residuals(compositions[known], energies[known])
    gross[known[beyond_gap(residuals, GROSS_ENERGY)]] = True
    apart = beyond_gap(residuals, _GAP_AMONG_EQUAL_BONDS)
    rest = known[~apart]
    if not 0 < np.count_nonzero(apart) <= min(_MOST_APART, _MOST_APART_OF_ALL * len(known)):
        return gross
    if len(rest) < _FEWEST_OTHERS:
        return gross
    others = _Others.of(structures, max_forces, rest)
    # those that have a reason to be far show how far energies reach
    like = apart.copy()
    for k in np.flatnonzero(apart).tolist():
        index = int(known[k])
        like[k] = not gross[index] and others.are_like(structures[index], max_forces[index])
    reasonable = residuals[~like & ~gross[known]]
    low, high = reasonable.min(), reasonable.max()
    gap = max(_GAP_AMONG_EQUAL_BONDS, high - low)
    gross[known[like & ((residuals < low - gap) | (residuals > high + gap))]] = True
    return gross


class _Others(NamedTuple):
    """What structures have in common.

    Attributes:
        bonds: of some of them.
        largest_force: of all, eV/Å; inf without forces.
    """

    bonds: list[_Bonds]
    largest_force: float

    @classmethod
    def of(cls, structures: Sequence[Structure], max_forces: FloatArray, which: IntArray) -> _Others:
        shown = np.unique(np.linspace(0, len(which) - 1, min(len(which), _MOST_COMPARED)).astype(int))
        bonds = [_Bonds.of(structures[index]) for index in which[shown].tolist()]
        known = max_forces[which[~np.isnan(max_forces[which])]]
        return cls(bonds, float(known.max()) if len(known) else np.inf)

    def are_like(self, structure: Structure, max_force: float) -> bool:
        """Whether a structure has bonds and forces like theirs; an unknown force, NaN, is like any."""
        if max_force > _FORCE * self.largest_force:
            return False
        own = _Bonds.of(structure)
        return _is_within(own.number, [bonds.number for bonds in self.bonds], _NUMBER) and all(
            _is_within(
                length, [bonds.shortest[pair] for bonds in self.bonds if pair in bonds.shortest], _LENGTH
            )
            for pair, length in own.shortest.items()
        )


def _is_within(value: float, others: Sequence[float], factor: float) -> bool:
    return len(others) >= _FEWEST_WITH_PAIR and min(others) / factor <= value <= max(others) * factor


class _Bonds(NamedTuple):
    """The bonds of a structure.

    Attributes:
        number: neighbors that are bonded to an atom, on average.
        shortest: distance of the closest pair of two elements, Å, of those within reach.
    """

    number: float
    shortest: dict[tuple[str, str], float]

    @classmethod
    def of(cls, structure: Structure) -> _Bonds:
        radii = np.array([COVALENT_RADII[element] for element in structure.elements])
        atoms, others, vectors = touching_spheres(structure, _REACH * radii)
        lengths = np.sqrt((vectors**2).sum(axis=1))
        n_bonded = int(np.count_nonzero(lengths < _BONDED * (radii[atoms] + radii[others])))
        shortest: dict[tuple[str, str], float] = {}
        elements, kinds = np.unique(structure.elements, return_inverse=True)
        codes = np.minimum(kinds[atoms], kinds[others]) * len(elements) + np.maximum(
            kinds[atoms], kinds[others]
        )
        for code in np.unique(codes).tolist():
            one, other = divmod(code, len(elements))
            shortest[str(elements[one]), str(elements[other])] = float(lengths[codes == code].min())
        return cls(n_bonded / structure.n_atoms, shortest)
