"""Geometry of periodic cells of any shape: whether they span a volume, and the closest pair of atoms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from operator import mul
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.structures.structure import Structure

# volume over product of the edges; vectors below it are coplanar (angles of 1 degree give 1e-4)
_FLAT_CELL = 1e-6
# in a reduced cell the shortest vector is at most sqrt(2) times the distance between any two opposite faces
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
    """Whether the periodic vectors of a cell (3, 3) are linearly independent: volume, area or length above zero."""
    edges = [vector for vector, repeats in zip(cell.tolist(), periodic, strict=True) if repeats]
    # plain floats: NumPy takes 10 times as long for a matrix of this size
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
    """The cell with each non-periodic vector replaced by a unit vector normal to all others.

    Lattice planes then have their true spacing, whatever third vector a file gives for a slab.

    Args:
        cell: (3, 3) one vector per row, Å; the periodic vectors are linearly independent.
        periodic: for each of the three vectors.

    Returns:
        (3, 3), invertible.
    """
    if all(periodic):
        return cell
    mask = np.array(periodic)
    completed = np.array(cell)
    if mask.sum() == 2:
        # always on the same side of the plane, so that equal slabs stay equal
        normal = np.cross(*cell[mask])
        completed[~mask] = normal / np.linalg.norm(normal)
    else:
        # right singular vectors beyond the rank are normal to the rows
        completed[~mask] = np.linalg.svd(cell[mask])[2][1:] if mask.any() else np.eye(3)
    return completed


def reduced_cell(cell: FloatArray, periodic: Sequence[bool]) -> FloatArray:
    """The same lattice by its shortest vectors (Minkowski reduction of the periodic rows).

    Args:
        cell: (3, 3) one vector per row, Å.
        periodic: for each of the three vectors; non-periodic vectors stay as they are.

    Returns:
        (3, 3) Å.
    """
    # importing it takes 10 ms, a reduction 1 ms: only skewed cells need it
    from ase.geometry import minkowski_reduce

    try:
        reduced, _ = minkowski_reduce(cell, pbc=periodic)
    except RuntimeError:
        # its tolerance is 1e-12 Å: it fails for cells as long as 1e5 Å that are reduced up to rounding
        return cell
    return np.array(reduced)


def closest_pairs(structures: Sequence[Structure]) -> ClosestPairs:
    """The closest two atoms of each structure, periodic images included; exact for every cell.

    With h the distance between opposite faces along an axis, a vector of length D has a fractional component of
    at most D/h. Rounding finds near images, and with them an upper bound D of the distance; then only images up to
    floor(D/h + 1/2) cells away remain to be checked: none for most structures.

    Args:
        structures: of any size; structures of equal size are handled together.
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


def touching_spheres(structure: Structure, radii: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of atoms whose spheres overlap, periodic images included, from both ends.

    Args:
        structure: any.
        radii: (n_atoms,) Å.

    Returns:
        atoms, others: (n_pairs,) indices.
        vectors: (n_pairs, 3) from one to the other, Å.
    """
    from scipy.spatial import cKDTree

    batch, reach = _Batch([structure]), 2.0 * float(radii.max())
    (cell,) = batch.cells
    inside, images, sources = batch.with_images(reach)
    # a crystal of 108 atoms takes 2 ms, and 15 ms with ASE
    pairs = cKDTree(inside @ cell).sparse_distance_matrix(
        cKDTree(images @ cell), reach, output_type="ndarray"
    )
    # images begin with the atoms themselves
    pairs = pairs[pairs["i"] != pairs["j"]]
    pairs = pairs[pairs["v"] < radii[pairs["i"]] + radii[sources[pairs["j"]]]]
    atoms, found = pairs["i"], pairs["j"]
    return atoms, sources[found], (images[found] - inside[atoms]) @ cell


class _Batch:
    """Structures of equal size as arrays; long and flat cells are reduced."""

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
        # an axis without images is infinitely long
        self.heights = np.where(
            self.periodic, 1.0 / np.sqrt((self.inverse**2).sum(axis=1)), np.inf
        )  # (n, 3) Å
        self.edges = np.where(self.periodic, np.sqrt((self.cells**2).sum(axis=2)), np.inf)  # (n, 3) Å

    def closest(self) -> tuple[FloatArray, IntArray]:
        """Closest pairs, from all pairs."""
        n_atoms = self.fractional.shape[1]
        first, second = np.triu_indices(n_atoms, k=1)
        # the last pair is an atom and its own image
        first, second = np.append(first, n_atoms - 1), np.append(second, n_atoms - 1)
        # one array (n, n_pairs) per axis: 4 times as fast as arrays whose last axis has length 3
        axes = [np.ascontiguousarray(self.fractional[:, :, axis]) for axis in range(3)]
        between = [axis[:, second] - axis[:, first] for axis in axes]
        for axis in range(3):
            between[axis] -= np.rint(between[axis]) * self.periodic[:, axis, None]

        squares = _squared_lengths(between, self.cells)
        squares[:, -1] = self.edges.min(axis=1) ** 2
        best, distances = _smallest(squares)
        reach = self._images_within(distances)
        for shift in product(*(range(-n, n + 1) for n in reach.max(axis=0))):
            # a structure needs only the shifts within its own reach
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
        """(n, 3) how many cells beyond the nearest image a vector of that length can reach."""
        finite = np.where(np.isfinite(distances), distances, 0.0)
        return np.floor(finite[:, None] / self.heights + 0.5).astype(np.int64)

    def closest_by_tree(self) -> tuple[FloatArray, IntArray]:
        """Closest pair of one large structure, from a k-d tree of its atoms and of the images near enough."""
        from scipy.spatial import cKDTree

        (cell,) = self.cells
        inside = self._inside()
        # neighbors inside the cell give an upper bound
        bound = float(cKDTree(inside @ cell).query(inside @ cell, k=2)[0][:, 1].min())
        inside, images, sources = self.with_images(min(bound, float(self.edges.min())))
        found, indices = cKDTree(images @ cell).query(inside @ cell, k=2)
        # of two atoms at the same position either may come first
        first = int(found[:, 1].argmin())
        neighbors = sources[indices[first]]
        second = int(neighbors[0] if indices[first, 0] != first else neighbors[1])
        return np.array([found[first, 1]]), np.array([sorted((first, second))])

    def with_images(self, distance: float) -> tuple[FloatArray, FloatArray, IntArray]:
        """Fractional coordinates of one structure: (n_atoms, 3) moved into the cell; (n, 3) the same, followed by all
        images within a distance, Å, of the cell; and (n,) the atoms they are of."""
        (heights,), (periodic,) = self.heights, self.periodic
        inside = self._inside()
        margin = distance / heights + _ROUNDING
        images = [inside]
        sources = [np.arange(len(inside))]
        for shift in product(*(range(-n, n + 1) for n in np.ceil(margin).astype(int) * periodic)):
            if any(shift):
                shifted = inside + shift
                near = (((shifted >= -margin) & (shifted <= 1.0 + margin)) | ~periodic).all(axis=1)
                images.append(shifted[near])
                sources.append(np.flatnonzero(near))
        return inside, np.concatenate(images), np.concatenate(sources)

    def _inside(self) -> FloatArray:
        return np.asarray(self.fractional[0] - np.floor(self.fractional[0]) * self.periodic[0])


def _squared_lengths(fractional: Sequence[FloatArray], cells: FloatArray) -> FloatArray:
    """(n, n_pairs) Å²; of fractional vectors in n cells, given as one array (n, n_pairs) per axis."""
    squares = np.zeros_like(fractional[0])
    for component in range(3):
        cartesian = fractional[0] * cells[:, 0, component, None]
        for axis in (1, 2):
            cartesian += fractional[axis] * cells[:, axis, component, None]
        cartesian *= cartesian
        squares += cartesian
    return squares


def _smallest(squares: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index and square root of the smallest value in each row."""
    best = squares.argmin(axis=1)
    return best, np.sqrt(squares[np.arange(len(best)), best])


def components(n: int, pairs: IntArray) -> IntArray:
    """(n,) the smallest index in the connected component of each, which pairs (n_pairs, 2) connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = pairs.T.astype(np.int32)  # csgraph of SciPy 1.11 takes 32-bit indices only
    graph = coo_array((np.ones(len(pairs), dtype=np.bool_), (one, other)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], dtype=np.int64)


def molecules(positions: FloatArray, gap: float) -> list[IntArray]:
    """Indices of the atoms of each molecule, between which no atoms are closer than a gap, Å.

    Args:
        positions: (n_atoms, 3) Å, not periodic.
        gap: Å.
    """
    from scipy.spatial import cKDTree

    near = cKDTree(positions).query_pairs(gap, output_type="ndarray")
    of_atoms = components(len(positions), near)
    return [np.flatnonzero(of_atoms == first) for first in np.unique(of_atoms)]
