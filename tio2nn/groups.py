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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tio2nn.geometry import complete_cell
from tio2nn.structure import FloatArray, Structure

IntArray = NDArray[np.int64]

# of fractional coordinates, and of cells divided by the edge of a cube of equal volume. Files round to 6-8
# decimals of an Å; structures whose atoms differ by 1e-5 of a cell, 0.05 mÅ, say nothing different
_GEOMETRY_TOLERANCE = 1e-5
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
    cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures])
    dimensions = int(periodic.sum())
    volumes = np.abs(np.linalg.det(cells))  # an area or a length where the other axes are unit vectors
    scales = volumes ** (1.0 / dimensions) if dimensions else np.ones(len(cells))
    cells[:, periodic] /= scales[:, None, None]
    positions = np.stack([s.positions for s in structures]) / scales[:, None, None]
    coordinates = (positions - positions[:, :1]) @ np.linalg.inv(cells)
    return scales, coordinates, (cells @ cells.transpose(0, 2, 1)).reshape(len(cells), 9)


def _equal_rows(coordinates: FloatArray, shapes: FloatArray, periodic: NDArray[np.bool_]) -> IntArray:
    """Pairs (n_pairs, 2) of rows equal within the tolerance, each row with the next one equal to it.

    Equal rows have nearly equal projections on any direction, so only rows that are near each other in the
    order of one projection are compared: O(n log n) unless all rows differ by little more than the tolerance.
    """
    n = len(coordinates)
    # by functions of period 1, and with weights that sum to 1, the projections of equal rows differ by at most
    # the steepest slope, 2 pi, times the tolerance
    angles = (np.where(periodic, 2.0 * np.pi, 1.0) * coordinates).reshape(n, -1)
    waves = np.tile(periodic, coordinates.shape[1])
    weights = np.random.default_rng(0).uniform(-1.0, 1.0, 2 * angles.shape[1] + shapes.shape[1])
    weights /= np.abs(weights).sum()
    by_sine, by_cosine, by_shape = np.split(weights, [angles.shape[1], 2 * angles.shape[1]])
    projections = np.where(waves, np.sin(angles), angles) @ by_sine
    projections += np.where(waves, np.cos(angles), 0.0) @ by_cosine + shapes @ by_shape
    order = np.argsort(projections, kind="stable")
    projections = projections[order]

    pairs = [np.empty((0, 2), dtype=np.int64)]
    searching = np.arange(n)
    step = 1
    while len(searching := searching[searching + step < n]):
        near = projections[searching + step] - projections[searching] <= 2.0 * np.pi * _GEOMETRY_TOLERANCE
        searching = searching[near]
        one, other = order[searching], order[searching + step]
        apart = np.abs(coordinates[one] - coordinates[other])
        apart = np.where(periodic, np.abs(apart - np.rint(apart)), apart)
        equal = (apart.max(axis=(1, 2)) <= _GEOMETRY_TOLERANCE) & (
            np.abs(shapes[one] - shapes[other]).max(axis=1) <= _GEOMETRY_TOLERANCE
        )
        pairs.append(np.stack([one[equal], other[equal]], axis=1))
        searching = searching[~equal]
        step += 1
    return np.concatenate(pairs)


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
