"""Zeros that stand where forces or the stress are not known, as some programs write them.

Forces are exactly zero where symmetry makes them so, as on the atoms of a perfect crystal, and where an atom is alone.
They are not on an atom with more neighbors on one side than on the other: a relaxed structure has small forces there.
The stress of bonded atoms is never exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
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


class WithoutPlaceholders(NamedTuple):
    """Structures, and how many of them lost forces or stresses that were zeros in place of unknown ones."""

    structures: list[Structure]
    n_forces: int
    n_stresses: int


def without_placeholders(structures: Sequence[Structure]) -> WithoutPlaceholders:
    """Take zeros that no geometry explains for missing labels, if there are at least five such structures."""
    without_forces = _chosen([_has_wrong_forces(structure) for structure in structures])
    without_stress = _chosen([_has_wrong_stress(structure) for structure in structures])
    found = list(structures)
    for k in without_forces:
        found[k] = replace(found[k], forces=None)
    for k in without_stress:
        found[k] = replace(found[k], stress=None)
    return WithoutPlaceholders(found, len(without_forces), len(without_stress))


def _chosen(are_wrong: Sequence[bool]) -> list[int]:
    chosen = [k for k, is_wrong in enumerate(are_wrong) if is_wrong]
    return chosen if len(chosen) >= _FEWEST else []


class _Surroundings(NamedTuple):
    """What the neighbors of each atom weigh, and the sum of the directions to them with these weights."""

    weights: FloatArray  # (n_atoms,)
    sums: FloatArray  # (n_atoms, 3)


def _surroundings(structure: Structure) -> _Surroundings:
    radii = _REACH * np.array([COVALENT_RADII[element] for element in structure.elements])
    atoms, others, vectors = touching_spheres(structure, radii)
    distances = np.linalg.norm(vectors, axis=1)
    closeness = (1.0 - distances / (radii[atoms] + radii[others])) ** 2
    directions = vectors / np.maximum(distances, 1e-9)[:, None]
    return _Surroundings(
        np.bincount(atoms, closeness, structure.n_atoms).astype(np.float64),
        np.stack([np.bincount(atoms, closeness * axis, structure.n_atoms) for axis in directions.T], axis=1),
    )


def _has_wrong_forces(structure: Structure) -> bool:
    if structure.forces is None or structure.forces.any():
        return False
    weights, sums = _surroundings(structure)
    return bool((np.linalg.norm(sums, axis=1) > _ONE_SIDED * weights).any())


def _has_wrong_stress(structure: Structure) -> bool:
    if structure.stress is None or structure.stress.any():
        return False
    return bool(_surroundings(structure).weights.any())
