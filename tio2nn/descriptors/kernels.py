"""Compiled loops of the radial and angular symmetry functions.

Plain arrays in, plain arrays out; `symmetry_functions.py` is the door in front, `kernel_parts.py` holds what
these loops share with those of the derivatives.

Three things make the triplet loop fast (`tests/benchmarks/symmetry_functions.py` measures them):

- The pairs (j, k) of an atom are gathered into blocks of `BLOCK` before anything costly is computed, so
  that the half of them with R_jk > R_c costs one comparison, and all later loops are long, free of
  branches and turned into SIMD code.
- No exp, cos or sqrt per triplet: exp(-η R²) f_c(R) = t² q(t) with a polynomial q of `N_TERMS` terms. The
  factor t² makes value and slope vanish exactly at the cutoff.
- All (η, λ, ζ) of a block are one small matrix product: attenuations (n_eta, BLOCK) times powers
  (BLOCK, n_power).
"""

from __future__ import annotations

import numpy as np

from tio2nn.descriptors.kernel_parts import (
    BLOCK,
    Around,
    FloatArray,
    IntArray,
    U,
    accumulate,
    compiled,
    fill_powers,
    multiply_attenuation,
    multiply_polynomial,
    square,
)


@compiled
def radial_functions(
    around: Around,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    out: FloatArray,
) -> None:
    """out[i, f * n_kinds + kind] = Σ_j w_j exp(-η (R_ij - R_s)²) f_c(R_ij).

    Args:
        around: the neighbors and their weights w_j.
        polynomials, squarings: (n_functions, N_TERMS), (n_functions,): exp(-η (R - R_s)²) is the polynomial
            in y = (R - R_s)² · scale, squared that often.
        shifts, scales: (n_functions,) R_s / R_c, and 1 / the largest ((R - R_s) / R_c)².
        out: (n_atoms, at least n_functions * n_kinds), zeros.
    """
    first, vectors, weights, n_kinds = around
    longest = np.int64(1)
    for row in range(first.shape[0] - 1):
        longest = max(longest, first[row + 1] - first[row])
    distance = np.empty(longest)
    cutoff_value = np.empty(longest)
    t = np.empty(longest)
    y = np.empty(longest)
    gaussian = np.empty(longest)
    for row in range(first.shape[0] - 1):
        atom, kind = row // n_kinds, row % n_kinds
        n = first[row + 1] - first[row]
        for k in range(n):
            v = vectors[first[row] + k]
            r2 = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) / (cutoff * cutoff)
            distance[k] = np.sqrt(r2)
            t[k] = max(0.0, 1.0 - r2)
            cutoff_value[k] = t[k] * t[k]
        multiply_polynomial(cutoff_polynomial, t, cutoff_value, n)
        for k in range(n):
            cutoff_value[k] *= weights[first[row] + k]
        for f in range(shifts.shape[0]):
            shift, scale = shifts[f], scales[f]
            for k in range(U(n)):
                y[k] = (distance[k] - shift) * (distance[k] - shift) * scale
                gaussian[k] = 1.0
            multiply_polynomial(polynomials[f], y, gaussian, n)
            square(gaussian, squarings[f], n)
            total = 0.0
            for k in range(U(n)):
                total += gaussian[k] * cutoff_value[k]
            out[atom, f * n_kinds + kind] = total


@compiled
def angular_functions(
    around: Around,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    recipe: IntArray,
    exponents: FloatArray,
    eta_rows: IntArray,
    power_rows: IntArray,
    first_column: int,
    out: FloatArray,
) -> None:
    """out[i, first_column + f * n_pairs + pair] = 2^(1-ζ) Σ_{j<k} w_j w_k (1 + λ cosθ)^ζ × three attenuations.

    Summed as 2 Σ ((1 + λ cosθ)/2)^ζ, which no ζ makes overflow.

    Args:
        around: the neighbors and their weights w_j.
        polynomials, squarings: (n_eta, N_TERMS), (n_eta,) attenuation of each distinct η.
        recipe, exponents: (n_power, 2), (n_power,) how the powers are made; n_power is even.
        eta_rows, power_rows: (n_functions,) the η and the power of each function.
        out: (n_atoms, n_columns).
    """
    first, vectors, weights, n_kinds = around
    n_atoms = (first.shape[0] - 1) // n_kinds
    n_eta = polynomials.shape[0]
    n_element_pairs = n_kinds * (n_kinds + 1) // 2
    longest = np.int64(0)
    for i in range(n_atoms):
        longest = max(longest, first[(i + 1) * n_kinds] - first[i * n_kinds])
    x, y, z = np.empty(longest), np.empty(longest), np.empty(longest)
    r, r2, t = np.empty(longest), np.empty(longest), np.empty(longest)
    row_cosine, row_t = np.empty(longest), np.empty(longest)
    partners = np.empty(longest + 1, np.uint32)
    own = np.empty((n_eta, longest))
    size = BLOCK + longest
    cosine, block_t = np.empty(size), np.empty(size)
    attenuations = np.empty((n_eta, size))
    powers = np.empty((recipe.shape[0], size))
    sums = np.empty((n_eta, recipe.shape[0]))
    for i in range(n_atoms):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        for j in range(n_neighbors):
            v = vectors[start + j] / cutoff
            r2[j] = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
            r[j] = np.sqrt(r2[j])
            x[j], y[j], z[j] = v[0] / r[j], v[1] / r[j], v[2] / r[j]
            t[j] = max(0.0, 1.0 - r2[j])
        for e in range(n_eta):
            for j in range(n_neighbors):
                own[e, j] = weights[start + j]
        for e in range(n_eta):
            multiply_attenuation(polynomials[e], squarings[e], cutoff_polynomial, t, own[e], n_neighbors)
        pair = 0
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                sums[:] = 0.0
                filled = U(0)
                j_begin, j_end = U(first[i * n_kinds + a] - start), U(first[i * n_kinds + a + 1] - start)
                b_begin, k_end = U(first[i * n_kinds + b] - start), U(first[i * n_kinds + b + 1] - start)
                for j in range(j_begin, j_end):
                    k_begin = j + U(1) if a == b else b_begin
                    # R_jk² from the law of cosines, for all k: t_jk = 1 - R_ij² - R_ik² + 2 R_ij R_ik cosθ
                    xj, yj, zj, remaining, twice_r = x[j], y[j], z[j], 1.0 - r2[j], 2.0 * r[j]
                    for k in range(k_begin, k_end):
                        c = xj * x[k] + yj * y[k] + zj * z[k]
                        row_cosine[k] = c
                        row_t[k] = remaining - r2[k] + twice_r * r[k] * c
                    n = U(0)
                    for k in range(k_begin, k_end):
                        partners[n] = np.uint32(k)
                        n += U(1) if row_t[k] > 0.0 else U(0)
                    for m in range(n):
                        k = U(partners[m])
                        block_t[filled + m] = row_t[k]
                        cosine[filled + m] = row_cosine[k]
                    for e in range(U(n_eta)):
                        from_j, from_k, target = own[e, j], own[e], attenuations[e]
                        for m in range(n):
                            target[filled + m] = from_j * from_k[U(partners[m])]
                    filled += n
                    if filled >= U(BLOCK) or (j + U(1) == j_end and filled > U(0)):
                        for e in range(n_eta):
                            multiply_attenuation(
                                polynomials[e],
                                squarings[e],
                                cutoff_polynomial,
                                block_t,
                                attenuations[e],
                                filled,
                            )
                        fill_powers(filled, cosine, recipe, exponents, powers)
                        accumulate(filled, attenuations, powers, sums)
                        filled = U(0)
                for f in range(eta_rows.shape[0]):
                    column = first_column + f * n_element_pairs + pair
                    out[i, column] = 2.0 * sums[eta_rows[f], power_rows[f]]
                pair += 1
