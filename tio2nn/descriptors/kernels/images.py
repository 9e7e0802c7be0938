"""Compiled loops of the neighbor search: periodic images.

`neighbors.py` is the door in front.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.kernels.compiling import compiled_once


@compiled_once()
def image_ranges(
    wrapped: FloatArray,
    inverses: FloatArray,
    periodic: NDArray[np.bool_],
    first_atom: IntArray,
    cutoff: float,
) -> FloatArray:
    """The cells in which an image of an atom can lie within the cutoff of an atom of its structure.

    An image is kept if its fractional coordinates exceed the range that the structure's atoms span by no
    more than R_c over the distance between opposite faces: an exact bound for any cell.

    Args:
        wrapped: (n_atoms, 3) Å, atoms of all structures.
        inverses: (n_structures, 3, 3) of cells with vectors in rows, directions that do not repeat completed.
        periodic: (n_structures, 3).
        first_atom: (n_structures + 1,) index of each structure's first atom.
        cutoff: Å.

    Returns:
        (n_atoms, 3, 2) first and last cell along each vector: whole numbers, but of any size.
    """
    ranges = np.zeros((wrapped.shape[0], 3, 2))
    for s in range(first_atom.shape[0] - 1):
        for axis in range(3):
            if not periodic[s, axis]:
                continue
            column = inverses[s, :, axis]
            margin = cutoff * np.sqrt(column[0] ** 2 + column[1] ** 2 + column[2] ** 2) + 1e-9
            low, high = np.inf, -np.inf
            for a in range(first_atom[s], first_atom[s + 1]):
                f = wrapped[a, 0] * column[0] + wrapped[a, 1] * column[1] + wrapped[a, 2] * column[2]
                ranges[a, axis, :] = f
                low, high = min(low, f), max(high, f)
            for a in range(first_atom[s], first_atom[s + 1]):
                f = ranges[a, axis, 0]
                ranges[a, axis, 0] = np.ceil(low - margin - f)
                ranges[a, axis, 1] = np.floor(high + margin - f)
    return ranges


@compiled_once()
def place_images(
    wrapped: FloatArray,
    cells: FloatArray,
    first_atom: IntArray,
    spacing: float,
    ranges: IntArray,
    points: FloatArray,
    owners: IntArray,
) -> None:
    """Write all atoms, then all other images in the cells of `image_ranges`.

    Args:
        wrapped: (n_atoms, 3) Å, atoms of all structures.
        cells: (n_structures, 3, 3), vectors in rows.
        first_atom: (n_structures + 1,) index of each structure's first atom.
        spacing: step of the fourth coordinate, which keeps structures apart.
        ranges: (n_atoms, 3, 2) first and last cell along each vector.
        points: (n_points, 4) out: x, y, z in Å and the fourth coordinate.
        owners: (n_points,) out: index of the atom that the point is an image of.
    """
    n_points = wrapped.shape[0]
    for s in range(first_atom.shape[0] - 1):
        for a in range(first_atom[s], first_atom[s + 1]):
            points[a, :3] = wrapped[a]
            points[a, 3] = spacing * s
            owners[a] = a
            for n0 in range(ranges[a, 0, 0], ranges[a, 0, 1] + 1):
                for n1 in range(ranges[a, 1, 0], ranges[a, 1, 1] + 1):
                    for n2 in range(ranges[a, 2, 0], ranges[a, 2, 1] + 1):
                        if n0 == 0 and n1 == 0 and n2 == 0:
                            continue
                        for x in range(3):
                            points[n_points, x] = (
                                wrapped[a, x]
                                + n0 * cells[s, 0, x]
                                + n1 * cells[s, 1, x]
                                + n2 * cells[s, 2, x]
                            )
                        points[n_points, 3] = spacing * s
                        owners[n_points] = a
                        n_points += 1
