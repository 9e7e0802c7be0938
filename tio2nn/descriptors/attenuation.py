"""Gaussians and the cosine cutoff as polynomials.

f_c(R) = ½ (1 + cos(π R/R_c)) depends on R² analytically: with t = 1 - R²/R_c² it has a double zero at
t = 0, so exp(-η R²) f_c(R) = t² q(t) with an entire q. Chebyshev interpolation of q converges faster than
geometrically, and the factor t² makes value and first derivative exactly zero at the cutoff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.polynomials import N_TERMS
from tio2nn.descriptors.kernels.triplets import MOST_TERMS

# η R_c² up to which one polynomial holds exp(-η R²) f_c(R): 7e-14 at 4, 3e-12 at 6 (absolute, 16 terms)
_DIRECT_LIMIT = 4.0
# The exponent that a polynomial for a bare Gaussian may span before it is halved and squared (error 5e-16).
# Each squaring doubles the relative error, so 60 (the narrowest radial function) costs 5 of them, 2e-14.
_GAUSSIAN_LIMIT = 2.0
# The exponent that a polynomial of triplets may span at most, before it is halved and squared.
_LARGEST_SPAN = 16.0
# Of errors at places where all three atoms are near the cutoff.
_LEAST_WEIGHT = 1e-7
# Gaussians below this have no relative tolerance.
_NEGLIGIBLE = 1e-16
_ROUNDING = 2e-16


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
    powers = _in_powers(series)
    coefficients[: len(powers)] = powers
    return coefficients


def _in_powers(series: FloatArray) -> FloatArray:
    """(terms,) coefficients in powers of x ∈ [0, 1] of a Chebyshev series with at least two terms.

    The recursion of `Chebyshev.convert`, with its bits, without its objects: these took 5 % of `tio2nn predict FILE`.
    """
    argument = np.array([-1.0, 2.0])  # 2 x - 1
    last, powers = np.array(series[-2:-1]), np.array(series[-1:])
    for coefficient in series[-3::-1]:
        raised = np.convolve(powers, 2.0 * argument)
        raised[: len(last)] += last
        last, powers = -powers, raised
        last[0] += coefficient
    powers = np.convolve(powers, argument)
    powers[: len(last)] += last
    return powers


def cutoff_polynomial() -> FloatArray:
    """(N_TERMS,) coefficients of f_c / t² in powers of t."""
    return _interpolate(_cutoff_quotient)


def _fitted(values: FloatArray, weights: FloatArray, terms: int) -> FloatArray:
    """(terms,) coefficients in powers of x ∈ [0, 1] that make the weighted squares at `_POINTS` least."""
    series = _SERIES[:, :terms]
    found = np.linalg.lstsq(series * weights[:, None], values * weights, rcond=None)[0]
    powers = _in_powers(np.asarray(found, dtype=np.float64))
    coefficients = np.zeros(terms)
    coefficients[: len(powers)] = powers
    return coefficients


# Chebyshev points of [0, 1]: the ends count as much as the middle
_POINTS = 0.5 + 0.5 * np.cos(np.pi * (np.arange(100) + 0.5) / 100)
_SERIES = chebyshev.chebvander(2.0 * _POINTS - 1.0, MOST_TERMS - 1)
_SHORT_TERMS = 10  # f_c to 2e-15, its derivative to 1e-13


def short_cutoff_polynomial() -> FloatArray:
    """(terms,) coefficients of f_c / t² in powers of t, where the factor t² counts: f_c is within 2e-15."""
    return _fitted(_cutoff_quotient(_POINTS), _POINTS**2, _SHORT_TERMS)


@dataclass(frozen=True)
class TripletGaussian:
    """exp(-η R_c² (3 - τ)) for τ = t_j + t_k + t_jk ∈ [0, 3]: a polynomial in τ, squared.

    Beside it stand three factors f_c, whose product is f_c³ at equal distances at most, so that it has to be accurate
    for large τ alone.

    Attributes:
        polynomial: (terms,) coefficients in powers of τ.
        squarings: how often the polynomial is squared.
    """

    polynomial: FloatArray
    squarings: int

    @classmethod
    @lru_cache(maxsize=256)
    @np.errstate(over="ignore", invalid="ignore")  # of fits that are refused
    def fit(cls, exponent: float, tolerance: float, *, is_relative: bool = False) -> TripletGaussian:
        """The cheapest that is within the tolerance.

        Args:
            exponent: η R_c².
            tolerance: beside rounding; absolute, of the product with the factors f_c.
            is_relative: the tolerance is that of the Gaussian alone, relative to it.
        """
        first = int(max(np.ceil(np.log2(max(3.0 * exponent, 1e-3) / _LARGEST_SPAN)), 0))
        factors = np.maximum((_cutoff_quotient(_POINTS) * _POINTS**2) ** 3, _LEAST_WEIGHT)
        found: list[tuple[int, TripletGaussian]] = []
        # rounding of the coefficients may keep all above the tolerance
        least, best = np.inf, cls(np.ones(2), 0)
        for squarings in range(first, first + 4):
            part = 3.0 * exponent / 2**squarings
            values = np.exp(-part * (1.0 - _POINTS))
            # of a squared number, the error doubles
            power = 2**squarings
            scale = 1.0 / np.maximum(values**power, _NEGLIGIBLE) if is_relative else factors
            weights = np.maximum(scale * power * values ** (power - 1), _LEAST_WEIGHT)
            most = min([MOST_TERMS, *(cost - 2 * squarings - 1 for cost, _ in found)])
            for terms in range(2, most + 1):
                coefficients = _fitted(values, weights, terms)
                wrong = np.polyval(coefficients[::-1], _POINTS) ** power - values**power
                error = float(np.nan_to_num((np.abs(wrong) * scale).max(), nan=np.inf))
                fit = cls(coefficients / 3.0 ** np.arange(terms), squarings)
                # squarings double the rounding, too
                if error <= tolerance + power * _ROUNDING:
                    found.append((terms + 2 * squarings, fit))
                    break
                if error < least:
                    least, best = error, fit
        return min(found, key=lambda fit: fit[0])[1] if found else best


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
