"""Distances in periodic cells of any shape: which cells span something, and the closest pair of atoms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from operator import mul
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.structures.structure import FloatArray, Structure

IntArray = NDArray[np.int64]

# of volume over product of the edges; below it vectors lie in one plane (angles of 1 degree give 1e-4)
_FLAT_CELL = 1e-6
# in a reduced cell the shortest vector is at most sqrt(2) times each distance of opposite faces
_REDUCED_CELL = 1.5
# relative; far above that of float64, far below any distance that matters
_ROUNDING = 1e-9
# all pairs up to here, a k-d tree above: 200 atoms take 3 ms or 1.7 ms, but importing SciPy takes 400 ms
_MOST_ATOMS_FOR_ALL_PAIRS = 200
_PAIRS_AT_ONCE = 50_000  # 0.4 MB an array; from 20,000 to 100,000 the time is the same


class ClosestPairs(NamedTuple):
    """The closest pair of each of `n_structures` structures."""

    distances: FloatArray  # (n_structures,) Å; inf for a single atom without images
    atoms: IntArray  # (n_structures, 2) indices; twice the same where an atom is closest to its own image


def spans_volume(cell: FloatArray, periodic: Sequence[bool]) -> bool:
    """Whether the periodic vectors of a cell (3, 3) are independent: a volume, area or length above zero."""
    edges = [vector for vector, repeats in zip(cell.tolist(), periodic, strict=True) if repeats]
    # plain numbers: NumPy would take 10 times as long for a matrix of this size
    product_of_lengths = math.prod(math.hypot(*edge) for edge in edges)
    if len(edges) == 3:
        measure = abs(sum(map(mul, edges[0], _cross(edges[1], edges[2]))))
    elif len(edges) == 2:
        measure = math.hypot(*_cross(*edges))
    else:
        measure = product_of_lengths
    return bool(measure > _FLAT_CELL * product_of_lengths)


def _cross(u: Sequence[float], v: Sequence[float]) -> tuple[float, float, float]:
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


def complete_cell(cell: FloatArray, periodic: Sequence[bool]) -> FloatArray:
    """The cell with each vector that is not periodic replaced by a unit vector normal to all others.

    Lattice planes then have their true spacing, whatever a file gives as the third vector of a slab.

    Args:
        cell: (3, 3) one vector a row, Å; the periodic ones span a volume.
        periodic: of the three vectors.

    Returns:
        (3, 3), invertible.
    """
    if all(periodic):
        return cell
    mask = np.array(periodic)
    completed = np.array(cell)
    if mask.sum() == 2:
        # a fixed side of the plane, so that slabs of equal shape stay equal
        normal = np.cross(*cell[mask])
        completed[~mask] = normal / np.linalg.norm(normal)
    else:
        # the right singular vectors behind the rank are normal to the rows
        completed[~mask] = np.linalg.svd(cell[mask])[2][1:] if mask.any() else np.eye(3)
    return completed


def reduced_cell(cell: FloatArray, periodic: Sequence[bool]) -> FloatArray:
    """The same lattice by its shortest vectors (Minkowski reduction of the periodic rows).

    Args:
        cell: (3, 3) one vector a row, Å.
        periodic: of the three vectors; the others stay as they are.

    Returns:
        (3, 3).
    """
    # importing it takes 10 ms, a reduction 1 ms: only skewed cells pay for them
    from ase.geometry import minkowski_reduce

    try:
        reduced, _ = minkowski_reduce(cell, pbc=periodic)
    except RuntimeError:
        # its tolerance is 1e-12 Å: it gives up cells as long as 1e5 Å that are reduced but for rounding
        return cell
    return np.array(reduced)


def closest_pairs(structures: Sequence[Structure]) -> ClosestPairs:
    """The closest two atoms of each structure, periodic images included; exact for every cell.

    With h the distance of opposite faces along an axis, a vector of length D has a fractional component of
    at most D/h. So with an upper bound D of the distance sought, taken from images that rounding finds,
    those up to floor(D/h + 1/2) cells away remain to be looked at: none for most structures.

    Args:
        structures: any sizes; those of equal size are handled together.
    """
    distances = np.full(len(structures), np.inf)
    atoms = np.zeros((len(structures), 2), dtype=np.int64)
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, structure in enumerate(structures):
        by_size[structure.n_atoms].append(index)
    for n_atoms, members in sorted(by_size.items()):
        n_pairs = n_atoms * (n_atoms - 1) // 2
        step = max(1, _PAIRS_AT_ONCE // max(n_pairs, 1)) if n_atoms <= _MOST_ATOMS_FOR_ALL_PAIRS else 1
        for start in range(0, len(members), step):
            chosen = np.array(members[start : start + step])
            batch = _Batch([structures[index] for index in chosen])
            found = batch.closest_by_tree() if n_atoms > _MOST_ATOMS_FOR_ALL_PAIRS else batch.closest()
            distances[chosen], atoms[chosen] = found
    return ClosestPairs(distances, atoms)


class _Batch:
    """Structures of equal size as arrays, their cells reduced where they are long and flat."""

    def __init__(self, structures: Sequence[Structure]) -> None:
        self.periodic = np.array([s.periodic for s in structures])  # (n, 3)
        self.cells = np.stack([complete_cell(s.cell, s.periodic) for s in structures])  # (n, 3, 3) Å
        self._measure()
        stretched = self.edges.min(axis=1) > _REDUCED_CELL * self.heights.min(axis=1)
        for index in np.flatnonzero(stretched):
            self.cells[index] = reduced_cell(self.cells[index], self.periodic[index])
        if stretched.any():
            self._measure()
        self.fractional = np.stack([s.positions for s in structures]) @ self.inverse  # (n, n_atoms, 3)

    def _measure(self) -> None:
        self.inverse = np.linalg.inv(self.cells)
        # an axis without images has no end
        self.heights = np.where(
            self.periodic, 1.0 / np.sqrt((self.inverse**2).sum(axis=1)), np.inf
        )  # (n, 3) Å
        self.edges = np.where(self.periodic, np.sqrt((self.cells**2).sum(axis=2)), np.inf)  # (n, 3) Å

    def closest(self) -> tuple[FloatArray, IntArray]:
        """By all pairs."""
        n_atoms = self.fractional.shape[1]
        first, second = np.triu_indices(n_atoms, k=1)
        # the last pair is an atom and its own image
        first, second = np.append(first, n_atoms - 1), np.append(second, n_atoms - 1)
        # an array (n, n_pairs) for each axis: 4 times as fast as arrays whose last axis is 3 long
        axes = [np.ascontiguousarray(self.fractional[:, :, axis]) for axis in range(3)]
        between = [axis[:, second] - axis[:, first] for axis in axes]
        for axis in range(3):
            between[axis] -= np.rint(between[axis]) * self.periodic[:, axis, None]

        squares = _squared_lengths(between, self.cells)
        squares[:, -1] = self.edges.min(axis=1) ** 2
        best, distances = _smallest(squares)
        reach = self._images_within(distances)
        for shift in product(*(range(-n, n + 1) for n in reach.max(axis=0))):
            # a structure takes part in the shifts that lie within its own reach
            chosen = (
                np.flatnonzero((np.abs(shift) <= reach).all(axis=1))
                if any(shift)
                else np.array([], dtype=int)
            )
            if len(chosen) == 0:
                continue
            shifted = [between[axis][chosen] + shift[axis] for axis in range(3)]
            pair, distance = _smallest(_squared_lengths(shifted, self.cells[chosen]))
            better = distance < distances[chosen]
            best[chosen[better]], distances[chosen[better]] = pair[better], distance[better]
        return distances, np.stack([first[best], second[best]], axis=1)

    def _images_within(self, distances: FloatArray) -> IntArray:
        """(n, 3): how many cells away a vector of that length can lead from a nearest image."""
        finite = np.where(np.isfinite(distances), distances, 0.0)
        return np.floor(finite[:, None] / self.heights + 0.5).astype(np.int64)

    def closest_by_tree(self) -> tuple[FloatArray, IntArray]:
        """By a k-d tree of the atoms and those images that are near enough; for one large structure."""
        from scipy.spatial import cKDTree

        (cell,), (heights,), (periodic,) = self.cells, self.heights, self.periodic
        inside = self.fractional[0] - np.floor(self.fractional[0]) * periodic
        n_atoms = len(inside)
        # neighbors inside the cell bound the distance from above
        bound = float(cKDTree(inside @ cell).query(inside @ cell, k=2)[0][:, 1].min())
        margin = min(bound, float(self.edges.min())) / heights + _ROUNDING
        images = [inside]
        sources = [np.arange(n_atoms)]
        for shift in product(*(range(-n, n + 1) for n in np.ceil(margin).astype(int) * periodic)):
            if any(shift):
                shifted = inside + shift
                near = (((shifted >= -margin) & (shifted <= 1.0 + margin)) | ~periodic).all(axis=1)
                images.append(shifted[near])
                sources.append(np.flatnonzero(near))
        found, indices = cKDTree(np.concatenate(images) @ cell).query(inside @ cell, k=2)
        # of two atoms at one place either comes first
        first = int(found[:, 1].argmin())
        neighbors = np.concatenate(sources)[indices[first]]
        second = int(neighbors[0] if indices[first, 0] != first else neighbors[1])
        return np.array([found[first, 1]]), np.array([sorted((first, second))])


def _squared_lengths(fractional: Sequence[FloatArray], cells: FloatArray) -> FloatArray:
    """Of fractional vectors, given as three arrays (n, n_pairs), in n cells; (n, n_pairs) Å²."""
    squares = np.zeros_like(fractional[0])
    for component in range(3):
        cartesian = fractional[0] * cells[:, 0, component, None]
        for axis in (1, 2):
            cartesian += fractional[axis] * cells[:, axis, component, None]
        cartesian *= cartesian
        squares += cartesian
    return squares


def _smallest(squares: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index and square root of the smallest of each row."""
    best = squares.argmin(axis=1)
    return best, np.sqrt(squares[np.arange(len(best)), best])
