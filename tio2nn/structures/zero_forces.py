"""Zeros that stand where forces are not known, as some programs write them.

Forces are exactly zero where symmetry makes them so, as on the atoms of a perfect crystal, and where an atom is alone.
They are not on an atom with more neighbors on one side than on the other: a relaxed structure has small forces there.
These may have been rounded to zero, which is believed where all others with the same atoms and forces have more energy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tio2nn.array_types import BoolArray
from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.geometry import touching_spheres
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

# structures; a few molecules may have been relaxed until forces were rounded to zero
FEWEST = 5
# structures with the same atoms and noticeable forces, above which a relaxed one lies; one of no relation to them lies
# there one time in eleven
_FEWEST_ABOVE = 10
_NOTICEABLE = 0.1  # eV/Å; beside smaller ones, forces may be rounded to zero
# Sums of covalent radii within which atoms are neighbors
_REACH = 1.3
# Sum of the directions to the neighbors of an atom, weighted by closeness, over the sum of the weights. 1e-9 in perfect
# crystals; 0.02 for a displacement of 0.01 Å
_ONE_SIDED = 0.02
# Å; by which a coordinate may be off. Where neighbors are hardly within reach, as in stretched crystals, that sum is
# sensitive: of 315 crystals of the elements, with cells from 5 % shorter to 12 % longer and all numbers rounded to
# 0.01 Å, 20 would not be perfect without it, and none with it. Random displacements of 0.02 Å are told all the same
_ROUNDED = 0.005


class Above:
    """Energies of structures with forces, by the atoms that they have."""

    def __init__(self) -> None:
        self._found: dict[tuple[tuple[str, int], ...], tuple[int, float]] = {}

    def add(self, structure: Structure) -> None:
        """Note the energy of a structure if it has noticeable forces."""
        if (
            structure.energy is None
            or structure.forces is None
            or np.abs(structure.forces).max() < _NOTICEABLE
        ):
            return
        n, lowest = self._found.get(key := tuple(structure.composition.items()), (0, np.inf))
        self._found[key] = n + 1, min(lowest, structure.energy)

    def are_relaxed(self, composition: Mapping[str, int], energy: float | None) -> bool:
        """Whether these atoms have forces in many structures and less energy, eV, than in any of them."""
        n, lowest = self._found.get(tuple(composition.items()), (0, np.inf))
        return energy is not None and n >= _FEWEST_ABOVE and energy < lowest


def without_placeholders(structures: Sequence[Structure]) -> tuple[list[Structure], int]:
    """Structures without forces that are zeros in place of unknown ones, and the number of structures that had such.

    Args:
        structures: any.
    """
    above = Above()
    for structure in structures:
        above.add(structure)
    are_placeholders = [
        is_placeholder(s) and not above.are_relaxed(s.composition, s.energy) for s in structures
    ]
    n = sum(are_placeholders)
    if n < FEWEST:
        return list(structures), 0
    pairs = zip(structures, are_placeholders, strict=True)
    return [replace(s, forces=None) if is_one else s for s, is_one in pairs], n


def message(n: int) -> str:
    """One line on the structures whose zero forces are taken as missing."""
    found = f"all forces of {counted(n, 'structure')} are exactly zero, without symmetry that makes them so"
    return f"{found}: taken as missing"


def message_of_frozen(structures: Sequence[Structure]) -> str | None:
    """One line on zeros for single atoms, as some programs write them for frozen ones; None if there are hardly any.

    They are learned all the same. A slab of copper, a third of its atoms frozen, one network, 60 epochs, 100
    structures: energies of others (RMSE) 1.2 meV/atom, on energies alone 2.5, with the true forces 0.2.

    Args:
        structures: without placeholders for all atoms.
    """
    numbers = [_n_frozen(structure) for structure in structures]
    n = sum(number > 0 for number in numbers)
    if n < FEWEST:
        return None
    found = f"forces of {counted(sum(numbers), 'atom')} in {counted(n, 'structure')} are exactly zero, as if frozen"
    return f"{found}: fits learn these zeros; correct them"


def is_placeholder(structure: Structure) -> bool:
    """Whether all forces are zero though no symmetry makes them so."""
    if structure.forces is None or structure.forces.any():
        return False
    return bool(_are_one_sided(structure).any())


def _n_frozen(structure: Structure) -> int:
    """Number of atoms without force that no symmetry explains, among others with noticeable forces."""
    if structure.forces is None or np.abs(structure.forces).max() < _NOTICEABLE:
        return 0
    are_zero = ~structure.forces.any(axis=1)
    return int(np.count_nonzero(are_zero & _are_one_sided(structure))) if are_zero.any() else 0


def _are_one_sided(structure: Structure) -> BoolArray:
    """(n_atoms,) whether an atom has more or closer neighbors on one side than on the other."""
    radii = _REACH * np.array([COVALENT_RADII[element] for element in structure.elements])
    atoms, others, vectors = touching_spheres(structure, radii)
    distances = np.linalg.norm(vectors, axis=1)
    reach = radii[atoms] + radii[others]
    left = 1.0 - distances / reach
    closeness = left**2
    weights = np.bincount(atoms, closeness, structure.n_atoms)
    slopes = np.bincount(atoms, 2.0 * left / reach, structure.n_atoms)
    directions = vectors / np.maximum(distances, 1e-9)[:, None]
    sums = [np.bincount(atoms, closeness * axis, structure.n_atoms) for axis in directions.T]
    allowed = np.maximum(_ONE_SIDED * weights, _ROUNDED * slopes)
    return np.asarray(np.linalg.norm(sums, axis=0) > allowed)
