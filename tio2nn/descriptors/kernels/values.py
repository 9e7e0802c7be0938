"""Compiled loops of the radial and angular symmetry functions; `symmetry_functions.py` is the door in front.

Three things make the triplet loop fast (`tests/benchmarks/symmetry_functions.py` measures them):

- Blocks of pairs within reach of each other (`triplets.py`).
- No exp, cos or sqrt per triplet: f_c(R) = t² q(t) with a polynomial q, and the three Gaussians of a triplet are one
  polynomial. The factor t² makes value and slope vanish exactly at the cutoff.
- All (η, λ, ζ) of a block are one small matrix product: attenuations (n_eta, BLOCK) times powers
  (BLOCK, n_power).
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.arguments import Around, RadialTables, TripletTables
from tio2nn.descriptors.kernels.compiling import U, compiled
from tio2nn.descriptors.kernels.geometry import longest_row, most_neighbors, place_on_line
from tio2nn.descriptors.kernels.lanes import LANES
from tio2nn.descriptors.kernels.polynomials import multiply_polynomial, square
from tio2nn.descriptors.kernels.triplets import (
    BLOCK,
    CANDIDATES,
    FACTOR,
    N_NEAR,
    N_ROWS,
    VALUE,
    cut_neighbors,
    cut_triplets,
    fill_gaussian,
    fill_powers_of_triplets,
    gather_block,
    multiply_rows,
    new_segments,
    place_in_rows,
    sum_products,
)


@compiled
def radial_functions(around: Around, tables: RadialTables, out: FloatArray) -> None:
    """out[i, f * n_kinds + kind] = Σ_j w_j exp(-η (R_ij - R_s)²) f_c(R_ij).

    Args:
        around: the neighbors and their weights w_j.
        tables: of the functions.
        out: (n_atoms, at least n_functions * n_kinds), zeros.
    """
    first, vectors, weights, n_kinds = around
    room = longest_row(around)
    r, t, y = np.empty(room), np.empty(room), np.empty(room)
    cutoff_value, gaussian = np.empty(room), np.empty(room)
    for row in range(first.shape[0] - 1):
        atom, kind = row // n_kinds, row % n_kinds
        n = first[row + 1] - first[row]
        place_on_line(vectors, first[row], n, tables.cutoff, r, t)
        for k in range(n):
            cutoff_value[k] = t[k] * t[k]
        multiply_polynomial(tables.cutoff_polynomial, t, cutoff_value, n)
        for k in range(n):
            cutoff_value[k] *= weights[first[row] + k]
        for f in range(tables.shifts.shape[0]):
            shift, scale = tables.shifts[f], tables.scales[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                gaussian[k] = 1.0
            multiply_polynomial(tables.polynomials[f], y, gaussian, n)
            square(gaussian, tables.squarings[f], n)
            total = 0.0
            for k in range(U(n)):
                total += gaussian[k] * cutoff_value[k]
            out[atom, f * n_kinds + kind] = total


@compiled
def angular_functions(around: Around, tables: TripletTables, first_column: int, out: FloatArray) -> None:
    """out[i, first_column + f * n_pairs + pair] = 2^(1-ζ) Σ_{j<k} w_j w_k (1 + λ cosθ)^ζ × three attenuations.

    Summed as 2 Σ ((1 + λ cosθ)/2)^ζ, which no ζ makes overflow.

    Args:
        around: the neighbors and their weights w_j.
        tables: of the functions.
        first_column: of these functions in `out`.
        out: (n_atoms, n_columns).
    """
    first, vectors, weights, n_kinds = around
    cutoff_polynomial, polynomials, terms = tables.cutoff_polynomial, tables.polynomials, tables.terms
    n_eta, n_power = polynomials.shape[0], tables.recipe.shape[0]
    n_element_pairs = n_kinds * (n_kinds + 1) // 2
    room = most_neighbors(around)
    size = BLOCK + room + LANES
    near, table = np.zeros((N_NEAR, room + LANES)), np.zeros((N_ROWS, size))
    rows, partners = np.zeros((2, CANDIDATES + room + LANES)), np.zeros(size, np.int64)
    segments = new_segments(room)
    attenuations, powers, sums = (
        np.zeros((n_eta, size)),
        np.zeros((n_power, size)),
        np.empty((n_eta, n_power)),
    )
    for i in range((first.shape[0] - 1) // n_kinds):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        place_in_rows(vectors, start, n_neighbors, tables.cutoff, near)
        cut_neighbors(near, cutoff_polynomial, cutoff_polynomial.shape[0], n_neighbors)
        for j in range(n_neighbors):
            near[VALUE, j] *= weights[start + j]
        pair = 0
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                sums[:] = 0.0
                j, j_end = first[i * n_kinds + a] - start, first[i * n_kinds + a + 1] - start
                k_first = first[i * n_kinds + b] - start if a != b else -1
                k_end = first[i * n_kinds + b + 1] - start
                while j < j_end:
                    candidates = (j, j_end, k_first, k_end)
                    j, filled, _ = gather_block(near, rows, table, partners, segments, candidates)
                    cut_triplets(table, cutoff_polynomial, cutoff_polynomial.shape[0], filled)
                    for e in range(n_eta):
                        fill_gaussian(table, attenuations, e, polynomials, e, terms[e], filled)
                        for _ in range(tables.squarings[e]):
                            multiply_rows(attenuations, e, attenuations, e, attenuations, e, filled)
                        multiply_rows(attenuations, e, table, FACTOR, attenuations, e, filled)
                    fill_powers_of_triplets(filled, table, tables.recipe, tables.exponents, powers)
                    for e in range(0, n_eta, 3):
                        for r in range(0, n_power, 2):
                            sum_products(filled, attenuations, e, min(n_eta - e, 3), powers, r, sums)
                for f in range(tables.eta_rows.shape[0]):
                    column = first_column + f * n_element_pairs + pair
                    out[i, column] = 2.0 * sums[tables.eta_rows[f], tables.power_rows[f]]
                pair += 1
