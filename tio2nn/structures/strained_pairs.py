"""Pairs of strained copies: by how much their energies differ, and what stresses and forces predict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray, IntArray
from tio2nn.structures.stress import to_voigt
from tio2nn.structures.structure import Structure
from tio2nn.structures.third_orders import may_explain

_MOST_PAIRS = 3000  # `_chosen` says which
_MOST_ALIKE = 60  # structures with the same atoms that are paired with each other
_LARGEST_STRAIN, _SMALLEST_STRAIN = 0.12, 5e-4
# Å, rms displacement of the atoms beside the change of the cell: at most, and over the strain. Work of forces to third
# order would hide that of the stresses: for copper, 0.05 Å at strains of 0.01 give a slope of 1.7.
_LARGEST_STEP, _STEP_OVER_STRAIN = 0.5, 4.0
_HARDLY_MOVED = 0.5  # Å over the strain; an eighth of the most
_PARTNERS = 6  # of a structure; nearer ones have smaller third orders, farther ones more to compare
_STEP_AS_STRAIN = 5.0  # Å for a strain of 1, where pairs are ranked
_STILL = 0.02  # Å; without forces, atoms must keep their places in the cell
_SMALLEST_DIFFERENCE = 1e-4  # eV
_ATOMS_AT_ONCE = 10_000  # of the pairs that are compared together; some MB
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
    groups = [
        alike
        if len(alike) <= _MOST_ALIKE
        else [alike[k * len(alike) // _MOST_ALIKE] for k in range(_MOST_ALIKE)]
        for alike in by_elements.values()
        if len(alike) > 1
    ]
    near = [_near(_Alike.of(alike)) for alike in groups]
    numbers = np.repeat(np.arange(len(groups)), [len(pairs) for pairs, _ in near])
    are_chosen = _chosen(np.concatenate([np.empty(0), *(moved for _, moved in near)]))
    found: list[Pairs] = []
    for number in np.unique(numbers[are_chosen]).tolist():
        pairs = near[number][0][are_chosen[numbers == number]]
        own = _Alike.of(groups[number])
        at_once = max(1, _ATOMS_AT_ONCE // groups[number][0].n_atoms)
        found += [_compared(own, pairs[k : k + at_once]) for k in range(0, len(pairs), at_once)]
    return Pairs(
        np.concatenate([np.empty(0), *(pairs.differences for pairs in found)]),
        np.concatenate([np.empty((3, 0, 6, 6)), *(pairs.work for pairs in found)], axis=1),
        np.concatenate([np.empty(0), *(pairs.n_atoms for pairs in found)]),
        np.concatenate([np.empty((0, 2, 2)), *(pairs.at_ends for pairs in found)]),
    )


def _chosen(moved: FloatArray) -> BoolArray:
    """(n_pairs,) which pairs are compared, where there are more than enough: those that third orders hide least.

    They are those whose atoms moved least, evenly spaced where many hardly moved, as volume scans alone would tell
    nothing of the order of components. 100,000 alloys, of which volume scans make three tenths, were not compared at
    all while the first pairs were taken.

    Args:
        moved: (n_pairs,) displacement of the atoms beside the change of the cell over the strain, Å.
    """
    if len(moved) <= _MOST_PAIRS:
        return np.ones(len(moved), dtype=np.bool_)
    most = max(_HARDLY_MOVED, float(np.partition(moved, _MOST_PAIRS - 1)[_MOST_PAIRS - 1]))
    candidates = np.flatnonzero(moved <= most)
    chosen = np.zeros(len(moved), dtype=np.bool_)
    chosen[candidates[np.arange(_MOST_PAIRS) * len(candidates) // _MOST_PAIRS]] = True
    return chosen


class _Alike(NamedTuple):
    """Structures with the same atoms.

    Attributes:
        cells, inverse: (n, 3, 3)
        places: (n, n_atoms, 3) fractional coordinates.
        energies, volumes: (n,) eV, Å³.
        stresses: (n, 6) in Voigt's order.
        forces: (n, n_atoms, 3), zeros where unknown.
        have_forces: (n,)
    """

    cells: FloatArray
    inverse: FloatArray
    places: FloatArray
    energies: FloatArray
    volumes: FloatArray
    stresses: FloatArray
    forces: FloatArray
    have_forces: BoolArray

    @classmethod
    def of(cls, structures: Sequence[Structure]) -> _Alike:
        cells = np.stack([s.cell for s in structures])
        inverse = np.asarray(np.linalg.inv(cells), dtype=np.float64)
        stresses = [s.stress for s in structures if s.stress is not None]
        assert len(stresses) == len(structures)
        return cls(
            cells,
            inverse,
            np.stack([s.positions @ own for s, own in zip(structures, inverse, strict=True)]),
            np.array([s.energy for s in structures], dtype=np.float64),
            np.abs(np.linalg.det(cells)),
            np.stack([to_voigt(stress) for stress in stresses]),
            np.stack([np.zeros_like(s.positions) if s.forces is None else s.forces for s in structures]),
            np.array([s.forces is not None for s in structures]),
        )


def _near(alike: _Alike) -> tuple[IntArray, FloatArray]:
    """Pairs (n_pairs, 2) of each structure and those nearest to it, in cells that differ, but not much, with atoms at
    similar places; and by how much these moved over the strain, (n_pairs,) Å."""
    found: dict[tuple[int, int], float] = {}
    for k, inverse in enumerate(alike.inverse):
        strains = np.abs(inverse @ alike.cells - np.eye(3)).max(axis=(1, 2))
        close = np.flatnonzero((strains < _LARGEST_STRAIN) & (strains > _SMALLEST_STRAIN))
        if not len(close):
            continue
        strains = strains[close]
        steps = _steps(alike.places[close] - alike.places[k]) @ alike.cells[k]
        moved = np.sqrt((steps**2).sum(axis=2).mean(axis=1))
        are_known = alike.have_forces[close] & alike.have_forces[k]
        near = (moved < _LARGEST_STEP) & (
            (moved < _STILL) | (are_known & (moved < _STEP_OVER_STRAIN * strains))
        )
        apart = np.where(near, strains + moved / _STEP_AS_STRAIN, np.inf)
        for place in np.argsort(apart, kind="stable")[:_PARTNERS].tolist():
            if near[place]:
                j = int(close[place])
                found[min(j, k), max(j, k)] = float(moved[place] / strains[place])
    pairs = sorted(found)
    return np.array(pairs, np.int64).reshape(-1, 2), np.array([found[pair] for pair in pairs], np.float64)


def _steps(apart: FloatArray) -> FloatArray:
    """Displacements in fractional coordinates (..., n_atoms, 3), without images and without their mean."""
    apart = apart - apart[..., :1, :]
    apart = apart - np.rint(apart)
    return np.asarray(apart - apart.mean(axis=-2, keepdims=True))


def _compared(alike: _Alike, pairs: IntArray) -> Pairs:
    """The pairs (n_pairs, 2) whose energies differ; pair by pair, 3,000 take 1 s, together 0.05 s."""
    one, other = pairs.T
    change = alike.cells[other] - alike.cells[one]
    steps = _steps(alike.places[other] - alike.places[one])
    work, at_ends = np.zeros((3, len(pairs), 6, 6)), np.zeros((len(pairs), 2, 2))
    for end, own in enumerate((one, other)):
        volumes = alike.volumes[own, None, None]
        gradients = np.linalg.solve(alike.cells[own], change)
        symmetric = 0.5 * (gradients + gradients.transpose(0, 2, 1))
        strains = to_voigt(symmetric) * [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        each = 0.5 * strains[:, :, None] * alike.stresses[own, None]
        # numbers that are virials are minus the volume times the stress, and the other way round
        work += np.stack([-each, volumes * each, -(volumes**2) * each])
        at_ends[:, end, 0] = 2.0 * volumes[:, 0, 0] * np.trace(each, axis1=1, axis2=2)
        at_ends[:, end, 1] = -(alike.forces[own] * (steps @ alike.cells[own])).sum(axis=(1, 2))
    # forces of one of them alone count for half
    of_forces = at_ends[:, :, 1].mean(axis=1)
    at_ends[:, :, 1] -= of_forces[:, None]
    differences = alike.energies[other] - alike.energies[one] - of_forces
    differ = np.abs(differences) >= _SMALLEST_DIFFERENCE
    n_atoms = np.full(len(pairs), float(alike.places.shape[1]))
    return Pairs(differences[differ], work[:, differ], n_atoms[differ], at_ends[differ])
