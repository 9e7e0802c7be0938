"""Compiled loops of attenuations: polynomials in t = 1 - R²/R_c², which is 1 at the atom and 0 at the cutoff.

`attenuation.py` finds the coefficients.
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.compiling import U, compiled_inline

N_TERMS = 16  # exp(-3.8 x) f_c to 4e-14; more terms cost more than a squaring (see `attenuation.py`)


@compiled_inline
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


@compiled_inline
def square(values: FloatArray, times: int, n: int) -> None:
    """values[:n] squared so many times."""
    for _ in range(times):
        for k in range(U(n)):
            values[k] *= values[k]


@compiled_inline
def _polynomial_and_slope(c: FloatArray, t: FloatArray, value: FloatArray, slope: FloatArray, n: int) -> None:
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


@compiled_inline
def polynomial_times_t2_and_slope(
    polynomial: FloatArray, t: FloatArray, value: FloatArray, slope: FloatArray, n: int
) -> None:
    """value[:n] = t² Σ_k c[k] t^k and its derivative with respect to t; of the cutoff polynomial this is f_c(R).

    Both have a factor t, so neither jumps at the cutoff.
    """
    _polynomial_and_slope(polynomial, t, value, slope, n)
    for k in range(U(n)):
        x = t[k]
        slope[k] = x * (2.0 * value[k] + x * slope[k])
        value[k] *= x * x


@compiled_inline
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
    """value[:n] = exp(-η R²) f_c(R) (see `attenuation.Attenuation`), and its derivative with respect to t.

    Args:
        decay: η R_c².
    """
    if squarings == 0:
        polynomial_times_t2_and_slope(polynomial, t, value, slope, n)
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, t, gaussian, n)
    square(gaussian, squarings, n)
    _polynomial_and_slope(cutoff_polynomial, t, value, slope, n)
    for k in range(U(n)):
        x = t[k]
        f = x * x * value[k]
        slope[k] = gaussian[k] * (decay * f + x * (2.0 * value[k] + x * slope[k]))
        value[k] = gaussian[k] * f
