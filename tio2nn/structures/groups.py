"""Groups of structures that resemble each other so much that a random split into parts would leak.

A group is a connected component of two relations:

- *scan*: the same geometry up to a uniform scale of the cell, as in a volume scan. Equal elements in equal
  order, cells of equal shape, equal fractional coordinates relative to the first atom (modulo 1).
- *run*: consecutive frames of one cell, as in molecular dynamics or a relaxation. Neighbors in the natural
  order of names with equal elements in equal order and equal cells; without a cell only inside one file.

Of the structures of one scan, those of equal scale are duplicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tio2nn.structures.geometry import complete_cell
from tio2nn.structures.structure import FloatArray, Structure

IntArray = NDArray[np.int64]

# of fractional coordinates, and of cells divided by the edge of a cube of equal volume. Files round to 6-8
# decimals of an Å; structures whose atoms differ by 1e-5 of a cell, 0.05 mÅ, say nothing different
_GEOMETRY_TOLERANCE = 1e-5
_COPY_TOLERANCE = 0.01 * _GEOMETRY_TOLERANCE  # of what is equal but for the last digits
_TOGETHER = 1024  # structures of one composition at a time
_DIMENSIONS = 8  # in which rows are told apart before they are compared
_NEAREST_AT_ONCE = 1_000_000  # numbers; 16 MB
# Å, of the components of cell vectors: the digits that programs print differ from frame to frame below this
_CELL_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Groups:
    """What belongs together, by index into the structures in their natural order.

    Attributes:
        group: (n_structures,) first member of the group, itself for a structure that stands alone.
        scan: (n_structures,) first member of the volume scan, or -1.
        run: (n_structures,) first member of the run of consecutive frames, or -1.
        duplicate_of: (n_structures,) first structure of equal geometry, or -1.
    """

    group: IntArray
    scan: IntArray
    run: IntArray
    duplicate_of: IntArray


def find_groups(structures: Sequence[Structure]) -> Groups:
    """Group structures; see the module for the definition.

    Args:
        structures: in the natural order of their names.
    """
    n = len(structures)
    scales, same_geometry = _equal_up_to_scale(structures)
    consecutive = _consecutive_frames(structures)
    scan = _components(n, same_geometry)
    duplicate_of = _equal_scales(scan, scales)
    n_distinct = np.bincount(scan[duplicate_of == -1], minlength=n)
    run = _components(n, consecutive)
    return Groups(
        group=_components(n, np.concatenate([same_geometry, consecutive])),
        # one geometry at one scale is no scan, however often it occurs
        scan=np.where(n_distinct[scan] > 1, scan, -1),
        run=np.where(np.bincount(run, minlength=n)[run] > 1, run, -1),
        duplicate_of=duplicate_of,
    )


def _consecutive_frames(structures: Sequence[Structure]) -> IntArray:
    """(n_pairs, 2) neighbors in the order that are frames of one cell."""
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
    """The scale of each structure, Å, and pairs (n_pairs, 2) that connect all structures equal but for it."""
    scales = np.ones(len(structures))
    alike: dict[tuple[tuple[str, ...], tuple[bool, ...]], list[int]] = defaultdict(list)
    for index, structure in enumerate(structures):
        alike[structure.elements, structure.periodic].append(index)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for (elements, periodic), members in alike.items():
        chosen = np.array(members)
        scales[chosen], rows = _scaled([structures[i] for i in members], np.array(periodic))
        if len(members) > 1:
            # coordinates repeat after 1, those of the other axes and the shapes of cells do not
            periods = np.concatenate([np.tile(np.where(periodic, 1.0, 0.0), len(elements)), np.zeros(9)])
            pairs.append(chosen[_equal_rows(rows, periods)])
    return scales, np.concatenate(pairs)


def _scaled(structures: Sequence[Structure], periodic: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Scales (n,), and what is left without them (n, 3 n_atoms + 9): fractional coordinates from the first atom, from 0
    to below 1 along periodic axes, and the metric tensor of the cell."""
    n, n_angles = len(structures), 3 * structures[0].n_atoms
    scales, rows = np.ones(n), np.empty((n, n_angles + 9))
    dimensions = int(periodic.sum())
    for own in _pieces(n):
        cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures[own]])
        if dimensions:
            # the determinant is an area or a length where the other axes are unit vectors
            scales[own] = np.abs(np.linalg.det(cells)) ** (1.0 / dimensions)
        cells[:, periodic] /= scales[own, None, None]
        positions = np.stack([s.positions for s in structures[own]]) / scales[own, None, None]
        coordinates = (positions - positions[:, :1]) @ np.linalg.inv(cells)
        coordinates -= np.floor(coordinates) * periodic
        # of negative numbers that rounding loses beside 1
        coordinates[(coordinates == 1.0) & periodic] = 0.0
        rows[own, :n_angles] = coordinates.reshape(-1, n_angles)
        rows[own, n_angles:] = (cells @ cells.transpose(0, 2, 1)).reshape(-1, 9)
    return scales, rows


def _pieces(n: int) -> Iterator[slice]:
    """So many structures at a time that intermediate results stay small."""
    return (slice(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER))


def _equal_rows(rows: FloatArray, periods: FloatArray) -> IntArray:
    """Pairs (n_pairs, 2) of rows equal within the tolerance, enough to connect all that such pairs connect.

    Of copies, far more equal than the tolerance, the first looks for all: pairs of each with each would be very many.

    Args:
        rows: (n, n_columns).
        periods: (n_columns,) of the numbers in a column, 0 where they do not repeat.
    """
    from scipy.spatial import cKDTree

    copy_of = _copies(rows, periods)
    first = np.flatnonzero(copy_of == np.arange(len(rows)))
    # 20,000 rows that differ within the tolerance take 1 s in 8 dimensions, 26 s in 81
    columns = _most_varied(rows, periods)
    points, periods_of_points = rows[np.ix_(first, columns)], periods[columns]
    tree = cKDTree(points, boxsize=periods_of_points)
    pairs = np.stack([np.arange(len(rows)), copy_of], axis=1)
    # each looks at its nearest; where not all that are near were looked at, more of them may connect more
    searching, n_nearest = np.arange(len(points)), 4
    has_more = np.ones(len(points), dtype=np.bool_)
    while len(searching):
        found = [pairs]
        for some in np.array_split(searching, 1 + len(searching) * n_nearest // _NEAREST_AT_ONCE):
            apart, nearest = tree.query(
                points[some], n_nearest, p=np.inf, distance_upper_bound=_GEOMETRY_TOLERANCE
            )
            is_near = np.isfinite(apart)
            has_more[some] = is_near[:, -1]
            is_near &= nearest != some[:, None]
            one, other = first[np.repeat(some, is_near.sum(axis=1))], first[nearest[is_near]]
            equal = _distances(rows, periods, one, other) <= _GEOMETRY_TOLERANCE
            found.append(np.stack([one[equal], other[equal]], axis=1))
        pairs = np.concatenate(found)
        part = _components(len(rows), pairs)[first]
        searching = _near_another(np.flatnonzero(has_more), part, points, periods_of_points)
        n_nearest *= 4
    return pairs


def _most_varied(rows: FloatArray, periods: FloatArray) -> IntArray:
    """The few columns in which rows differ most."""
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


def _near_another(searching: IntArray, part: IntArray, points: FloatArray, periods: FloatArray) -> IntArray:
    """Which of the rows that did not look at all that are near may find another part of what is connected so far.

    Not those of the largest part: of two rows that are near each other, and of two parts, one is enough.
    """
    from scipy.spatial import cKDTree

    _, heads, place, sizes = np.unique(
        part[searching], return_index=True, return_inverse=True, return_counts=True
    )
    if len(heads) < 2:
        return searching[:0]
    heads = searching[heads]
    radius = _distances(points, periods, searching, heads[place]).max()
    # of heads that are as far apart as this all that surrounds them is, too
    bound = 2.0 * radius + 2.0 * _GEOMETRY_TOLERANCE
    tree = cKDTree(points[heads], boxsize=periods)
    is_near = np.isfinite(tree.query(points[heads], [2], p=np.inf, distance_upper_bound=bound)[0][:, 0])
    is_near[sizes.argmax()] = False
    return np.asarray(searching[is_near[place]])


def _copies(rows: FloatArray, periods: FloatArray) -> IntArray:
    """(n,) the first row that is equal when rounded, mostly itself."""
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


def _components(n: int, pairs: IntArray) -> IntArray:
    """(n,) the smallest index of each one's connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = pairs.T.astype(np.int32)  # csgraph of SciPy 1.11 takes no longer indices
    graph = coo_array((np.ones(len(pairs), dtype=np.bool_), (one, other)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], dtype=np.int64)


def _equal_scales(scan: IntArray, scales: FloatArray) -> IntArray:
    """(n,) the first index of equal component and scale, or -1 where that is the index itself."""
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
