"""Compiled loops of the powers ((1 + λ cosθ)/2)^ζ, and of their sums with attenuations."""

from __future__ import annotations

import numpy as np

from tio2nn.descriptors.kernels.arguments import FloatArray, IntArray
from tio2nn.descriptors.kernels.compiling import U, compiled_inline


@compiled_inline
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


@compiled_inline
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


@compiled_inline
def weighted_powers(
    n: int, powers: FloatArray, weights: FloatArray, power: FloatArray, slope: FloatArray
) -> None:
    """power[:n], slope[:n] = Σ_row weights[0 or 1, row] powers[row, :n]."""
    for k in range(U(n)):
        power[k] = 0.0
        slope[k] = 0.0
    for row in range(powers.shape[0]):
        p, s, values = weights[0, row], weights[1, row], powers[row]
        if p != 0.0 and s != 0.0:
            for k in range(U(n)):
                power[k] += p * values[k]
                slope[k] += s * values[k]
        elif p != 0.0:
            for k in range(U(n)):
                power[k] += p * values[k]
        elif s != 0.0:
            for k in range(U(n)):
                slope[k] += s * values[k]
