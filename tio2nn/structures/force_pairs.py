"""Pairs of structures with the same atoms in one cell, and how forces and energies change from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.geometry import complete_cell
from tio2nn.structures.groups import Groups
from tio2nn.structures.structure import Structure

_MOST_PAIRS = 2000  # more add nothing; each takes 30 µs
_LARGEST_STEP = 1.0  # Å; the trapezoidal rule does not hold beyond it


class Pairs(NamedTuple):
    """One row for each pair.

    Attributes:
        differences: (n_pairs,) of energies, eV.
        at_ends: (n_pairs, 2) work of the forces of each structure, eV.
        n_atoms: (n_pairs,)
        ends: (n_pairs, 2) indices of the structures.
    """

    differences: FloatArray
    at_ends: FloatArray
    n_atoms: FloatArray
    ends: IntArray

    @property
    def work(self) -> FloatArray:
        """Mean of both ends."""
        return np.asarray(self.at_ends.mean(axis=1))

    def among(self, chosen: BoolArray) -> Pairs:
        """Those of them that are chosen, by (n_pairs,)."""
        return Pairs(self.differences[chosen], self.at_ends[chosen], self.n_atoms[chosen], self.ends[chosen])


def to_compare(structures: Sequence[Structure], groups: Groups) -> list[Structure]:
    """Structures with energy and forces, each geometry once.

    Args:
        structures: in natural order.
        groups: their groups.
    """
    return [
        structure
        for structure, duplicate_of in zip(structures, groups.duplicate_of.tolist(), strict=True)
        if duplicate_of < 0 and structure.energy is not None and structure.forces is not None
    ]


def pairs_of(structures: Sequence[Structure]) -> Pairs:
    """Consecutive pairs among the structures with the same atoms in the same cell.

    Args:
        structures: with energies and forces.
    """
    last: dict[object, int] = {}
    pairs = []
    for index, structure in enumerate(structures):
        # to the mÅ; non-periodic cell vectors do not count
        cell = tuple(np.rint(structure.cell[list(structure.periodic)] * 1e3).ravel().tolist())
        where = structure.file if not any(structure.periodic) else None
        key = (structure.elements, structure.periodic, cell, where)
        if (before := last.get(key)) is not None:
            pairs.append((before, index))
        last[key] = index
    if len(pairs) > _MOST_PAIRS:
        pairs = [pairs[k * len(pairs) // _MOST_PAIRS] for k in range(_MOST_PAIRS)]
    found = [_row(structures, *pair) for pair in pairs]
    table = np.array([row for row in found if row is not None], dtype=np.float64).reshape(-1, 6)
    return Pairs(table[:, 0], table[:, 1:3], table[:, 3], table[:, 4:].astype(np.int64))


def step_between(one: Structure, other: Structure) -> FloatArray:
    """(n_atoms, 3) shortest displacements from one structure to another with its atoms and cell, Å."""
    step = other.positions - one.positions
    if any(one.periodic):
        cell = complete_cell(one.cell, one.periodic)
        step = step - np.rint(step @ np.linalg.inv(cell)) * one.periodic @ cell
    return np.asarray(step)


def weighted_median(values: FloatArray, weights: FloatArray) -> float:
    """The value up to which half the weight is; both (n_values,)."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, 0.5 * below[-1])])


def _row(structures: Sequence[Structure], first: int, second: int) -> tuple[float, ...] | None:
    """Energy difference, work at both ends, number of atoms, and the pair; None if atoms moved too far."""
    one, other = structures[first], structures[second]
    assert one.energy is not None
    assert one.forces is not None
    assert other.energy is not None
    assert other.forces is not None
    step = step_between(one, other)
    if (step**2).sum(axis=1).max() > _LARGEST_STEP**2:
        return None
    of_one, of_other = (-float((forces * step).sum()) for forces in (one.forces, other.forces))
    return other.energy - one.energy, of_one, of_other, float(one.n_atoms), float(first), float(second)
