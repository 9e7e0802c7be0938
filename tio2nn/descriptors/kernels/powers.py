"""Compiled loops of the powers ((1 + λ cosθ)/2)^ζ, and of their sums with attenuations."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
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
