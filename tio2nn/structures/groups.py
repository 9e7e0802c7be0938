"""Groups of structures so similar that a random split between them would leak.

A group is a connected component of two relations:

- *scan*: the same geometry up to a uniform scale of the cell, as in a volume scan: the same elements in the same
  order, cells of the same shape, the same fractional coordinates relative to the first atom (modulo 1).
- *run*: consecutive frames with one cell, as in molecular dynamics or a relaxation: neighbors in natural order with
  the same elements in the same order and the same cell; without a cell, only frames of one file.

Structures of one scan with the same scale are duplicates. "The same" is within a tolerance, which is four times as
large in a crowd: where a structure has more than 64 others within it along the coordinates that vary most, and none
of the other coordinates varies much more than the tolerance. So the time stays proportional to the structures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.structures.geometry import complete_cell, components
from tio2nn.structures.structure import Structure

# of fractional coordinates, and of cells divided by the edge of a cube of equal volume. Files round to 6-8 decimals of
# an Å; structures whose atoms differ by 1e-5 of a cell, 0.05 mÅ, are the same
_GEOMETRY_TOLERANCE = 1e-5
_COPY_TOLERANCE = 0.01 * _GEOMETRY_TOLERANCE  # of copies that differ in the last digits at most
_TOGETHER = 1024  # structures of one composition at a time
_DIMENSIONS = 8  # of the search for candidates, which are then compared in full
_NEAREST_AT_ONCE = 1_000_000  # numbers; 16 MB
# a structure near so many others is one of a crowd; four times as many decide as little, and take four times as long
_CROWD = 64
_COMPARED_IN_CROWD = 4  # of them, to see how a crowd differs
_CROWD_TOLERANCE = 4.0 * _GEOMETRY_TOLERANCE
# Å, for components of cell vectors: printed digits may differ between frames by less than this
_CELL_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Groups:
    """The groups, as indices into the structures in natural order.

    Attributes:
        group: (n_structures,) first member of the group; the structure itself if it is alone.
        scan: (n_structures,) first member of the volume scan, or -1.
        run: (n_structures,) first member of the run of consecutive frames, or -1.
        duplicate_of: (n_structures,) first structure with the same geometry, or -1.
    """

    group: IntArray
    scan: IntArray
    run: IntArray
    duplicate_of: IntArray


def find_groups(structures: Sequence[Structure]) -> Groups:
    """Group structures; the module defines the relations.

    Args:
        structures: in natural order.
    """
    n = len(structures)
    scales, same_geometry = _equal_up_to_scale(structures)
    consecutive = _consecutive_frames(structures)
    scan = components(n, same_geometry)
    duplicate_of = _equal_scales(scan, scales)
    n_distinct = np.bincount(scan[duplicate_of == -1], minlength=n)
    run = components(n, consecutive)
    return Groups(
        group=components(n, np.concatenate([same_geometry, consecutive])),
        # copies at a single scale are no scan
        scan=np.where(n_distinct[scan] > 1, scan, -1),
        run=np.where(np.bincount(run, minlength=n)[run] > 1, run, -1),
        duplicate_of=duplicate_of,
    )


def _consecutive_frames(structures: Sequence[Structure]) -> IntArray:
    """(n_pairs, 2) neighbors in the order that are frames with one cell."""
    pairs = [
        (index, index + 1)
        for index, (one, other) in enumerate(pairwise(structures))
        if one.elements == other.elements and one.periodic == other.periodic and _same_cell(one, other)
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _same_cell(one: Structure, other: Structure) -> bool:
    if not any(one.periodic):
        return one.file == other.file
    difference = np.abs(one.cell - other.cell)[list(one.periodic)]
    return bool(difference.max() <= _CELL_TOLERANCE)


def _equal_up_to_scale(structures: Sequence[Structure]) -> tuple[FloatArray, IntArray]:
    """Scale of each structure, Å, and pairs (n_pairs, 2) that connect all structures equal up to scale."""
    scales = np.ones(len(structures))
    alike: dict[tuple[tuple[str, ...], tuple[bool, ...]], list[int]] = defaultdict(list)
    for index, structure in enumerate(structures):
        alike[structure.elements, structure.periodic].append(index)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for (elements, periodic), members in alike.items():
        chosen = np.array(members)
        scales[chosen], rows = _scaled([structures[i] for i in members], np.array(periodic))
        if len(members) > 1:
            # fractional coordinates along periodic axes have period 1; the rest is not periodic
            periods = np.concatenate([np.tile(np.where(periodic, 1.0, 0.0), len(elements)), np.zeros(9)])
            pairs.append(chosen[_equal_rows(rows, periods)])
    return scales, np.concatenate(pairs)


def _scaled(structures: Sequence[Structure], periodic: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Scales (n,) and scale-free geometries (n, 3 n_atoms + 9): fractional coordinates relative to the first atom, in
    [0, 1) along periodic axes, and the metric tensor of the cell."""
    n, n_angles = len(structures), 3 * structures[0].n_atoms
    scales, rows = np.ones(n), np.empty((n, n_angles + 9))
    dimensions = int(periodic.sum())
    for own in _pieces(n):
        cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures[own]])
        if dimensions:
            # the determinant is an area or a length if the other vectors are unit vectors
            scales[own] = np.abs(np.linalg.det(cells)) ** (1.0 / dimensions)
        cells[:, periodic] /= scales[own, None, None]
        positions = np.stack([s.positions for s in structures[own]]) / scales[own, None, None]
        coordinates = (positions - positions[:, :1]) @ np.linalg.inv(cells)
        coordinates -= np.floor(coordinates) * periodic
        # tiny negative numbers round to 1
        coordinates[(coordinates == 1.0) & periodic] = 0.0
        rows[own, :n_angles] = coordinates.reshape(-1, n_angles)
        rows[own, n_angles:] = (cells @ cells.transpose(0, 2, 1)).reshape(-1, 9)
    return scales, rows


def _pieces(n: int) -> Iterator[slice]:
    """Slices of structures, small enough for intermediate results to stay small."""
    return (slice(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER))


def _equal_rows(rows: FloatArray, periods: FloatArray) -> IntArray:
    """Pairs (n_pairs, 2) of rows equal within the tolerance, enough to connect everything that such pairs connect.

    Copies agree far better than the tolerance; only the first is searched for, as all pairs of copies are too many.
    Candidates are near each other in the columns that vary most. Where they are too many, more columns are taken, those
    that vary among them. Where these vary no more than the tolerance, a crowd trembles by about that: which of its
    pairs are equal would take a comparison of each with each, and means nothing. Its tolerance is a larger one.

    Args:
        rows: (n, n_columns).
        periods: (n_columns,) period of each column, 0 if it is not periodic.
    """
    copy_of = _copies(rows, periods)
    members = np.flatnonzero(copy_of == np.arange(len(rows)))
    pairs = np.stack([np.arange(len(rows)), copy_of], axis=1)
    columns = _most_varied(rows, periods)
    while True:
        near = _Near(rows, periods, members, columns)
        pairs, crowd = _connected(near, pairs)
        if not len(crowd):
            return pairs
        more = _varied_among(near, crowd, columns)
        if not len(more):
            return np.concatenate([pairs, near.equal(crowd, _CROWD_TOLERANCE, _CROWD)[0]])
        members, columns = members[crowd], np.concatenate([columns, more])


class _Near:
    """The search for rows near each other in some columns.

    Attributes:
        rows, periods: as for `_equal_rows`.
        members: (n,) the rows among which it searches.
        points, periods_of_points: these rows, in the chosen columns.
    """

    def __init__(self, rows: FloatArray, periods: FloatArray, members: IntArray, columns: IntArray) -> None:
        from scipy.spatial import cKDTree

        self.rows, self.periods, self.members = rows, periods, members
        # 20,000 rows that differ within the tolerance take 1 s in 8 dimensions, 26 s in 81
        self.points, self.periods_of_points = rows[np.ix_(members, columns)], periods[columns]
        self._tree = cKDTree(self.points, boxsize=self.periods_of_points)

    def nearest(self, some: IntArray, n_nearest: int) -> tuple[NDArray[np.bool_], IntArray]:
        """Which of the nearest members of some, (n_some, n_nearest), are near, and their places."""
        apart, nearest = self._tree.query(
            self.points[some], n_nearest, p=np.inf, distance_upper_bound=_GEOMETRY_TOLERANCE
        )
        return np.isfinite(apart), nearest

    def equal(self, some: IntArray, tolerance: float, n_nearest: int) -> tuple[IntArray, NDArray[np.bool_]]:
        """Pairs (n_pairs, 2) of rows that are equal, of some members and their nearest; and which have more near."""
        pairs, has_more = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.bool_)]
        for piece in np.array_split(some, 1 + len(some) * n_nearest // _NEAREST_AT_ONCE):
            is_near, nearest = self.nearest(piece, n_nearest)
            has_more.append(is_near[:, -1].copy())
            is_near &= nearest != piece[:, None]
            one, other = self.members[np.repeat(piece, is_near.sum(axis=1))], self.members[nearest[is_near]]
            equal = _distances(self.rows, self.periods, one, other) <= tolerance
            pairs.append(np.stack([one[equal], other[equal]], axis=1))
        return np.concatenate(pairs), np.concatenate(has_more)


def _connected(near: _Near, pairs: IntArray) -> tuple[IntArray, IntArray]:
    """Pairs, and those of members found equal; and the members that are near to more than can be compared."""
    # each row checks its nearest rows; where more are near, checking more may connect more
    searching, n_nearest = np.arange(len(near.members)), 4
    has_more = np.ones(len(near.members), dtype=np.bool_)
    while True:
        found, has_more[searching] = near.equal(searching, _GEOMETRY_TOLERANCE, n_nearest)
        pairs = np.concatenate([pairs, found])
        part = components(len(near.rows), pairs)[near.members]
        is_left = _near_another(has_more, part, near)
        if n_nearest == _CROWD or not len(is_left):
            return pairs, is_left
        n_nearest = min(4 * n_nearest, _CROWD)
        # to connect two components, searching from one is enough, unless that one ends in a crowd
        is_largest = part[is_left] == np.bincount(part[is_left]).argmax()
        searching = is_left if n_nearest == _CROWD else is_left[~is_largest]


def _varied_among(near: _Near, crowd: IntArray, columns: IntArray) -> IntArray:
    """The columns, besides some, in which members of a crowd differ most, by more than they tremble."""
    squares = np.zeros(near.rows.shape[1])
    for own in _pieces(len(crowd)):
        _, nearest = near.nearest(crowd[own], _COMPARED_IN_CROWD)
        one, other = near.members[crowd[own].repeat(_COMPARED_IN_CROWD)], near.members[nearest.reshape(-1)]
        apart = np.abs(near.rows[one] - near.rows[other])
        squares += (np.minimum(apart, np.abs(near.periods - apart)) ** 2).sum(axis=0)
    squares[columns] = 0.0
    most = np.argsort(squares, kind="stable")[-_DIMENSIONS:]
    least = _COMPARED_IN_CROWD * len(crowd) * (2.0 * _GEOMETRY_TOLERANCE) ** 2
    return np.asarray(most[squares[most] > least])


def _most_varied(rows: FloatArray, periods: FloatArray) -> IntArray:
    """The columns in which rows differ most."""
    repeats = periods > 0.0
    sums = np.zeros((3, rows.shape[1]))
    for own in _pieces(len(rows)):
        angles = 2.0 * np.pi * rows[own]
        sines, cosines = np.where(repeats, np.sin(angles), angles), np.where(repeats, np.cos(angles), 0.0)
        sums += sines.sum(axis=0), cosines.sum(axis=0), (sines**2 + cosines**2).sum(axis=0)
    means = sums / len(rows)
    most: IntArray = np.argsort(means[2] - means[0] ** 2 - means[1] ** 2, kind="stable")[-_DIMENSIONS:]
    return most


def _distances(rows: FloatArray, periods: FloatArray, one: IntArray, other: IntArray) -> FloatArray:
    """(n_pairs,) the largest difference in a column."""
    distances = np.empty(len(one))
    for own in _pieces(len(one)):
        apart = np.abs(rows[one[own]] - rows[other[own]])
        distances[own] = np.minimum(apart, np.abs(periods - apart)).max(axis=1)
    return distances


def _near_another(has_more: NDArray[np.bool_], part: IntArray, near: _Near) -> IntArray:
    """Which of the members with unchecked neighbors may connect to another component."""
    from scipy.spatial import cKDTree

    unchecked = np.flatnonzero(has_more)
    _, heads, place = np.unique(part[unchecked], return_index=True, return_inverse=True)
    if len(heads) < 2:
        return unchecked[:0]
    heads = unchecked[heads]
    points, periods = near.points, near.periods_of_points
    radius = _distances(points, periods, unchecked, heads[place]).max()
    # if two heads are farther apart than this, so are the rows around them
    bound = 2.0 * radius + 2.0 * _GEOMETRY_TOLERANCE
    tree = cKDTree(points[heads], boxsize=periods)
    is_near = np.isfinite(tree.query(points[heads], [2], p=np.inf, distance_upper_bound=bound)[0][:, 0])
    return np.asarray(unchecked[is_near[place]])


def _copies(rows: FloatArray, periods: FloatArray) -> IntArray:
    """(n,) the first row that is equal after rounding, usually the row itself."""
    n_steps = np.rint(periods / _COPY_TOLERANCE)
    first: dict[bytes, int] = {}
    copy_of = np.empty(len(rows), dtype=np.int64)
    for own in _pieces(len(rows)):
        rounded = np.rint(rows[own] / _COPY_TOLERANCE)
        rounded[rounded == n_steps] = 0.0
        copy_of[own] = [
            first.setdefault(blake2b(row, digest_size=16).digest(), own.start + k)
            for k, row in enumerate(rounded)
        ]
    return copy_of


def _equal_scales(scan: IntArray, scales: FloatArray) -> IntArray:
    """(n,) the first index with the same component and scale, or -1 if that is the index itself."""
    duplicate_of = np.full(len(scan), -1, dtype=np.int64)
    order = np.lexsort((scales, scan))
    cluster = np.ones(len(order), dtype=np.int64)
    cluster[1:] = (np.diff(scan[order]) != 0) | (
        np.diff(scales[order]) > _GEOMETRY_TOLERANCE * scales[order][1:]
    )
    for members in np.split(order, np.flatnonzero(cluster)[1:]):
        if len(members) > 1:
            first = members.min()
            duplicate_of[members[members != first]] = first
    return duplicate_of
