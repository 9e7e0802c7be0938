"""Compiled loops of the geometry that values and derivatives share: unit vectors, cosines, who is within reach of whom.

All lengths are in units of the cutoff, and the variable of every attenuation is t = 1 - R²/R_c².

The pairs (j, k) of neighbors of an atom are gathered into blocks of `BLOCK` before anything costly is computed, so that
the half of them with R_jk > R_c costs one comparison, and all later loops are long, free of branches and turned into
SIMD code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.arguments import AngularTables, Around, IndexArray
from tio2nn.descriptors.kernels.compiling import U, pasted
from tio2nn.descriptors.kernels.polynomials import attenuation_and_slope

BLOCK = 256  # 14 rows of 256 doubles stay in a 32 KiB L1 cache; 512 is 40 % slower


class Neighborhood(NamedTuple):
    """The neighbors of one center: (room,) each, of which the first are in use."""

    x: FloatArray  # unit vectors
    y: FloatArray
    z: FloatArray
    r: FloatArray  # R
    r2: FloatArray  # R²
    t: FloatArray  # 1 - R²


class Pairs(NamedTuple):
    """Pairs (j, k) of neighbors of one center that are within reach of each other, in the order of j."""

    partners: IndexArray  # (BLOCK + room + 1,) k of each pair
    cosine: FloatArray  # (BLOCK + room,) of the angle between j and k
    t: FloatArray  # (BLOCK + room,) 1 - R_jk²
    row_cosine: FloatArray  # (room,) of one j and all k, within reach or not
    row_t: FloatArray  # (room,)


@pasted
def most_neighbors(around: Around) -> int:
    """The largest number of neighbors of a center."""
    longest, n_kinds = np.int64(0), around.n_kinds
    for i in range((around.first.shape[0] - 1) // n_kinds):
        longest = max(longest, around.first[(i + 1) * n_kinds] - around.first[i * n_kinds])
    return int(longest)


@pasted
def longest_row(around: Around) -> int:
    """The largest number of neighbors of one kind that a center has; at least 1."""
    longest = np.int64(1)
    for row in range(around.first.shape[0] - 1):
        longest = max(longest, around.first[row + 1] - around.first[row])
    return int(longest)


@pasted
def place_on_line(
    vectors: FloatArray, begin: int, n: int, cutoff: float, r: FloatArray, t: FloatArray
) -> None:
    """r[:n], t[:n] of the neighbors from `begin` on, for functions of distances alone."""
    for k in range(n):
        v = vectors[begin + k]
        r2 = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) / (cutoff * cutoff)
        r[k] = np.sqrt(r2)
        t[k] = max(0.0, 1.0 - r2)


@pasted
def new_neighborhood(room: int) -> Neighborhood:
    """Uninitialized."""
    x, y, z = np.empty(room), np.empty(room), np.empty(room)
    return Neighborhood(x, y, z, np.empty(room), np.empty(room), np.empty(room))


@pasted
def place_neighbors(vectors: FloatArray, begin: int, n: int, cutoff: float, out: Neighborhood) -> None:
    """Fill the first n from vectors[begin:], Å."""
    x, y, z, r, r2, t = out
    for j in range(n):
        v = vectors[begin + j]
        vx, vy, vz = v[0] / cutoff, v[1] / cutoff, v[2] / cutoff
        r2[j] = vx * vx + vy * vy + vz * vz
        r[j] = np.sqrt(r2[j])
        x[j], y[j], z[j] = vx / r[j], vy / r[j], vz / r[j]
        t[j] = max(0.0, 1.0 - r2[j])


@pasted
def attenuate_neighbors(
    tables: AngularTables, weights: FloatArray, t: FloatArray, n: int, value: FloatArray, slope: FloatArray
) -> None:
    """value[e, :n] = w_j exp(-η R_j²) f_c(R_j) of each attenuation e, and its derivative with respect to t_j."""
    for e in range(value.shape[0]):
        attenuation_and_slope(
            tables.polynomials[e],
            tables.squarings[e],
            tables.decays[e],
            tables.cutoff_polynomial,
            t,
            value[e],
            slope[e],
            n,
        )
        for j in range(n):
            value[e, j] *= weights[j]
            slope[e, j] *= weights[j]


@pasted
def new_pairs(room: int) -> Pairs:
    """For neighborhoods with that room."""
    size = BLOCK + room
    partners = np.zeros(size + 1, np.uint32)
    return Pairs(partners, np.empty(size), np.empty(size), np.empty(room), np.empty(room))


@pasted
def gather_partners(near: Neighborhood, j: int, begin: int, end: int, pairs: Pairs, filled: int) -> int:
    """Add the pairs of neighbor j with those of begin ≤ k < end, but itself, that are within its reach.

    Args:
        near: all neighbors.
        j, begin, end, filled: unsigned.
        pairs: with `filled` pairs, fewer than `BLOCK`.

    Returns:
        How many pairs there are now.
    """
    x, y, z, r, r2, _ = near
    partners, cosine, t, row_cosine, row_t = pairs
    # R_jk² from the law of cosines, for all k: t_jk = 1 - R_ij² - R_ik² + 2 R_ij R_ik cosθ
    xj, yj, zj, remaining, twice_r = x[j], y[j], z[j], 1.0 - r2[j], 2.0 * r[j]
    for k in range(begin, end):
        c = xj * x[k] + yj * y[k] + zj * z[k]
        row_cosine[k] = c
        row_t[k] = remaining - r2[k] + twice_r * r[k] * c
    if begin <= j < end:
        row_t[j] = 0.0
    n = filled
    for k in range(begin, end):
        # written in any case, counted if within reach: no branch
        partners[n] = np.uint32(k)
        n += U(1) if row_t[k] > 0.0 else U(0)
    for m in range(filled, n):
        k = U(partners[m])
        t[m] = row_t[k]
        cosine[m] = row_cosine[k]
    return n
