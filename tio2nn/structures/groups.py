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
# by how much functions of period 1 of equal numbers may differ: their steepest slope, 2 pi, times the tolerance; also
# a mean of such functions
_REACH = 2.0 * np.pi * _GEOMETRY_TOLERANCE
_DIRECTIONS = 6  # in which rows are told apart before they are compared
_BOX = 16  # edge of a box in units of the reach; 1.4 times as many entries as rows
_TOGETHER = 1024  # structures of one composition at a time
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
    for (_, periodic), members in alike.items():
        chosen = np.array(members)
        scales[chosen], coordinates, shapes = _scaled([structures[i] for i in members], np.array(periodic))
        if len(members) > 1:
            pairs.append(chosen[_equal_rows(coordinates, shapes, np.array(periodic))])
    return scales, np.concatenate(pairs)


def _scaled(
    structures: Sequence[Structure], periodic: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scales (n,); without them, coordinates (n, n_atoms, 3) from the first atom and metric tensors (n, 9)."""
    n = len(structures)
    scales, shapes = np.ones(n), np.empty((n, 9))
    coordinates = np.empty((n, structures[0].n_atoms, 3))
    dimensions = int(periodic.sum())
    for own in _pieces(n):
        cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures[own]])
        if dimensions:
            # the determinant is an area or a length where the other axes are unit vectors
            scales[own] = np.abs(np.linalg.det(cells)) ** (1.0 / dimensions)
        cells[:, periodic] /= scales[own, None, None]
        positions = np.stack([s.positions for s in structures[own]]) / scales[own, None, None]
        coordinates[own] = (positions - positions[:, :1]) @ np.linalg.inv(cells)
        shapes[own] = (cells @ cells.transpose(0, 2, 1)).reshape(len(cells), 9)
    return scales, coordinates, shapes


def _pieces(n: int) -> Iterator[slice]:
    """So many structures at a time that intermediate results stay small."""
    return (slice(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER))


def _equal_rows(coordinates: FloatArray, shapes: FloatArray, periodic: NDArray[np.bool_]) -> IntArray:
    """Pairs (n_pairs, 2) of rows equal within the tolerance, enough to connect all that such pairs connect.

    First each row is paired with the next one equal to it, in the order of one projection. That need not be all, for
    equality within a tolerance is not transitive. So in further rounds rows look on both sides for one of another
    part of what is connected so far, a larger one, until there is none (Borůvka's algorithm). Of copies, far more
    equal than the tolerance, one looks for all.

    Only rows that fall into one box of a grid in a few other directions are compared, so the time is that of sorting
    unless very many rows differ by little more than the tolerance.
    """
    n = len(coordinates)
    projections, marks = _projections(coordinates, shapes, periodic)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(projections, kind="stable")] = np.arange(n)
    rows, boxes = _boxes(marks)
    order = np.lexsort((rank[rows], *boxes.T))
    rows, boxes = rows[order], boxes[order]
    box = np.cumsum(np.concatenate([[True], (boxes[1:] != boxes[:-1]).any(axis=1)]))

    def are_equal(one: IntArray, other: IntArray, tolerance: float) -> NDArray[np.bool_]:
        equal = np.empty(len(one), dtype=np.bool_)
        for k in np.array_split(np.arange(len(one)), 1 + len(one) // _TOGETHER):
            equal[k] = _are_equal(coordinates, shapes, periodic, one[k], other[k], tolerance)
        return equal

    def first_equal(searching: IntArray, direction: int, weights: IntArray) -> IntArray:
        """For each of `searching`, places in `rows`, the first equal row of more weight; pairs of rows."""
        pairs = [np.empty((0, 2), dtype=np.int64)]
        step = direction
        while len(searching := searching[(searching + step >= 0) & (searching + step < len(rows))]):
            searching = searching[box[searching + step] == box[searching]]
            one, other = rows[searching], rows[searching + step]
            near = np.abs(projections[one] - projections[other]) <= _REACH
            searching, one, other = searching[near], one[near], other[near]
            equal = weights[one] < weights[other]
            equal &= (np.abs(marks[one] - marks[other]) <= _REACH).all(axis=1)
            equal[equal] = are_equal(one[equal], other[equal], _GEOMETRY_TOLERANCE)
            pairs.append(np.stack([one[equal], other[equal]], axis=1))
            searching = searching[~equal]
            step += direction
        return np.concatenate(pairs)

    found = pairs = first_equal(np.arange(len(rows)), 1, rank)
    # compared with one of them, lest small differences add up
    copy_of = _components(n, found[are_equal(found[:, 0], found[:, 1], _COPY_TOLERANCE)])
    is_copy = (copy_of != np.arange(n)) & are_equal(np.arange(n), copy_of, _COPY_TOLERANCE)
    rows, box = rows[~is_copy[rows]], box[~is_copy[rows]]
    while len(found):
        part = _components(n, pairs)
        weights = np.bincount(part, minlength=n)[part] * n + part
        _, begins, place = np.unique(box, return_index=True, return_inverse=True)
        heaviest = np.maximum.reduceat(weights[rows], begins)[place]
        # in boxes of rows that stand alone the first round was all
        searching = np.flatnonzero((weights[rows] < heaviest) & (heaviest >= 2 * n))
        found = np.concatenate([first_equal(searching, direction, weights) for direction in (1, -1)])
        pairs = np.concatenate([pairs, found])
    return pairs


def _are_equal(
    coordinates: FloatArray,
    shapes: FloatArray,
    periodic: NDArray[np.bool_],
    one: IntArray,
    other: IntArray,
    tolerance: float,
) -> NDArray[np.bool_]:
    apart = np.abs(coordinates[one] - coordinates[other])
    apart = np.where(periodic, np.abs(apart - np.rint(apart)), apart)
    return np.asarray(
        (apart.max(axis=(1, 2)) <= tolerance) & (np.abs(shapes[one] - shapes[other]).max(axis=1) <= tolerance)
    )


def _projections(
    coordinates: FloatArray, shapes: FloatArray, periodic: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """A projection (n,) of all that describes a row, and those single numbers (n, `_DIRECTIONS`) that vary most.

    Coordinates enter by functions of period 1. In each result equal rows differ by at most `_REACH`.
    """
    n, n_angles = len(coordinates), coordinates[0].size
    waves = np.tile(periodic, coordinates.shape[1])
    weights = np.random.default_rng(0).uniform(-1.0, 1.0, 2 * n_angles + shapes.shape[1])
    weights /= np.abs(weights).sum()
    by_sine, by_cosine, by_shape = np.split(weights, [n_angles, 2 * n_angles])

    def columns(own: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        angles = (np.where(periodic, 2.0 * np.pi, 1.0) * coordinates[own]).reshape(-1, n_angles)
        return (
            np.where(waves, np.sin(angles), angles),
            np.where(waves, np.cos(angles), 0.0),
            shapes[own],
        )

    projections = np.empty(n)
    sums, squares = np.zeros(len(weights)), np.zeros(len(weights))
    for own in _pieces(n):
        sines, cosines, of_shape = columns(own)
        projections[own] = sines @ by_sine
        projections[own] += cosines @ by_cosine + of_shape @ by_shape
        every = np.hstack([sines, cosines, of_shape])
        sums, squares = sums + every.sum(axis=0), squares + (every**2).sum(axis=0)
    most_varied = np.argsort(squares / n - (sums / n) ** 2)[-_DIRECTIONS:]
    marks = np.concatenate([np.hstack(columns(own))[:, most_varied] for own in _pieces(n)])
    return projections, marks


def _boxes(marks: FloatArray) -> tuple[IntArray, IntArray]:
    """Rows and the boxes (n_entries, n_directions) that they are in: near its upper end also in the next one, so
    that rows that differ by `_REACH` share a box."""
    rows = np.arange(len(marks))
    scaled = marks / (_BOX * _REACH)
    boxes = np.floor(scaled).astype(np.int64)
    # a thousandth more than `_REACH`, for rounding
    near_end = scaled - boxes > 1.0 - 1.001 / _BOX
    for k in range(marks.shape[1]):
        again = near_end[rows, k]
        further = boxes[again]
        further[:, k] += 1
        rows, boxes = np.concatenate([rows, rows[again]]), np.concatenate([boxes, further])
    return rows, boxes


def _components(n: int, pairs: IntArray) -> IntArray:
    """(n,) the smallest index of each one's connected component."""
    first = list(range(n))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    for one, other in pairs.tolist():
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return np.array([root(index) for index in range(n)], dtype=np.int64)


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
