"""Neighbors of each atom within the cutoff, periodic images included.

Points are put into groups, and groups near each other are found by `scipy.spatial.cKDTree`, or one by one where there
are few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.cores import threaded
from tio2nn.descriptors.kernels.groups import (
    Groups,
    NearGroups,
    PointArray,
    all_near_groups,
    cells_of,
    close_pairs,
    fill_groups,
    find_points,
    measure_pairs,
    most_candidates,
    near_groups,
)
from tio2nn.descriptors.kernels.images import image_ranges, place_images
from tio2nn.errors import InputError
from tio2nn.structures.geometry import complete_cell, reduced_cell, spans_volume
from tio2nn.structures.structure import Structure

# Leaves of 16 points, no balancing, no shrinking: 0.15 s for 463 structures; leaves of 8: 0.18, of 32: 0.19
_TREE = {"leafsize": 16, "balanced_tree": False, "compact_nodes": False}
# Atoms of small structures that are computed together
CENTERS_PER_BLOCK = 1024
# Centers that one thread works on at a time, at most. Their neighbors, some hundred each, are 1 MB.
CENTERS_PER_TASK = 256
# The same at the end of a structure, where tasks of several threads grow smaller so that all end together: of 5,346
# atoms, 21 tasks of 256 keep one of two threads waiting for 1/21 of the time. Each task costs some 0.1 ms.
_CENTERS_OF_LAST_TASKS = 64
# Cutoffs between structures, in the fourth coordinate: beyond the reach of groups, whose radius is 0.87 edges
_APART = 4.0
# Cutoffs that the edge of a group is long: six atoms of a solid at a cutoff of 6.5 Å
_GROUP = 0.6
_GROUPS_PER_TASK = 256
# Pairs of groups of one structure up to which all are tried; a tree finds those of larger ones. What precedes the
# neighbors of single atoms, µs an atom, by trying all and by a tree: 48 atoms, 5,000 pairs, 5.2 and 10.0; 5,000 atoms,
# 3 million, 1.4 and 2.6; 20,000 atoms, 30 million, 2.5 and 2.4.
_FEW_PAIRS = 20_000_000
_ROUNDING = 1e-6  # Å
# Å; float64 resolves 1e-8 Å there
_LONGEST = 1e8
# Å; an atom would lie on its own image
_SHORTEST = 1e-6
# Of one structure, images included; 5 million take 0.3 GB with their tree
MOST_POINTS = 5_000_000
# Of one atom: 17 atoms/Å³ at a cutoff of 6.5 Å, a hundred times as dense as a solid; lengths in nm lead there
MOST_NEIGHBORS = 20_000


@dataclass(frozen=True)
class NeighborList:
    """Neighbors of consecutive atoms of a batch of structures.

    Attributes:
        first_atom: index in the batch of the first center.
        n_atoms: number of centers.
        n_kinds: number of neighbor kinds.
        first: (n_atoms * n_kinds + 1,) where the neighbors of each (center, kind) begin in the arrays below.
        vectors: (n_pairs, 3) from center to neighbor, Å. Within one (center, kind) their order depends on the
            structure alone, not on the batch.
        atoms: (n_pairs,) index in the batch of the atom whose image the neighbor is.
    """

    first_atom: int
    n_atoms: int
    n_kinds: int
    first: IntArray
    vectors: FloatArray
    atoms: IntArray

    def within(self, distance: float) -> ClosePairs:
        """The pairs closer than a distance, Å, that is not above the cutoff of the list."""
        found = close_pairs(
            self.first, self.atoms, self.vectors, self.first_atom, self.n_kinds, float(distance)
        )
        return ClosePairs(*found)


class ClosePairs(NamedTuple):
    """Pairs of atoms of a batch of structures that are closer than some distance, each from both of its ends."""

    centers: IntArray  # (n_pairs,) index in the batch, ascending
    atoms: IntArray  # (n_pairs,) index in the batch of the atom whose image the other one is
    vectors: FloatArray  # (n_pairs, 3) from center to neighbor, Å

    @classmethod
    def joined(cls, parts: Sequence[ClosePairs]) -> ClosePairs:
        """Those of several lists, in their order; at least one."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def neighbor_lists(
    structures: Sequence[Structure], cutoff: float, kinds: IntArray, n_kinds: int
) -> Iterator[NeighborList]:
    """Yield the neighbors of all atoms of the structures, `CENTERS_PER_TASK` centers at a time.

    Args:
        structures, cutoff, kinds, n_kinds: as for `NeighborSearch`.

    Raises:
        InputError: as `NeighborSearch`.
    """
    search = NeighborSearch(structures, cutoff, kinds, n_kinds)
    for task in search.tasks():
        yield search(task)


class NearPoints(NamedTuple):
    """Points, which are atoms and their images, near consecutive atoms: an eighth of the memory of their vectors."""

    first: IntArray  # (n_centers * n_kinds + 1,) where the points near each (center, kind) begin
    partners: PointArray  # (n_pairs,) index of each point


class Moved(NamedTuple):
    """Where the points of a search are at a later time."""

    structures: Sequence[Structure]  # the atoms, in the order of the search
    points: FloatArray  # (n_points, 4) as `NeighborSearch.points`
    cutoff: float  # Å, of neighbors at that time


class NeighborSearch:
    """A search for neighbors of atoms of a batch of structures, of whichever of them are asked for.

    A fourth coordinate keeps structures apart. What is searched first are groups of near atoms and images.

    Attributes:
        points: (n_points, 4) all atoms, then all images within reach, Å.
        owners: (n_points,) index of the atom that each point is an image of.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        cutoff: float,
        kinds: IntArray,
        n_kinds: int,
        threads: int = 1,
    ) -> None:
        """Find the groups near each.

        Args:
            structures: any cells, any periodicity.
            cutoff: R_c, Å; neighbors at exactly R_c may be included.
            kinds: (n_atoms of all structures,) kind of each atom, below n_kinds.
            n_kinds: number of kinds.
            threads: that search at once.

        Raises:
            InputError: a flat cell, or so many neighbors that the unit must be wrong.
        """
        first_atom = _first_atoms(structures)
        points, owners = _points(structures, first_atom, cutoff)
        self._structures, self._cutoff, self._n_kinds = structures, cutoff, n_kinds
        self.points, self.owners, self._threads = points, owners, threads
        cells = cells_of(points, first_atom, _APART * cutoff, _GROUP * cutoff)
        self._groups = groups = fill_groups(
            np.lexsort(cells.T[::-1]), cells, points, owners, kinds, len(kinds)
        )
        self._near = _near_groups(groups, cutoff + _ROUNDING, threads, is_one=len(structures) == 1)
        if self._near.most > MOST_NEIGHBORS:
            self._check_density(len(kinds))

    def tasks(self) -> list[tuple[int, int]]:
        """The atoms start ≤ i < stop of each task."""
        n = len(self._groups.group_of)
        found, start = [], 0
        while start < n:
            size = CENTERS_PER_TASK
            if self._threads > 1 and n > CENTERS_PER_TASK:
                size = min(size, max((n - start) // (2 * self._threads), _CENTERS_OF_LAST_TASKS))
            found.append((start, min(start + size, n)))
            start += size
        return found

    def __call__(self, task: tuple[int, int]) -> NeighborList:
        """The neighbors of the atoms of a task.

        Raises:
            InputError: two atoms at the same place.
        """
        return self.measure(task, self.near(task))

    def near(self, task: tuple[int, int]) -> NearPoints:
        """The points within the cutoff of the atoms of a task."""
        return NearPoints(
            *find_points(self._groups, self._near, task, self.points, self._n_kinds, self._cutoff)
        )

    def measure(self, task: tuple[int, int], near: NearPoints, moved: Moved | None = None) -> NeighborList:
        """The neighbors among points that were near.

        Args:
            task: the atoms that they were near.
            near: these points.
            moved: where all points are now; None for where they were.

        Raises:
            InputError: two atoms at the same place.
        """
        now = Moved(self._structures, self.points, self._cutoff) if moved is None else moved
        found = measure_pairs(
            near.first, near.partners, now.points, self.owners, task[0], self._n_kinds, now.cutoff
        )
        first, vectors, atoms, coincident = found
        neighbors = NeighborList(task[0], task[1] - task[0], self._n_kinds, first, vectors, atoms)
        if coincident >= 0:
            raise _coincident_atoms(neighbors, int(coincident), now.structures)
        return neighbors

    def _check_density(self, n_atoms: int) -> None:
        tree = cKDTree(self.points, **_TREE)
        for start in range(0, n_atoms, CENTERS_PER_BLOCK):
            centers = self.points[start : min(start + CENTERS_PER_BLOCK, n_atoms)]
            n_neighbors = tree.query_ball_point(centers, self._cutoff, return_length=True)
            _check_density(n_neighbors, start, self._cutoff, self._structures)


def _near_groups(groups: Groups, cutoff: float, threads: int, *, is_one: bool) -> NearGroups:
    """Those near each group that atoms are in, whether of one structure or of several smaller ones."""
    of_atoms = np.unique(groups.group_of)
    are_many = is_one and len(of_atoms) * len(groups.radii) > _FEW_PAIRS
    tree = cKDTree(groups.centers, **_TREE) if are_many else None
    largest = groups.radii.max()

    def near(chosen: IntArray) -> tuple[IntArray, IntArray]:
        found: tuple[IntArray, IntArray]
        if tree is None:
            found = all_near_groups(chosen, groups.centers, groups.radii, cutoff)
        else:
            centers = cKDTree(groups.centers[chosen], **_TREE)
            pairs = centers.sparse_distance_matrix(tree, cutoff + 2.0 * largest, output_type="ndarray")
            found = near_groups(pairs["i"], pairs["j"], pairs["v"], chosen, groups.radii, cutoff)
        return found

    tasks = [of_atoms[k : k + _GROUPS_PER_TASK] for k in range(0, len(of_atoms), _GROUPS_PER_TASK)]
    counts, found = zip(*threaded(near, tasks, threads), strict=True)
    sizes = np.zeros(len(groups.radii) + 1, np.int64)
    sizes[of_atoms + 1] = np.concatenate(counts)
    first, near_each = np.cumsum(sizes), np.concatenate(found)
    return NearGroups(first, near_each, most_candidates(groups, first, near_each))


def _points(
    structures: Sequence[Structure], first_atom: IntArray, cutoff: float
) -> tuple[FloatArray, IntArray]:
    """All atoms, then all images within reach.

    Returns:
        points: (n_points, 4) Å, the fourth coordinate keeps structures apart.
        owners: (n_points,) index of the atom that the point is an image of.
    """
    _check_lengths(structures)
    try:
        cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures])
        wrapped, ranges, n_points = _images(structures, first_atom, cells, cutoff)
        if not (n_points <= MOST_POINTS).all():
            # long vectors may still span a reasonable volume
            for s in _too_many(n_points):
                _check_cell(structures[s])
                cells[s] = reduced_cell(cells[s], structures[s].periodic)
            wrapped, ranges, n_points = _images(structures, first_atom, cells, cutoff)
    except np.linalg.LinAlgError:
        for structure in structures:
            _check_cell(structure)
        raise
    for s in _too_many(n_points):
        raise structures[s].error(
            f"expected at most {MOST_POINTS} atoms and periodic images within {cutoff:g} Å, "
            f"got {n_points[s]:.3g}: is the cell in Å?",
        )
    points = np.empty((int(n_points.sum()), 4))
    owners = np.empty(len(points), np.int64)
    place_images(wrapped, cells, first_atom, _APART * cutoff, ranges.astype(np.int64), points, owners)
    return points, owners


def _too_many(n_points: FloatArray) -> list[int]:
    # a count that is no number is too large, too
    return [int(s) for s in np.flatnonzero(~(n_points <= MOST_POINTS))]


def _images(
    structures: Sequence[Structure], first_atom: IntArray, cells: FloatArray, cutoff: float
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Atoms inside the cells (n_atoms, 3), the cells of their images (n_atoms, 3, 2), points per structure."""
    periodic = np.array([s.periodic for s in structures], dtype=np.bool_).reshape(-1, 3)
    inverses = np.linalg.inv(cells)
    wrapped = np.empty((first_atom[-1], 3))
    for s, structure in enumerate(structures):
        outside = np.floor(structure.positions @ inverses[s]) * periodic[s]
        wrapped[first_atom[s] : first_atom[s + 1]] = structure.positions - outside @ cells[s]
    ranges = image_ranges(wrapped, inverses, periodic, first_atom, cutoff)
    # counted in floating point: thin cells would overflow integers
    with np.errstate(over="ignore", invalid="ignore"):
        along = ranges[:, :, 1] - ranges[:, :, 0] + 1.0
        n_images = along[:, 0] * along[:, 1] * along[:, 2]
        owners = np.repeat(np.arange(len(structures)), np.diff(first_atom))
        n_points = np.bincount(owners, weights=n_images, minlength=len(structures))
    return wrapped, ranges, np.asarray(n_points, np.float64)


def _first_atoms(structures: Sequence[Structure]) -> IntArray:
    return np.cumsum([0, *(s.n_atoms for s in structures)], dtype=np.int64)


def _check_lengths(structures: Sequence[Structure]) -> None:
    """Refuse lengths that no later arithmetic needs to be safe from."""
    rows = np.concatenate([rows for s in structures for rows in (s.positions, s.cell)])
    vectors = np.concatenate([s.cell[np.array(s.periodic)] for s in structures])
    # comparisons with nan are false
    if (np.abs(rows) < _LONGEST).all() and (np.abs(vectors).max(axis=1, initial=0.0) > _SHORTEST).all():
        return
    for structure in structures:
        if not all((np.abs(rows) < _LONGEST).all() for rows in (structure.positions, structure.cell)):
            raise structure.error(
                f"expected positions and cell vectors within {_LONGEST:g} Å, got larger ones or nan",
            )
        for axis in np.flatnonzero(structure.periodic):
            if not np.abs(structure.cell[axis]).max() > _SHORTEST:
                raise structure.error(
                    f"expected cell vectors longer than {_SHORTEST:g} Å, got a shorter vector {axis + 1}",
                )


def _check_cell(structure: Structure) -> None:
    if not spans_volume(structure.cell, structure.periodic):
        raise structure.error("expected independent cell vectors, got vectors that span no volume")


def _check_density(
    n_neighbors: IntArray, first_atom: int, cutoff: float, structures: Sequence[Structure]
) -> None:
    crowded = int(n_neighbors.argmax())
    if n_neighbors[crowded] > MOST_NEIGHBORS:
        structure, atom = _locate(first_atom + crowded, structures)
        raise structure.error(
            f"expected at most {MOST_NEIGHBORS} neighbors within {cutoff:g} Å, got {n_neighbors[crowded]} "
            f"around atom {atom + 1}: are cell and positions in Å?",
        )


def _coincident_atoms(neighbors: NeighborList, pair: int, structures: Sequence[Structure]) -> InputError:
    """The error that names the two atoms of a pair."""
    row = int(np.searchsorted(neighbors.first, pair, side="right")) - 1
    center = neighbors.first_atom + row // neighbors.n_kinds
    structure, atom = _locate(center, structures)
    other = int(neighbors.atoms[pair]) - center + atom
    low, high = sorted((atom + 1, other + 1))
    return structure.error(
        f"expected atoms at different places, got atoms {low} and {high} at the same place"
    )


def _locate(atom: int, structures: Sequence[Structure]) -> tuple[Structure, int]:
    """The structure of an atom of the batch, and the atom's index in it."""
    first_atom = _first_atoms(structures)
    s = int(np.searchsorted(first_atom, atom, side="right")) - 1
    return structures[s], atom - int(first_atom[s])
