"""Compiled loops of the radial and angular symmetry functions; `symmetry_functions.py` is the door in front.

Three things make the triplet loop fast (`tests/benchmarks/symmetry_functions.py` measures them):

- Blocks of pairs within reach of each other (`geometry.py`).
- No exp, cos or sqrt per triplet: exp(-η R²) f_c(R) = t² q(t) with a polynomial q of `N_TERMS` terms. The
  factor t² makes value and slope vanish exactly at the cutoff.
- All (η, λ, ζ) of a block are one small matrix product: attenuations (n_eta, BLOCK) times powers
  (BLOCK, n_power).
"""

from __future__ import annotations

import numpy as np

from tio2nn.descriptors.kernels.arguments import AngularTables, Around, FloatArray, RadialTables
from tio2nn.descriptors.kernels.compiling import U, compiled, compiled_once
from tio2nn.descriptors.kernels.geometry import (
    BLOCK,
    gather_partners,
    longest_row,
    most_neighbors,
    new_neighborhood,
    new_pairs,
    place_neighbors,
    place_on_line,
)
from tio2nn.descriptors.kernels.polynomials import multiply_attenuation, multiply_polynomial, square
from tio2nn.descriptors.kernels.powers import accumulate, fill_powers


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


# no option that would let the compiler multiply by an inverse
@compiled_once(error_model="numpy", forceinline=True)
def _divide(values: FloatArray, by: FloatArray, n: int) -> None:
    """values[:n] /= by[:n], correctly rounded."""
    for k in range(U(n)):
        values[k] /= by[k]


@compiled
def angular_functions(around: Around, tables: AngularTables, first_column: int, out: FloatArray) -> None:
    """out[i, first_column + f * n_pairs + pair] = 2^(1-ζ) Σ_{j<k} w_j w_k (1 + λ cosθ)^ζ × three attenuations.

    Summed as 2 Σ ((1 + λ cosθ)/2)^ζ, which no ζ makes overflow.

    Args:
        around: the neighbors and their weights w_j.
        tables: of the functions.
        first_column: of these functions in `out`.
        out: (n_atoms, n_columns).
    """
    first, vectors, weights, n_kinds = around
    polynomials, squarings, cutoff_polynomial = tables.polynomials, tables.squarings, tables.cutoff_polynomial
    n_eta, n_power = polynomials.shape[0], tables.recipe.shape[0]
    n_element_pairs = n_kinds * (n_kinds + 1) // 2
    room = most_neighbors(around)
    near, pairs = new_neighborhood(room), new_pairs(room)
    own = np.empty((n_eta, room))
    attenuations = np.empty((n_eta, BLOCK + room))
    powers = np.empty((n_power, BLOCK + room))
    sums = np.empty((n_eta, n_power))
    for i in range((first.shape[0] - 1) // n_kinds):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        place_neighbors(vectors, start, n_neighbors, tables.cutoff, near)
        # x and y are multiplied by 1/R, here z is divided by R: features have had these last bits from the start
        for j in range(n_neighbors):
            near.z[j] = vectors[start + j, 2] / tables.cutoff
        _divide(near.z, near.r, n_neighbors)
        for e in range(n_eta):
            for j in range(n_neighbors):
                own[e, j] = weights[start + j]
        for e in range(n_eta):
            multiply_attenuation(polynomials[e], squarings[e], cutoff_polynomial, near.t, own[e], n_neighbors)
        pair = 0
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                sums[:] = 0.0
                filled = U(0)
                j_begin, j_end = U(first[i * n_kinds + a] - start), U(first[i * n_kinds + a + 1] - start)
                b_begin, k_end = U(first[i * n_kinds + b] - start), U(first[i * n_kinds + b + 1] - start)
                for j in range(j_begin, j_end):
                    k_begin = j + U(1) if a == b else b_begin
                    n = gather_partners(near, j, k_begin, k_end, pairs, filled)
                    for e in range(U(n_eta)):
                        from_j, from_k, target = own[e, j], own[e], attenuations[e]
                        for m in range(filled, n):
                            target[m] = from_j * from_k[U(pairs.partners[m])]
                    filled = n
                    if filled >= U(BLOCK) or (j + U(1) == j_end and filled > U(0)):
                        for e in range(n_eta):
                            multiply_attenuation(
                                polynomials[e],
                                squarings[e],
                                cutoff_polynomial,
                                pairs.t,
                                attenuations[e],
                                filled,
                            )
                        fill_powers(filled, pairs.cosine, tables.recipe, tables.exponents, powers)
                        accumulate(filled, attenuations, powers, sums)
                        filled = U(0)
                for f in range(tables.eta_rows.shape[0]):
                    column = first_column + f * n_element_pairs + pair
                    out[i, column] = 2.0 * sums[tables.eta_rows[f], tables.power_rows[f]]
                pair += 1
