"""Gaussians and the cosine cutoff as polynomials.

f_c(R) = ½ (1 + cos(π R/R_c)) depends on R² analytically: with t = 1 - R²/R_c² it has a double zero at
t = 0, so exp(-η R²) f_c(R) = t² q(t) with an entire q. Chebyshev interpolation of q converges faster than
geometrically, and the factor t² makes value and first derivative exactly zero at the cutoff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import ArrayLike, NDArray

from tio2nn.descriptors.kernels.polynomials import N_TERMS

FloatArray = NDArray[np.float64]

# η R_c² up to which one polynomial holds exp(-η R²) f_c(R): 7e-14 at 4, 3e-12 at 6 (absolute, 16 terms)
_DIRECT_LIMIT = 4.0
# The exponent that a polynomial for a bare Gaussian may span before it is halved and squared (error 5e-16).
# Each squaring doubles the relative error, so 60 (the narrowest radial function) costs 5 of them, 2e-14.
_GAUSSIAN_LIMIT = 2.0


def cosine_cutoff(distances: ArrayLike, cutoff: float) -> FloatArray:
    """f_c(R) = ½ (1 + cos(π R/R_c)) for R < R_c, else 0 (Behler and Parrinello, PRL 98 (2007) 146401, eq. 3).

    Args:
        distances: any shape, Å.
        cutoff: R_c, Å.

    Returns:
        Same shape, dimensionless, from 1 down to 0.
    """
    r = np.asarray(distances, dtype=np.float64)
    return np.where(r < cutoff, 0.5 * (1.0 + np.cos(np.pi * np.minimum(r / cutoff, 1.0))), 0.0)


def _cutoff_quotient(t: FloatArray) -> FloatArray:
    """f_c / t² without cancellation at t = 0: f_c = sin²(π (1 - u)/2), u = R/R_c, 1 - u = t/(1 + u)."""
    u = np.sqrt(1.0 - t)
    angle_over_t = 0.5 * np.pi / (1.0 + u)
    return np.asarray((np.sinc(angle_over_t * t / np.pi) * angle_over_t) ** 2)


def _interpolate(function: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """(N_TERMS,) coefficients in powers of t of the interpolation at the Chebyshev points of [0, 1].

    `Chebyshev.interpolate` finds its cosines by a recursion that loses 40 units in the last place, and squarings
    multiply them; these are within one.
    """
    order = np.arange(N_TERMS)
    odd = 2 * order + 1
    angle = np.pi / (2 * N_TERMS)
    values = function(0.5 + 0.5 * np.cos(angle * odd))
    series = (2.0 / N_TERMS) * np.cos(angle * (np.outer(order, odd) % (4 * N_TERMS))) @ values
    series[0] *= 0.5
    coefficients = np.zeros(N_TERMS)
    powers = Chebyshev(series, domain=[0, 1]).convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    coefficients[: len(powers)] = powers
    return coefficients


def cutoff_polynomial() -> FloatArray:
    """(N_TERMS,) coefficients of f_c / t² in powers of t."""
    return _interpolate(_cutoff_quotient)


@dataclass(frozen=True)
class Attenuation:
    """exp(-η R²) f_c(R), as the kernels evaluate it.

    Without squarings it is t² times the polynomial. With them, exp(-η R²) is the polynomial in t squared that
    often, and t² times `cutoff_polynomial` supplies f_c.

    Attributes:
        polynomial: (N_TERMS,) coefficients in powers of t = 1 - R²/R_c².
        squarings: how often the polynomial is squared.
    """

    polynomial: FloatArray
    squarings: int

    @classmethod
    def fit(cls, eta: float, cutoff: float) -> Attenuation:
        """Fit to η (1/Å²) and R_c (Å)."""
        exponent = eta * cutoff**2
        if exponent <= _DIRECT_LIMIT:
            return cls(_interpolate(lambda t: _cutoff_quotient(t) * np.exp(-exponent * (1.0 - t))), 0)
        squarings = _squarings(exponent)
        part = exponent / 2**squarings
        return cls(_interpolate(lambda t: np.exp(-part * (1.0 - t))), squarings)


@dataclass(frozen=True)
class Gaussian:
    """exp(-η (R - R_s)²) for 0 ≤ R ≤ R_c: a polynomial in y = ((R - R_s)/R_c)² · scale ∈ [0, 1], squared.

    Attributes:
        polynomial: (N_TERMS,) coefficients in powers of y.
        squarings: how often the polynomial is squared.
        shift: R_s/R_c.
        scale: what makes y one at the largest |R - R_s|.
    """

    polynomial: FloatArray
    squarings: int
    shift: float
    scale: float

    @classmethod
    def fit(cls, eta: float, r_s: float, cutoff: float) -> Gaussian:
        """Fit to η (1/Å²), R_s (Å) and R_c (Å)."""
        shift = r_s / cutoff
        largest = max(shift, abs(1.0 - shift)) ** 2
        exponent = eta * cutoff**2 * largest
        squarings = _squarings(exponent)
        part = exponent / 2**squarings
        return cls(_interpolate(lambda y: np.exp(-part * y)), squarings, shift, 1.0 / largest)


def _squarings(exponent: float) -> int:
    return int(np.ceil(np.log2(exponent / _GAUSSIAN_LIMIT))) if exponent > _GAUSSIAN_LIMIT else 0
