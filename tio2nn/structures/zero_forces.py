"""Zeros that stand where forces are not known, as some programs write them.

Forces are exactly zero where symmetry makes them so, as on the atoms of a perfect crystal, and where an atom is alone.
They are not on an atom with more neighbors on one side than on the other: a relaxed structure has small forces there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tio2nn.structures.elements import COVALENT_RADII
from tio2nn.structures.geometry import touching_spheres
from tio2nn.structures.structure import Structure

# structures; a few molecules may have been relaxed until forces were rounded to zero
_FEWEST = 5
# Sums of covalent radii within which atoms are neighbors
_REACH = 1.3
# Sum of the directions to the neighbors of an atom, weighted by closeness, over the sum of the weights. 1e-9 in perfect
# crystals; 0.02 for a displacement of 0.01 Å
_ONE_SIDED = 0.02


def without_placeholders(structures: Sequence[Structure]) -> tuple[list[Structure], int]:
    """Structures without forces that are zeros in place of unknown ones, and the number of structures that had such.

    Args:
        structures: any.
    """
    are_placeholders = [_is_placeholder(structure) for structure in structures]
    n = sum(are_placeholders)
    if n < _FEWEST:
        return list(structures), 0
    pairs = zip(structures, are_placeholders, strict=True)
    return [replace(s, forces=None) if is_placeholder else s for s, is_placeholder in pairs], n


def _is_placeholder(structure: Structure) -> bool:
    if structure.forces is None or structure.forces.any():
        return False
    radii = _REACH * np.array([COVALENT_RADII[element] for element in structure.elements])
    atoms, others, vectors = touching_spheres(structure, radii)
    distances = np.linalg.norm(vectors, axis=1)
    closeness = (1.0 - distances / (radii[atoms] + radii[others])) ** 2
    weights = np.bincount(atoms, closeness, structure.n_atoms)
    directions = vectors / np.maximum(distances, 1e-9)[:, None]
    sums = [np.bincount(atoms, closeness * axis, structure.n_atoms) for axis in directions.T]
    return bool((np.linalg.norm(sums, axis=0) > _ONE_SIDED * weights).any())
