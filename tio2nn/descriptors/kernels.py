"""Compiled loops of the radial and angular symmetry functions.

Plain arrays in, plain arrays out; `symmetry_functions.py` is the door in front. Inside, all lengths are in
units of the cutoff, and the variable of every attenuation is t = 1 - R²/R_c²: 1 at the atom, 0 at the cutoff.

Three things make the triplet loop fast (`tests/benchmarks/symmetry_functions.py` measures them):

- The pairs (j, k) of an atom are gathered into blocks of `BLOCK` before anything costly is computed, so
  that the half of them with R_jk > R_c costs one comparison, and all later loops are long, free of
  branches and turned into SIMD code.
- No exp, cos or sqrt per triplet: exp(-η R²) f_c(R) = t² q(t) with a polynomial q of `N_TERMS` terms. The
  factor t² makes value and slope vanish exactly at the cutoff.
- All (η, λ, ζ) of a block are one small matrix product: attenuations (n_eta, BLOCK) times powers
  (BLOCK, n_power).

Index variables are unsigned (`uintp`): Numba then leaves out the check for negative indices, which
would keep LLVM from vectorizing (6.6 → 3.2 ns per pair).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_TERMS = 16  # exp(-3.8 x) f_c to 4e-14; more terms cost more than a squaring (see `attenuation.py`)
BLOCK = 256  # 14 rows of 256 doubles stay in a 32 KiB L1 cache; 512 is 40 % slower
_U = np.uintp

# Sums may be reordered and fused, but NaN and infinity keep their meaning.
_compile = numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")


@_compile
def _multiply_polynomial(c: FloatArray, t: FloatArray, out: FloatArray, n: int) -> None:
    """out[:n] *= Σ_k c[k] t[:n]^k, `N_TERMS` terms, unrolled so that the loop over t becomes SIMD code."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for k in range(_U(n)):
        x = t[k]
        s = c12 + x * (c13 + x * (c14 + x * c15))
        s = c8 + x * (c9 + x * (c10 + x * (c11 + x * s)))
        s = c4 + x * (c5 + x * (c6 + x * (c7 + x * s)))
        out[k] *= c0 + x * (c1 + x * (c2 + x * (c3 + x * s)))


@_compile
def _multiply_attenuation(
    polynomial: FloatArray,
    squarings: int,
    cutoff_polynomial: FloatArray,
    t: FloatArray,
    out: FloatArray,
    n: int,
) -> None:
    """out[:n] *= exp(-η R²) f_c(R) at t = 1 - R²/R_c² (see `attenuation.Attenuation`)."""
    for k in range(_U(n)):
        out[k] *= t[k] * t[k]
    if squarings == 0:
        _multiply_polynomial(polynomial, t, out, n)
        return
    gaussian = np.ones(n)
    _multiply_polynomial(polynomial, t, gaussian, n)
    for _ in range(squarings):
        for k in range(_U(n)):
            gaussian[k] *= gaussian[k]
    for k in range(_U(n)):
        out[k] *= gaussian[k]
    _multiply_polynomial(cutoff_polynomial, t, out, n)


@_compile
def radial_functions(
    first: IntArray,
    vectors: FloatArray,
    n_kinds: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    out: FloatArray,
) -> None:
    """out[i, f * n_kinds + kind] = Σ_j exp(-η (R_ij - R_s)²) f_c(R_ij).

    Args:
        first, vectors: neighbor list (`sort_neighbors`).
        polynomials, squarings: (n_functions, N_TERMS), (n_functions,): exp(-η (R - R_s)²) is the polynomial
            in y = (R - R_s)² · scale, squared that often.
        shifts, scales: (n_functions,) R_s / R_c, and 1 / the largest ((R - R_s) / R_c)².
        out: (n_atoms, at least n_functions * n_kinds), zeros.
    """
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
        _multiply_polynomial(cutoff_polynomial, t, cutoff_value, n)
        for f in range(shifts.shape[0]):
            shift, scale = shifts[f], scales[f]
            for k in range(_U(n)):
                y[k] = (distance[k] - shift) * (distance[k] - shift) * scale
                gaussian[k] = 1.0
            _multiply_polynomial(polynomials[f], y, gaussian, n)
            for _ in range(squarings[f]):
                for k in range(_U(n)):
                    gaussian[k] *= gaussian[k]
            total = 0.0
            for k in range(_U(n)):
                total += gaussian[k] * cutoff_value[k]
            out[atom, f * n_kinds + kind] = total


@_compile
def _fill_powers(
    n: int, cosine: FloatArray, recipe: IntArray, exponents: FloatArray, powers: FloatArray
) -> None:
    """powers[r, :n] = ((1 + λ cosθ)/2)^ζ of row r, by the recipe of `symmetry_functions.power_recipe`."""
    for r in range(recipe.shape[0]):
        row, a, b = powers[r], recipe[r, 0], recipe[r, 1]
        if a < 0:
            half = 0.5 * np.float64(b)
            for k in range(_U(n)):
                row[k] = max(0.0, 0.5 + half * cosine[k])
        elif b < 0:
            for k in range(_U(n)):
                row[k] = powers[a, k] ** exponents[r]
        else:
            left, right = powers[a], powers[b]
            for k in range(_U(n)):
                row[k] = left[k] * right[k]


@_compile
def _accumulate(n: int, attenuations: FloatArray, powers: FloatArray, sums: FloatArray) -> None:
    """sums += attenuations[:, :n] @ powers[:, :n].T, in tiles of 3 × 2 sums that stay in registers."""
    n_eta, n_power = attenuations.shape[0], powers.shape[0]
    e = 0
    while e < n_eta:
        if e + 3 <= n_eta:
            p0, p1, p2 = attenuations[e], attenuations[e + 1], attenuations[e + 2]
            for r in range(0, n_power, 2):
                w0, w1 = powers[r], powers[r + 1]
                s00 = s01 = s10 = s11 = s20 = s21 = 0.0
                for k in range(_U(n)):
                    s00 += p0[k] * w0[k]
                    s01 += p0[k] * w1[k]
                    s10 += p1[k] * w0[k]
                    s11 += p1[k] * w1[k]
                    s20 += p2[k] * w0[k]
                    s21 += p2[k] * w1[k]
                sums[e, r] += s00
                sums[e, r + 1] += s01
                sums[e + 1, r] += s10
                sums[e + 1, r + 1] += s11
                sums[e + 2, r] += s20
                sums[e + 2, r + 1] += s21
            e += 3
        else:
            p0 = attenuations[e]
            for r in range(0, n_power, 2):
                w0, w1 = powers[r], powers[r + 1]
                s00 = s01 = 0.0
                for k in range(_U(n)):
                    s00 += p0[k] * w0[k]
                    s01 += p0[k] * w1[k]
                sums[e, r] += s00
                sums[e, r + 1] += s01
            e += 1


@_compile
def angular_functions(
    first: IntArray,
    vectors: FloatArray,
    n_kinds: int,
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
    """out[i, first_column + f * n_pairs + pair] = 2^(1-ζ) Σ_{j<k} (1 + λ cosθ)^ζ × three attenuations.

    Summed as 2 Σ ((1 + λ cosθ)/2)^ζ, which no ζ makes overflow.

    Args:
        first, vectors: neighbor list (`sort_neighbors`).
        polynomials, squarings: (n_eta, N_TERMS), (n_eta,) attenuation of each distinct η.
        recipe, exponents: (n_power, 2), (n_power,) how the powers are made; n_power is even.
        eta_rows, power_rows: (n_functions,) the η and the power of each function.
        out: (n_atoms, n_columns).
    """
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
        own[:, :n_neighbors] = 1.0
        for e in range(n_eta):
            _multiply_attenuation(polynomials[e], squarings[e], cutoff_polynomial, t, own[e], n_neighbors)
        pair = 0
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                sums[:] = 0.0
                filled = _U(0)
                j_begin, j_end = _U(first[i * n_kinds + a] - start), _U(first[i * n_kinds + a + 1] - start)
                b_begin, k_end = _U(first[i * n_kinds + b] - start), _U(first[i * n_kinds + b + 1] - start)
                for j in range(j_begin, j_end):
                    k_begin = j + _U(1) if a == b else b_begin
                    # R_jk² from the law of cosines, for all k: t_jk = 1 - R_ij² - R_ik² + 2 R_ij R_ik cosθ
                    xj, yj, zj, remaining, twice_r = x[j], y[j], z[j], 1.0 - r2[j], 2.0 * r[j]
                    for k in range(k_begin, k_end):
                        c = xj * x[k] + yj * y[k] + zj * z[k]
                        row_cosine[k] = c
                        row_t[k] = remaining - r2[k] + twice_r * r[k] * c
                    n = _U(0)
                    for k in range(k_begin, k_end):
                        partners[n] = np.uint32(k)
                        n += _U(1) if row_t[k] > 0.0 else _U(0)
                    for m in range(n):
                        k = _U(partners[m])
                        block_t[filled + m] = row_t[k]
                        cosine[filled + m] = row_cosine[k]
                    for e in range(_U(n_eta)):
                        from_j, from_k, target = own[e, j], own[e], attenuations[e]
                        for m in range(n):
                            target[filled + m] = from_j * from_k[_U(partners[m])]
                    filled += n
                    if filled >= _U(BLOCK) or (j + _U(1) == j_end and filled > _U(0)):
                        for e in range(n_eta):
                            _multiply_attenuation(
                                polynomials[e],
                                squarings[e],
                                cutoff_polynomial,
                                block_t,
                                attenuations[e],
                                filled,
                            )
                        _fill_powers(filled, cosine, recipe, exponents, powers)
                        _accumulate(filled, attenuations, powers, sums)
                        filled = _U(0)
                for f in range(eta_rows.shape[0]):
                    column = first_column + f * n_element_pairs + pair
                    out[i, column] = 2.0 * sums[eta_rows[f], power_rows[f]]
                pair += 1
