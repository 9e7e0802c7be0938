"""The law of a learning curve: errors fall with a power of the number of training structures, perhaps to a floor.

    error(n) = floor + factor n^(-exponent)

Deviations of logarithms are fitted, since errors scatter in proportion to their size. A law without a floor is a
straight line; the floor is a third parameter, which takes more points, and is believed only where the criterion of
Akaike, corrected for few points (C. M. Hurvich and C.-L. Tsai, Biometrika 76 (1989) 297), says that it explains
enough. Intervals are those of Student's t for the scatter around the law. What is told of more data covers every law
that the points do not exclude.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray

CONFIDENCE = 0.95
FEWEST_SIZES = 3
"""Different numbers of structures that a law needs at least; two would be joined by a line without any scatter."""
_FEWEST_SIZES_FOR_FLOOR = 4
# Difference of the criterion; the odds are 150 : 1. Five sizes, two fits each with a scatter of 10 %: the interval of
# twice the data had the truth in 95 % of 200 draws without a floor, 92 and 94 % with floors of 40 % and two thirds of
# the last error; with 4 in 93, 82 and 74 %.
_NOT_EXCLUDED = 10.0
_FLOORS = (0.02, 0.3, 0.7, 0.95)  # of the smallest error, where the search for a floor begins
# the smallest scatter of errors that is believed, relative: of equal fits, and for points on a law by chance
_LEAST_SCATTER = 1e-3


class Estimate(NamedTuple):
    """A value and its interval of `CONFIDENCE`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law.

    Attributes:
        floor: error that no number of structures removes; 0 if the law has none.
        factor: in the unit of the error.
        exponent: of the fall.
        scatter: relative deviation of the points from the law (standard deviation of logarithms).
        covariance: of the logarithm of the factor, the exponent and, with a floor, its logarithm.
        freedom: number of points less parameters.
        criterion: of Akaike, corrected; smaller is better.
    """

    floor: float
    factor: float
    exponent: float
    scatter: float
    covariance: FloatArray
    freedom: int
    criterion: float

    def errors(self, n: FloatArray) -> FloatArray:
        """The errors for so many training structures each."""
        return np.asarray(self.floor + self.factor * n**-self.exponent)

    def at(self, n: float) -> Estimate:
        """The mean error of fits to so many structures."""
        value = self.floor + self.factor * n**-self.exponent
        slope = _slopes(np.array([n]), self)[0, : len(self.covariance)]
        wide = self._quantile * math.sqrt(max(0.0, float(slope @ self.covariance @ slope)))
        return Estimate(value, value * math.exp(-wide), value * math.exp(wide))

    @property
    def exponent_interval(self) -> Estimate:
        """The exponent."""
        wide = self._quantile * math.sqrt(max(0.0, float(self.covariance[1, 1])))
        return Estimate(self.exponent, self.exponent - wide, self.exponent + wide)

    @property
    def _quantile(self) -> float:
        from scipy.stats import t

        return float(t.ppf(0.5 + 0.5 * CONFIDENCE, self.freedom))

    def formula(self, digits: int = 3) -> str:
        """As text: "0.31 + 52 N^-0.61"."""
        floor = f"{self.floor:.{digits}g} + " if self.floor else ""
        return f"{floor}{self.factor:.{digits}g} N^{-self.exponent:.{digits}g}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        exponent = self.exponent_interval
        return {
            "floor": self.floor,
            "factor": self.factor,
            "exponent": exponent.value,
            "exponent_low": exponent.low,
            "exponent_high": exponent.high,
            "relative_scatter": self.scatter,
        }


@dataclass(frozen=True)
class Curve:
    """The laws of some points.

    Attributes:
        law: the best one.
        possible: all that the points do not exclude.
    """

    law: PowerLaw
    possible: tuple[PowerLaw, ...]

    def at(self, n: float) -> Estimate:
        """The mean error of fits to so many structures; the interval covers all possible laws."""
        found = [law.at(n) for law in self.possible]
        return Estimate(self.law.at(n).value, min(e.low for e in found), max(e.high for e in found))

    @property
    def falls(self) -> bool:
        """Whether the errors certainly fall with more structures."""
        return self.law.exponent_interval.low > 0.0


def fit_curve(n: Sequence[float], errors: Sequence[float]) -> Curve | None:
    """The laws of errors of fits to n training structures each; None for fewer than `FEWEST_SIZES` numbers of them.

    Args:
        n: number of training structures of each fit.
        errors: of each, above 0.
    """
    x, y = np.asarray(n, np.float64), np.log(np.asarray(errors, np.float64))
    n_sizes = len(np.unique(x))
    if n_sizes < FEWEST_SIZES:
        return None
    laws = [_straight(x, y)]
    if n_sizes >= _FEWEST_SIZES_FOR_FLOOR and len(x) > 5 and (with_floor := _with_floor(x, y)) is not None:
        laws.append(with_floor)
    best = min(laws, key=lambda law: law.criterion)
    return Curve(best, tuple(law for law in laws if law.criterion <= best.criterion + _NOT_EXCLUDED))


def _straight(x: FloatArray, y: FloatArray) -> PowerLaw:
    design = np.stack([np.ones_like(x), -np.log(x)], axis=1)
    (log_factor, exponent), *_ = np.linalg.lstsq(design, y, rcond=None)
    return _law(x, y, 0.0, float(np.exp(log_factor)), float(exponent))


def _with_floor(x: FloatArray, y: FloatArray) -> PowerLaw | None:
    """The best law with a floor; None if there is none but zero, or the points do not determine it."""
    from scipy.optimize import least_squares

    def deviations(p: FloatArray) -> FloatArray:
        return np.asarray(np.logaddexp(p[2], p[0] - p[1] * np.log(x)) - y)

    found = []
    for fraction in _FLOORS:
        floor = fraction * np.exp(y.min())
        above = np.log(np.maximum(np.exp(y) - floor, 1e-3 * floor))
        slope, intercept = np.polyfit(-np.log(x), above, 1)
        found.append(least_squares(deviations, [intercept, slope, np.log(floor)], method="lm"))
    best = min((f for f in found if f.success), key=lambda f: float(f.cost), default=None)
    if best is None or not np.isfinite(best.x).all() or best.x[1] <= 0.0 or np.exp(best.x[0]) > 1e12:
        return None
    log_factor, exponent, log_floor = best.x
    if log_floor < y.min() - 7.0:  # a thousandth of the smallest error is none
        return None
    return _law(x, y, float(np.exp(log_floor)), float(np.exp(log_factor)), float(exponent))


def _law(x: FloatArray, y: FloatArray, floor: float, factor: float, exponent: float) -> PowerLaw:
    n_parameters = 3 if floor else 2
    freedom = len(x) - n_parameters
    bare = PowerLaw(floor, factor, exponent, 0.0, np.zeros((0, 0)), freedom, 0.0)
    squares = float(((y - np.log(bare.errors(x))) ** 2).sum())
    scatter = max(float(np.sqrt(squares / freedom)), _LEAST_SCATTER)
    slopes = _slopes(x, bare)[:, :n_parameters]
    covariance = scatter**2 * np.linalg.pinv(slopes.T @ slopes)
    k = n_parameters + 1  # the scatter is one, too
    variance = max(squares / len(x), _LEAST_SCATTER**2)
    corrected = 2 * k * (k + 1) / (len(x) - k - 1) if len(x) > k + 1 else np.inf
    criterion = len(x) * np.log(variance) + 2 * k + corrected
    return PowerLaw(floor, factor, exponent, scatter, covariance, freedom, float(criterion))


def _slopes(x: FloatArray, law: PowerLaw) -> FloatArray:
    """(n, 3) derivatives of the logarithm of the error with respect to log factor, exponent and log floor."""
    falling = law.factor * x**-law.exponent
    error = law.floor + falling
    return np.stack([falling / error, -falling * np.log(x) / error, law.floor / error], axis=1)
