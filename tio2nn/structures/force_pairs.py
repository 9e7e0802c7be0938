"""Pairs of structures with the same atoms in one cell, and how forces and energies change from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.geometry import complete_cell, molecules
from tio2nn.structures.groups import Groups
from tio2nn.structures.structure import Structure

_MOST_PAIRS = 2000  # more add nothing; each takes 30 µs, of molecules 70 µs and more
_LARGEST_STEP = 1.0  # Å; the trapezoidal rule does not hold beyond it
# Å between a molecule and its images, or another one, from which on it may turn by itself. Of water at 300 and 1,500 K
# and 20 fs between frames, bonds seem to change by the chord of the turn: right forces of 5 of 12 trajectories
# contradicted the energies, and none do without the turn. So did those of 3 of 6 trajectories of two or three such
# molecules, 6 or 8 Å apart, at 300 K, and none do
_ALONE = 4.0
_HARDLY = 1e-9
# sum of the changes of forces along displacements, over the sum of sizes: near 1 for right forces, but for paths over
# saddles; 0.5 at most for 19 of 20 sets with forces of other atoms
_DRAWN_BACK = 0.5


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

    @property
    def draw_back(self) -> bool:
        """Whether forces change against the displacements, as around a minimum of the energy."""
        changes = self.at_ends[:, 1] - self.at_ends[:, 0]
        return bool(changes.sum() >= _DRAWN_BACK * np.abs(changes).sum())

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


class Move(NamedTuple):
    """From one structure to another with its atoms and cell.

    Attributes:
        step: (n_atoms, 3) shortest displacements, Å; of molecules, those that no rotation explains.
        before, after: (n_atoms, 3) forces, turned as the molecules, eV/Å.
        largest: displacement of an atom, of a molecule relative to the atom that moves least, Å.
    """

    step: FloatArray
    before: FloatArray
    after: FloatArray
    largest: float

    @classmethod
    def between(cls, one: Structure, other: Structure) -> Move:
        """Of two structures with forces."""
        assert one.forces is not None
        assert other.forces is not None
        step = other.positions - one.positions
        if any(one.periodic):
            cell = complete_cell(one.cell, one.periodic)
            step = step - np.rint(step @ np.linalg.inv(cell)) * one.periodic @ cell
        if (places := _of_molecule(one)) is None:
            return cls(np.asarray(step), one.forces, other.forces, _longest(step))
        others = _centered(places + step)
        turn = _turn(others, places)
        others, after = others @ turn, np.asarray(other.forces @ turn)
        for own in _far_apart(places):
            center = others[own].mean(axis=0)
            turn = _turn(others[own] - center, _centered(places[own]))
            others[own] = (others[own] - center) @ turn + center
            after[own] = after[own] @ turn
        step = others - places
        # both atoms of a dimer move
        stillest = step[np.argmin((step**2).sum(axis=1))]
        return cls(step, one.forces, after, _longest(step - stillest))


def _of_molecule(structure: Structure) -> FloatArray | None:
    """(n_atoms, 3) places about the center of atoms that are alone, or far from their images; else None."""
    places = structure.positions - structure.positions[0]
    if any(structure.periodic):
        cell = complete_cell(structure.cell, structure.periodic)
        inverse = np.linalg.inv(cell)
        fractions = places @ inverse
        fractions -= np.rint(fractions) * structure.periodic
        # planes of neighboring images are 1 / |column of the inverse| apart
        gaps = (1.0 - np.ptp(fractions, axis=0)) / np.linalg.norm(inverse, axis=0)
        if gaps[list(structure.periodic)].min() < _ALONE:
            return None
        places = fractions @ cell
    return _centered(places)


def _far_apart(places: FloatArray) -> list[IntArray]:
    """Molecules that turn by themselves, for they are far from each other; none if all atoms are of one."""
    if (np.diff(places, axis=0) ** 2).sum(axis=1).max(initial=0.0) < _ALONE**2:
        return []  # atoms after each other are near, as in most files of one molecule: 10 µs instead of 250
    found = molecules(places, _ALONE)
    return [own for own in found if 1 < len(own) < len(places)]


def _longest(steps: FloatArray) -> float:
    return float(np.sqrt((steps**2).sum(axis=1).max()))


def _turn(places: FloatArray, onto: FloatArray) -> FloatArray:
    """(3, 3) the rotation, applied from the right, that brings places nearest to others; both (n_atoms, 3), centered.

    Source: W. Kabsch, Acta Cryst. A 32 (1976) 922.
    """
    products = places.T @ onto
    # about the axis of a linear molecule, none
    products += _HARDLY * np.linalg.norm(products) * np.eye(3)
    left, _, right = np.linalg.svd(products)
    left[:, 2] *= np.linalg.det(left @ right)
    return np.asarray(left @ right)


def _centered(places: FloatArray) -> FloatArray:
    return np.asarray(places - places.mean(axis=0))


def weighted_median(values: FloatArray, weights: FloatArray) -> float:
    """The value up to which half the weight is; both (n_values,)."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, 0.5 * below[-1])])


def _row(structures: Sequence[Structure], first: int, second: int) -> tuple[float, ...] | None:
    """Energy difference, work at both ends, number of atoms, and the pair; None if atoms moved too far."""
    one, other = structures[first], structures[second]
    before, after = one.energy, other.energy
    if one.free_energy is not None and other.free_energy is not None:
        # forces are derivatives of these
        before, after = one.free_energy, other.free_energy
    assert before is not None
    assert after is not None
    move = Move.between(one, other)
    if move.largest > _LARGEST_STEP:
        return None
    of_one, of_other = (-float((forces * move.step).sum()) for forces in (move.before, move.after))
    return after - before, of_one, of_other, float(one.n_atoms), float(first), float(second)
