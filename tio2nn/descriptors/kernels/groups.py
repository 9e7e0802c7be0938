"""Compiled loops of the neighbor search: groups of near points, and the neighbors of atoms among those of near groups.

A tree of single points finds a hundred neighbors of an atom, one by one; a tree of groups finds about that many near
groups for six atoms at once, whose points are then looked at one after the other in memory (9.7 → 5.4 µs an atom).

`neighbors.py` is the door in front.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.kernels.compiling import U, compiled_once

# Å; atoms this close are one atom twice: an image is off by rounding, a file by its last decimals
_SAME_PLACE = 1e-6


PointArray = NDArray[np.int32]
"""Indices of points: as many as a structure may have fit, in half of the memory."""


class Groups(NamedTuple):
    """All points, group by group; the groups of a structure in an order that depends on it alone."""

    first: IntArray  # (n_groups + 1,) where the points of each begin below
    points: IntArray  # (n_points,) index of each point
    places: FloatArray  # (3, n_points) of these, Å
    kinds: IntArray  # (n_points,) of these
    group_of: IntArray  # (n_atoms,) the group of each atom
    centers: FloatArray  # (n_groups, 4) as `points` of `place_images`
    radii: FloatArray  # (n_groups,) largest distance of a point of each from its center, Å


class NearGroups(NamedTuple):
    """The groups near each group, itself among them."""

    first: IntArray  # (n_groups + 1,) where those near each begin below
    groups: IntArray  # in ascending order
    most: int  # points in the groups near one of them, at most


@compiled_once(nogil=True)
def fill_groups(
    order: IntArray,
    cells: IntArray,
    points: FloatArray,
    owners: IntArray,
    kinds: IntArray,
    n_atoms: int,
) -> Groups:
    """Make groups of points that lie in the same cell of a grid.

    Args:
        order: (n_points,) points, those of one cell together.
        cells: (n_points, 4) cell of each.
        points: (n_points, 4) of `place_images`.
        owners: (n_points,) index of the atom that each point is an image of.
        kinds: (n_atoms,) of the atoms.
        n_atoms: the first of the points.
    """
    n_points = order.shape[0]
    places, group_of = np.empty((3, n_points)), np.empty(n_atoms, np.int64)
    point_kinds, first = np.empty(n_points, np.int64), np.empty(n_points + 1, np.int64)
    n_groups = 0
    for place in range(n_points):
        point = order[place]
        is_new = place == 0
        for x in range(4):
            is_new |= cells[point, x] != cells[order[max(place - 1, 0)], x]
        if is_new:
            first[n_groups] = place
            n_groups += 1
        for x in range(3):
            places[x, place] = points[point, x]
        point_kinds[place] = kinds[owners[point]]
        if point < n_atoms:
            group_of[point] = n_groups - 1
    first[n_groups] = n_points
    centers, radii = np.empty((n_groups, 4)), np.zeros(n_groups)
    for group in range(n_groups):
        begin, end = first[group], first[group + 1]
        for x in range(3):
            low, high = places[x, begin], places[x, begin]
            for place in range(begin + 1, end):
                low, high = min(low, places[x, place]), max(high, places[x, place])
            centers[group, x] = 0.5 * (low + high)
        centers[group, 3] = points[order[begin], 3]
        for place in range(begin, end):
            square = 0.0
            for x in range(3):
                square += (places[x, place] - centers[group, x]) ** 2
            radii[group] = max(radii[group], np.sqrt(square))
    return Groups(first[: n_groups + 1].copy(), order, places, point_kinds, group_of, centers, radii)


@compiled_once(nogil=True)
def cells_of(points: FloatArray, first_atom: IntArray, spacing: float, edge: float) -> IntArray:
    """The cell of each point in a grid that begins at the first atom of its structure.

    Args:
        points: (n_points, 4) of `place_images`.
        first_atom: (n_structures + 1,) index of each structure's first atom, which is a point of the same index.
        spacing: step of the fourth coordinate.
        edge: of a cell, Å.

    Returns:
        (n_points, 4) structure, and cell along x, y, z.
    """
    cells = np.empty((points.shape[0], 4), np.int64)
    for point in range(points.shape[0]):
        structure = np.int64(np.rint(points[point, 3] / spacing))
        cells[point, 0] = structure
        for x in range(3):
            cells[point, x + 1] = np.int64(
                np.floor((points[point, x] - points[first_atom[structure], x]) / edge)
            )
    return cells


@compiled_once(nogil=True)
def all_near_groups(
    chosen: IntArray, centers: FloatArray, radii: FloatArray, cutoff: float
) -> tuple[IntArray, IntArray]:
    """As `near_groups`, by comparing each with all groups of its structure.

    Args:
        chosen: (n,) groups, ascending.
        centers, radii: of all groups, those of a structure together.
        cutoff: Å.
    """
    x, y, z = centers[:, 0].copy(), centers[:, 1].copy(), centers[:, 2].copy()
    counts, near, n_near = np.empty(chosen.shape[0], np.int64), np.empty(64 * chosen.shape[0], np.int64), 0
    begin, end = 0, 0  # of the structure
    for c in range(chosen.shape[0]):
        group = chosen[c]
        if group >= end:
            begin, end = group, group + 1
            while begin > 0 and centers[begin - 1, 3] == centers[group, 3]:
                begin -= 1
            while end < radii.shape[0] and centers[end, 3] == centers[group, 3]:
                end += 1
        if n_near + end - begin > near.shape[0]:
            more = np.empty(2 * (n_near + end - begin), np.int64)
            more[:n_near] = near[:n_near]
            near = more
        before = n_near
        cx, cy, cz, from_group = x[group], y[group], z[group], cutoff + radii[group]
        for other in range(U(begin), U(end)):
            dx, dy, dz = x[other] - cx, y[other] - cy, z[other] - cz
            reach = from_group + radii[other]
            near[U(n_near)] = other
            n_near += 1 if dx * dx + dy * dy + dz * dz <= reach * reach else 0
        counts[c] = n_near - before
    return counts, near[:n_near].copy()


@compiled_once(nogil=True)
def near_groups(
    lefts: NDArray[np.intp],
    rights: NDArray[np.intp],
    distances: FloatArray,
    chosen: IntArray,
    radii: FloatArray,
    cutoff: float,
) -> tuple[IntArray, IntArray]:
    """The groups near some groups, in ascending order, whatever the order that the tree found them in.

    Args:
        lefts, rights, distances: (n_pairs,) position among the chosen groups, group, and distance of their centers.
        chosen: (n,) these groups.
        radii: (n_groups,) of all.
        cutoff: Å.

    Returns:
        counts: (n,) how many are near each.
        near: (sum of counts,) these.
    """
    # two counting sorts: by the second group, then by the first
    offsets = np.zeros(radii.shape[0] + 1, np.int64)
    places = np.zeros(chosen.shape[0] + 1, np.int64)
    is_near = np.empty(lefts.shape[0], np.bool_)
    for p in range(lefts.shape[0]):
        is_near[p] = distances[p] <= cutoff + radii[chosen[lefts[p]]] + radii[rights[p]]
        if is_near[p]:
            offsets[rights[p] + 1] += 1
            places[lefts[p] + 1] += 1
    counts = places[1:].copy()
    for g in range(radii.shape[0]):
        offsets[g + 1] += offsets[g]
    for g in range(chosen.shape[0]):
        places[g + 1] += places[g]
    order, near = np.empty(places[-1], np.int64), np.empty(places[-1], np.int64)
    for p in range(lefts.shape[0]):
        if is_near[p]:
            order[offsets[rights[p]]] = p
            offsets[rights[p]] += 1
    for p in order:
        near[places[lefts[p]]] = rights[p]
        places[lefts[p]] += 1
    return counts, near


@compiled_once(nogil=True)
def most_candidates(groups: Groups, first: IntArray, near: IntArray) -> int:
    """The largest number of points in the groups near one of them."""
    most = 0
    for group in range(first.shape[0] - 1):
        n = 0
        for g in near[first[group] : first[group + 1]]:
            n += groups.first[g + 1] - groups.first[g]
        most = max(most, n)
    return most


@compiled_once(nogil=True)
def find_points(
    groups: Groups, near: NearGroups, atoms: tuple[int, int], points: FloatArray, n_kinds: int, cutoff: float
) -> tuple[IntArray, PointArray]:
    """The points near consecutive atoms, by atom, kind and place in the groups; without the atom itself.

    A pair is *self* if its point is the center itself (index), never by distance.

    Args:
        groups: of all points.
        near: the groups near each.
        atoms: the first, and the one after the last.
        points: (n_points, 4) of `place_images`.
        n_kinds: number of kinds.
        cutoff: Å.

    Returns:
        first: (n_centers * n_kinds + 1,) where the points near each (center, kind) begin.
        partners: (n_pairs,) index of each point.
    """
    start, stop = atoms
    x, y, z = groups.places
    square = cutoff * cutoff
    first = np.zeros((stop - start) * n_kinds + 1, np.int64)
    room = 128 * (stop - start)
    found, n_found = np.empty(room, np.int64), 0
    for center in range(start, stop):
        group = groups.group_of[center]
        cx, cy, cz = points[center, 0], points[center, 1], points[center, 2]
        if n_found + near.most > found.shape[0]:
            more = np.empty(2 * (n_found + near.most), np.int64)
            more[:n_found] = found[:n_found]
            found = more
        begin_found = n_found
        for g in near.groups[near.first[group] : near.first[group + 1]]:
            begin, end = groups.first[g], groups.first[g + 1]
            for place in range(U(begin), U(end)):
                dx, dy, dz = x[place] - cx, y[place] - cy, z[place] - cz
                found[U(n_found)] = place
                n_found += 1 if dx * dx + dy * dy + dz * dz <= square else 0
        slot = (center - start) * n_kinds + 1
        for k in range(begin_found, n_found):
            place = found[k]
            if groups.points[place] != center:
                first[slot + groups.kinds[place]] += 1
    for slot in range(1, first.shape[0]):
        first[slot] += first[slot - 1]
    place_of = first[:-1].copy()
    partners = np.empty(first[-1], np.int32)
    k = 0
    for center in range(start, stop):
        slot = (center - start) * n_kinds
        # one more than its neighbors: the center itself
        for _ in range(first[slot + n_kinds] - first[slot] + 1):
            place = found[k]
            k += 1
            point = groups.points[place]
            if point != center:
                row = slot + groups.kinds[place]
                partners[place_of[row]] = point
                place_of[row] += 1
    return first, partners


@compiled_once(nogil=True)
def measure_pairs(
    first: IntArray,
    partners: PointArray,
    points: FloatArray,
    owners: IntArray,
    start: int,
    n_kinds: int,
    cutoff: float,
) -> tuple[IntArray, FloatArray, IntArray, np.int64]:
    """The neighbors of consecutive atoms among points that were near when they were found.

    Args:
        first, partners: of `find_points`.
        points: (n_points, 4) where they are now, Å; atoms first.
        owners: (n_points,) index of the atom that each point is an image of.
        start: the first center.
        n_kinds: number of kinds.
        cutoff: Å.

    Returns:
        first: (n_centers * n_kinds + 1,) where the neighbors of each (center, kind) begin.
        vectors: (n_pairs, 3) from center to neighbor, Å.
        atoms: (n_pairs,) atom whose image the neighbor is.
        coincident: index of the first pair at the same place, or -1.
    """
    found_first = np.zeros(first.shape[0], np.int64)
    vectors, atoms = np.empty((partners.shape[0], 3)), np.empty(partners.shape[0], np.int64)
    coincident, n = np.int64(-1), 0
    for row in range(first.shape[0] - 1):
        center = U(start + row // n_kinds)
        cx, cy, cz = points[center, 0], points[center, 1], points[center, 2]
        for pair in range(U(first[row]), U(first[row + 1])):
            point = U(partners[pair])
            x, y, z = points[point, 0] - cx, points[point, 1] - cy, points[point, 2] - cz
            to = U(n)
            vectors[to, 0], vectors[to, 1], vectors[to, 2] = x, y, z
            atoms[to] = owners[point]
            square = x * x + y * y + z * z
            if square < _SAME_PLACE * _SAME_PLACE:
                coincident = n if coincident < 0 else coincident
            n += 1 if square <= cutoff * cutoff else 0
        found_first[row + 1] = n
    return found_first, vectors[:n], atoms[:n], coincident


@compiled_once(nogil=True)
def close_pairs(
    first: IntArray, atoms: IntArray, vectors: FloatArray, start: int, n_kinds: int, distance: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """The pairs of a list that are closer than a distance, in their order.

    Args:
        first, atoms, vectors: of the list.
        start: the first center.
        n_kinds: number of kinds.
        distance: Å.

    Returns:
        centers, atoms: (n_found,) both ends of each pair.
        vectors: (n_found, 3) between them, Å.
    """
    found, n = np.empty(atoms.shape[0], np.int64), 0
    for pair in range(U(atoms.shape[0])):
        x, y, z = vectors[pair, 0], vectors[pair, 1], vectors[pair, 2]
        found[U(n)] = pair
        n += 1 if x * x + y * y + z * z < distance * distance else 0
    centers, others, between = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((n, 3))
    row = 0
    for k in range(n):
        pair = found[k]
        while first[row + 1] <= pair:
            row += 1
        centers[k], others[k], between[k] = start + row // n_kinds, atoms[pair], vectors[pair]
    return centers, others, between
