"""What the compiled loops of symmetry functions and of their derivatives share.

Inside the kernels all lengths are in units of the cutoff, and the variable of every attenuation is
t = 1 - R²/R_c²: 1 at the atom, 0 at the cutoff.

Index variables are unsigned (`uintp`): Numba then leaves out the check for negative indices, which
would keep LLVM from vectorizing (6.6 → 3.2 ns per pair).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_TERMS = 16  # exp(-3.8 x) f_c to 4e-14; more terms cost more than a squaring (see `attenuation.py`)
BLOCK = 256  # 14 rows of 256 doubles stay in a 32 KiB L1 cache; 512 is 40 % slower
U = np.uintp

# Sums may be reordered and fused, but NaN and infinity keep their meaning.
compiled = numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")


@compiled
def multiply_polynomial(c: FloatArray, t: FloatArray, out: FloatArray, n: int) -> None:
    """out[:n] *= Σ_k c[k] t[:n]^k, `N_TERMS` terms, unrolled so that the loop over t becomes SIMD code."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for k in range(U(n)):
        x = t[k]
        s = c12 + x * (c13 + x * (c14 + x * c15))
        s = c8 + x * (c9 + x * (c10 + x * (c11 + x * s)))
        s = c4 + x * (c5 + x * (c6 + x * (c7 + x * s)))
        out[k] *= c0 + x * (c1 + x * (c2 + x * (c3 + x * s)))


@compiled
def multiply_attenuation(
    polynomial: FloatArray,
    squarings: int,
    cutoff_polynomial: FloatArray,
    t: FloatArray,
    out: FloatArray,
    n: int,
) -> None:
    """out[:n] *= exp(-η R²) f_c(R) at t = 1 - R²/R_c² (see `attenuation.Attenuation`)."""
    for k in range(U(n)):
        out[k] *= t[k] * t[k]
    if squarings == 0:
        multiply_polynomial(polynomial, t, out, n)
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, t, gaussian, n)
    for _ in range(squarings):
        for k in range(U(n)):
            gaussian[k] *= gaussian[k]
    for k in range(U(n)):
        out[k] *= gaussian[k]
    multiply_polynomial(cutoff_polynomial, t, out, n)


@compiled
def fill_powers(
    n: int, cosine: FloatArray, recipe: IntArray, exponents: FloatArray, powers: FloatArray
) -> None:
    """powers[r, :n] = ((1 + λ cosθ)/2)^ζ of row r, by the recipe of `tables.power_recipe`."""
    for r in range(recipe.shape[0]):
        row, a, b = powers[r], recipe[r, 0], recipe[r, 1]
        if a < 0:
            # row of ones for λ = 0
            rest, half = 0.5 if b != 0 else 1.0, 0.5 * np.float64(b)
            for k in range(U(n)):
                row[k] = max(0.0, rest + half * cosine[k])
        elif b < 0:
            for k in range(U(n)):
                u = powers[a, k]
                # at u = 0 the sine that stands beside a negative power in a derivative vanishes
                row[k] = u ** exponents[r] if u > 0.0 else 0.0
        else:
            left, right = powers[a], powers[b]
            for k in range(U(n)):
                row[k] = left[k] * right[k]


@compiled
def accumulate(n: int, attenuations: FloatArray, powers: FloatArray, sums: FloatArray) -> None:
    """sums += attenuations[:, :n] @ powers[:, :n].T, in tiles of 3 × 2 sums that stay in registers."""
    n_eta, n_power = attenuations.shape[0], powers.shape[0]
    e = 0
    while e < n_eta:
        if e + 3 <= n_eta:
            p0, p1, p2 = attenuations[e], attenuations[e + 1], attenuations[e + 2]
            for r in range(0, n_power, 2):
                w0, w1 = powers[r], powers[r + 1]
                s00 = s01 = s10 = s11 = s20 = s21 = 0.0
                for k in range(U(n)):
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
                for k in range(U(n)):
                    s00 += p0[k] * w0[k]
                    s01 += p0[k] * w1[k]
                sums[e, r] += s00
                sums[e, r + 1] += s01
            e += 1


class Slopes(NamedTuple):
    """What derivatives need beyond the tables of the values; R in units of the cutoff.

    Attributes:
        radial_decays: (n_radial,) η R_c² of each radial function.
        decays: (n_eta,) η R_c² of each attenuation.
        recipe, exponents: as for `fill_powers`, of all rows that derivatives need.
        power_rows: (n_angular,) the row of u^ζ, u = (1 + λ cosθ)/2, of each function.
        slope_rows: (n_angular,) the row of u^(ζ-1).
        eta_rows: (n_angular,) the attenuation.
        lambdas, zetas: (n_angular,) λ and ζ.
        only_power: (n_only,) rows that serve as u^ζ alone.
        powers, slopes: rows that serve as u^ζ, and those that serve as u^(ζ-1).
        pairs: (n_kinds, n_kinds) position of a pair of kinds among the columns of a function.
    """

    radial_decays: FloatArray
    decays: FloatArray
    recipe: IntArray
    exponents: FloatArray
    power_rows: IntArray
    slope_rows: IntArray
    eta_rows: IntArray
    lambdas: FloatArray
    zetas: FloatArray
    only_power: IntArray
    powers: IntArray
    slopes: IntArray
    pairs: IntArray


@compiled
def polynomial_and_slope(c: FloatArray, t: FloatArray, value: FloatArray, slope: FloatArray, n: int) -> None:
    """value[:n] = Σ_k c[k] t[:n]^k and its derivative with respect to t, by Horner's rule."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for k in range(U(n)):
        x = t[k]
        s = c14 + x * c15
        d = c15 + 0.0 * x
        d, s = s + x * d, c13 + x * s
        d, s = s + x * d, c12 + x * s
        d, s = s + x * d, c11 + x * s
        d, s = s + x * d, c10 + x * s
        d, s = s + x * d, c9 + x * s
        d, s = s + x * d, c8 + x * s
        d, s = s + x * d, c7 + x * s
        d, s = s + x * d, c6 + x * s
        d, s = s + x * d, c5 + x * s
        d, s = s + x * d, c4 + x * s
        d, s = s + x * d, c3 + x * s
        d, s = s + x * d, c2 + x * s
        d, s = s + x * d, c1 + x * s
        d, s = s + x * d, c0 + x * s
        value[k] = s
        slope[k] = d


@compiled
def attenuation_and_slope(
    polynomial: FloatArray,
    squarings: int,
    decay: float,
    cutoff_polynomial: FloatArray,
    t: FloatArray,
    value: FloatArray,
    slope: FloatArray,
    n: int,
) -> None:
    """value[:n] = exp(-η R²) f_c(R) at t = 1 - R²/R_c², and its derivative with respect to t.

    Both have a factor t, so neither jumps at the cutoff.
    """
    if squarings == 0:
        polynomial_and_slope(polynomial, t, value, slope, n)
        for k in range(U(n)):
            x = t[k]
            slope[k] = x * (2.0 * value[k] + x * slope[k])
            value[k] *= x * x
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, t, gaussian, n)
    for _ in range(squarings):
        for k in range(U(n)):
            gaussian[k] *= gaussian[k]
    polynomial_and_slope(cutoff_polynomial, t, value, slope, n)
    for k in range(U(n)):
        x = t[k]
        f = x * x * value[k]
        slope[k] = gaussian[k] * (decay * f + x * (2.0 * value[k] + x * slope[k]))
        value[k] = gaussian[k] * f
