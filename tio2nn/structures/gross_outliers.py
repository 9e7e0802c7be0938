"""Gross outliers: structures whose energy or forces cannot be physical, judged by the rest of the set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.geometry import closest_pairs, touching_spheres
from tio2nn.structures.outliers import (
    GROSS_ENERGY,
    GROSS_FORCE,
    GROSS_FORCE_FACTOR,
    beyond_factor,
    beyond_gap,
)
from tio2nn.structures.reference_energies import robust_residuals
from tio2nn.structures.structure import Structure
from tio2nn.structures.usual_units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG

# eV/atom; more than any two structures differ by whose atoms all have the same bonds: allotropes and melts of one
# element, ions on wrong sites with like neighbors apart, isomers
_GAP_AMONG_EQUAL_BONDS = 1.0
# Neighbors up to so many sums of covalent radii are bonded: 1.0 in molecules, 1.19 in lithium
_BONDED = 1.3
_REACH = 1.6  # ... and up to here their distances are compared, with like ions beyond the unlike ones
_OVERLAP = 0.5  # ... and nuclei below here are no bond, and would have too many neighbors to count
# A structure has bonds like the others' if their lengths are within the range of the others', up to so much, and their
# numbers, element by element, those of one of them: a radical has other numbers than any of many molecules, but their
# mean is within the range
_LENGTH, _NUMBER = 1.05, 1.1
# ... and its largest force is at most so large, relative to theirs: bonds strained by 1 eV/atom pull
_FORCE = 2.0
# More structures that stand apart are a population of their own; each takes some 2 ms
_MOST_APART, _MOST_APART_OF_ALL, _ALWAYS_APART = 100, 0.1, 2
_FEWEST_OTHERS = 10  # that show what bonds they have
_FEWEST_ALIKE = 3  # others that have the same bonds
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
      it: bonds of the same lengths and numbers as in the rest, element by element, forces at most twice as large;
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
    known = np.flatnonzero(np.isfinite(energies))
    residuals = np.full(len(energies), np.nan)
    residuals[known] = robust_residuals(compositions[known], energies[known])
    gross[known[beyond_gap(residuals[known], GROSS_ENERGY)]] = True
    apart = known[beyond_gap(residuals[known], _GAP_AMONG_EQUAL_BONDS)]
    rest = np.setdiff1d(known, apart)
    if not 0 < len(apart) <= _MOST_APART or len(rest) < _FEWEST_OTHERS:
        return gross
    bonds = {index: _Bonds.of(structures[index]) for index in apart.tolist()}
    # isolated atoms show how far a structure without bonds is, and nothing of the others
    bonded = [index for index, own in bonds.items() if any(own.numbers.values())]
    if len(bonded) > max(_ALWAYS_APART, _MOST_APART_OF_ALL * len(known)):
        return gross
    others = _Others.of(structures, max_forces, rest)
    like = [k for k in bonded if not gross[k] and others.are_like(bonds[k], max_forces[k])]
    # those that have a reason to be far show how far energies reach
    reasonable = residuals[[*rest.tolist(), *(k for k in bonded if k not in like and not gross[k])]]
    low, high = reasonable.min(), reasonable.max()
    gap = max(_GAP_AMONG_EQUAL_BONDS, high - low)
    for k in like:
        gross[k] = not low - gap <= residuals[k] <= high + gap
    return gross


# What makes eV of an energy that was written otherwise; per atom, the factor is their number
_FACTORS = {
    "in Hartree": HARTREE,
    "in Rydberg": RYDBERG,
    "in kcal/mol": KCAL_PER_MOL,
    "in kJ/mol": KJ_PER_MOL,
    "with the other sign": -1.0,
}


def seeming_unit(energy: float, n_atoms: int, baseline: float, usual: tuple[float, float]) -> str:
    """How a wrong energy seems to be written, such as "in Hartree"; "" if nothing or more than one thing explains it.

    Args:
        energy: as it stands, eV.
        n_atoms: of its structure.
        baseline: sum of the reference energies, eV.
        usual: range of the cohesive energies of the others, eV/atom.
    """
    low, high = usual
    found = [
        how
        for how, factor in {**_FACTORS, "per atom": float(n_atoms)}.items()
        if low <= (factor * energy - baseline) / n_atoms <= high
    ]
    return found[0] if len(found) == 1 else ""


_Lengths = dict[tuple[str, str], float]  # Å, of two elements


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

    def are_like(self, own: _Bonds, max_force: float) -> bool:
        """Whether a structure has bonds and forces like theirs; an unknown force, NaN, is like any."""
        return (
            not max_force > _FORCE * self.largest_force
            and self._know(own.shortest, [bonds.shortest for bonds in self.bonds])
            and self._know(own.mean, [bonds.mean for bonds in self.bonds])
            and sum(bonds.are_as_many_as(own) for bonds in self.bonds) >= _FEWEST_ALIKE
        )

    @staticmethod
    def _know(lengths: _Lengths, others: Sequence[_Lengths]) -> bool:
        """Whether all lengths, of which there are some, are within the range of the others' that have such a pair."""
        for pair, length in lengths.items():
            found = [own[pair] for own in others if pair in own]
            if len(found) < _FEWEST_ALIKE or not min(found) / _LENGTH <= length <= max(found) * _LENGTH:
                return False
        return len(lengths) > 0


class _Bonds(NamedTuple):
    """The bonds of a structure; none of one whose nuclei overlap.

    Attributes:
        numbers: of each element, neighbors that are bonded to an atom, on average.
        shortest: of each two elements, distance of the closest pair within reach.
        mean: likewise, mean length of bonds.
    """

    numbers: dict[str, float]
    shortest: _Lengths
    mean: _Lengths

    @classmethod
    def of(cls, structure: Structure) -> _Bonds:
        radii = np.array([COVALENT_RADII[element] for element in structure.elements])
        closest = closest_pairs([structure])
        if closest.distances[0] < _OVERLAP * radii[closest.atoms[0]].sum():
            return cls({}, {}, {})
        atoms, others, vectors = touching_spheres(structure, _REACH * radii)
        lengths = np.sqrt((vectors**2).sum(axis=1))
        is_bond = lengths < _BONDED * (radii[atoms] + radii[others])
        elements, kinds = np.unique(structure.elements, return_inverse=True)
        counts = np.bincount(kinds[atoms[is_bond]], minlength=len(elements)) / np.bincount(kinds)
        shortest: _Lengths = {}
        mean: _Lengths = {}
        for one, other in combinations_with_replacement(range(len(elements)), 2):
            pair = str(elements[one]), str(elements[other])
            own = (kinds[atoms] == one) & (kinds[others] == other)
            if own.any():
                shortest[pair] = float(lengths[own].min())
            if (own & is_bond).any():
                mean[pair] = float(lengths[own & is_bond].mean())
        return cls(dict(zip(elements.tolist(), counts.tolist(), strict=True)), shortest, mean)

    def are_as_many_as(self, other: _Bonds) -> bool:
        """Whether the atoms of each element have as many bonds."""
        return self.numbers.keys() == other.numbers.keys() and all(
            n / _NUMBER <= other.numbers[element] <= n * _NUMBER for element, n in self.numbers.items()
        )
