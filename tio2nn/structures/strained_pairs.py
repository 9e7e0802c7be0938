"""Pairs of strained copies: by how much their energies differ, and what stresses and forces predict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.structures.stress import to_voigt
from tio2nn.structures.structure import Structure
from tio2nn.structures.third_orders import may_explain

_MOST_PAIRS = 3000
_MOST_ALIKE = 60  # structures with the same atoms that are paired with each other
_LARGEST_STRAIN, _SMALLEST_STRAIN = 0.12, 5e-4
# Å, rms displacement of the atoms beside the change of the cell: at most, and over the strain. Work of forces to third
# order would hide that of the stresses: for copper, 0.05 Å at strains of 0.01 give a slope of 1.7.
_LARGEST_STEP, _STEP_OVER_STRAIN = 0.5, 4.0
_PARTNERS = 6  # of a structure; nearer ones have smaller third orders, farther ones more to compare
_STEP_AS_STRAIN = 5.0  # Å for a strain of 1, where pairs are ranked
_STILL = 0.02  # Å; without forces, atoms must keep their places in the cell
_SMALLEST_DIFFERENCE = 1e-4  # eV
# Where the work of the forces changes from one structure to the other by so many times what is left for the stresses,
# its third order may be as large as that: 13 to 29 for copies of copper with atoms moved by 0.14 Å and more at strains
# of 0.05, whose right stresses leave 0.6 to 1.0; 0 to 2 for Si, Ge and Li.
_FAR = 5.0
_SMALL_DEVIATION = 0.03  # of copies so near to each other that third orders are small
_HARDLY = 0.1  # change of the work of forces over that of stresses, up to which displacements do not matter


class Pairs(NamedTuple):
    """One row for each pair.

    Attributes:
        differences: (n_pairs,) of energies, without the work of the forces, eV.
        work: (3, n_pairs, 6, 6) eV for a stress in eV/Å³: of each component of the strain with each of the stress,
            over the volume to the power of 0, 1 and −1, in Å³.
        n_atoms: (n_pairs,)
        at_ends: (n_pairs, 2, 2) work at each end, of the stress and of the forces there less their mean, eV.
    """

    differences: FloatArray
    work: FloatArray
    n_atoms: FloatArray
    at_ends: FloatArray

    @property
    def _changes(self) -> FloatArray:
        """(2,) of the work from one structure to the other, over all pairs: of stresses and of forces, eV."""
        return np.asarray(np.abs(self.at_ends[:, 1] - self.at_ends[:, 0]).sum(axis=0))

    @property
    def are_far_apart(self) -> bool:
        """Whether what trapezoids leave of the work of the forces may hide that of the stresses."""
        return bool(self._changes[1] > _FAR * np.abs(self.differences).sum())

    def may_be_right(self, slope: float, deviation: float) -> bool:
        """Whether displacements of the atoms may be why right stresses leave this slope and this deviation."""
        of_stresses, of_forces = self._changes.tolist()
        return of_forces > _HARDLY * of_stresses and may_explain(
            slope, deviation, self.differences, self.at_ends.sum(axis=2), small=_SMALL_DEVIATION
        )


def pairs_of(structures: Sequence[Structure]) -> Pairs:
    """Pairs of structures with the same atoms at similar places in cells that differ.

    Args:
        structures: periodic along all axes, each with a stress and an energy.
    """
    by_elements: dict[tuple[str, ...], list[Structure]] = defaultdict(list)
    for structure in structures:
        by_elements[structure.elements].append(structure)
    rows: list[_Row] = []
    for alike in by_elements.values():
        if len(alike) > _MOST_ALIKE:
            alike = [alike[k * len(alike) // _MOST_ALIKE] for k in range(_MOST_ALIKE)]
        for one, other in _near(alike):
            found = _compared(one, other)
            if abs(found.difference) >= _SMALLEST_DIFFERENCE:
                rows.append(found)
        if len(rows) >= _MOST_PAIRS:
            break
    work = np.array([row.work for row in rows]).reshape(-1, 3, 6, 6).transpose(1, 0, 2, 3)
    at_ends = np.array([row.at_ends for row in rows]).reshape(-1, 2, 2)
    differences, n_atoms = (
        np.array([getattr(row, name) for row in rows], np.float64) for name in ("difference", "n_atoms")
    )
    return Pairs(differences, work, n_atoms, at_ends)


def _near(alike: Sequence[Structure]) -> Iterator[tuple[Structure, Structure]]:
    """Each structure and those nearest to it, in cells that differ, but not much, with atoms at similar places."""
    cells = np.stack([s.cell for s in alike])
    inverse = np.linalg.inv(cells)
    places = np.stack([s.positions @ own for s, own in zip(alike, inverse, strict=True)])
    are_known = np.array([s.forces is not None for s in alike])
    taken = set()
    for k in range(len(alike)):
        strains = np.abs(inverse[k] @ cells - np.eye(3)).max(axis=(1, 2))
        steps = _steps(places - places[k]) @ cells[k]
        moved = np.sqrt((steps**2).sum(axis=2).mean(axis=1))
        near = (strains < _LARGEST_STRAIN) & (strains > _SMALLEST_STRAIN) & (moved < _LARGEST_STEP)
        near &= (moved < _STILL) | (are_known & are_known[k] & (moved < _STEP_OVER_STRAIN * strains))
        apart = np.where(near, strains + moved / _STEP_AS_STRAIN, np.inf)
        for j in np.argsort(apart, kind="stable")[:_PARTNERS].tolist():
            if near[j]:
                taken.add((min(j, k), max(j, k)))
    for j, k in sorted(taken):
        yield alike[j], alike[k]


def _steps(apart: FloatArray) -> FloatArray:
    """Displacements in fractional coordinates (..., n_atoms, 3), without images and without their mean."""
    apart = apart - apart[..., :1, :]
    apart = apart - np.rint(apart)
    return np.asarray(apart - apart.mean(axis=-2, keepdims=True))


class _Row(NamedTuple):
    """One pair, as in `Pairs`."""

    difference: float
    work: FloatArray  # (3, 6, 6)
    n_atoms: int
    at_ends: FloatArray  # (2, 2)


def _compared(one: Structure, other: Structure) -> _Row:
    assert one.energy is not None
    assert other.energy is not None
    change = other.cell - one.cell
    steps = _steps(other.positions @ np.linalg.inv(other.cell) - one.positions @ np.linalg.inv(one.cell))
    work, at_ends = np.zeros((3, 6, 6)), np.zeros((2, 2))
    for structure, end in zip((one, other), at_ends, strict=True):
        assert structure.stress is not None
        volume = float(abs(np.linalg.det(structure.cell)))
        gradient = np.linalg.solve(structure.cell, change)
        strain = to_voigt(0.5 * (gradient + gradient.T)) * [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        each = 0.5 * np.outer(strain, to_voigt(structure.stress))
        # numbers that are virials are minus the volume times the stress, and the other way round
        work += np.stack([-each, volume * each, -(volume**2) * each])
        end[0] = 2.0 * volume * np.trace(each)
        if structure.forces is not None:
            end[1] = -(structure.forces * (steps @ structure.cell)).sum()
    # forces of one of them alone count for half
    of_forces = at_ends[:, 1].mean()
    at_ends[:, 1] -= of_forces
    return _Row(other.energy - one.energy - float(of_forces), work, one.n_atoms, at_ends)
