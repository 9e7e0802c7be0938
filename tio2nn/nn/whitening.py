"""Whitening: features rotated and scaled so that they are uncorrelated with unit variance.

Symmetry functions are strongly correlated; an optimizer of first order crawls along their thin directions.
Principal component analysis of the standardized features of the training atoms, each component scaled by its
own standard deviation, removes that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Floating = TypeVar("Floating", bound=np.floating[Any])

# Default of `network.whitening_floor`: components of smaller variance (of standardized features) stay small instead of
# being blown up to noise. Test RMSE after 200 epochs on TiO2, meV/atom: 1e-8 2.53, 1e-7 2.55,
# 1e-6 2.42, 1e-5 2.34.
VARIANCE_FLOOR = 1e-5
# A column whose standard deviation is below this fraction of its largest value carries only rounding.
_CONSTANT = 1e-10
# Rows worked on at a time, so that intermediate results take 0.1 GB at most, whatever the size of the data. Sums over
# more rows are sums of the sums of such pieces.
_ROWS_TOGETHER = 1 << 17


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x - mean) @ matrix, in float64.

    Attributes:
        mean: (n_features,)
        matrix: (n_features, n_features)
        constant: (n_features,) columns that do not vary over the training atoms; the matrix ignores them.
    """

    mean: FloatArray
    matrix: FloatArray
    constant: NDArray[np.bool_]

    @classmethod
    def fit(cls, features: FloatArray, floor: float = VARIANCE_FLOOR) -> Whitening:
        """Fit to the training atoms of one element.

        Args:
            features: (n_atoms, n_features), at least one atom.
            floor: smallest variance of a component that is scaled up to one.
        """
        mean, deviation, constant = _moments(features)

        def products(piece: FloatArray) -> FloatArray:
            standardized = piece - mean
            standardized /= deviation
            standardized[:, constant] = 0.0
            return np.asarray(standardized.T @ standardized)

        variances, rotation = np.linalg.eigh(reduce(np.add, map(products, pieces(features))) / len(features))
        matrix = rotation / np.sqrt(np.maximum(variances, floor)) / deviation[:, None]
        matrix[constant] = 0.0
        return cls(mean, matrix, constant)

    @classmethod
    def standardization(cls, features: FloatArray) -> Whitening:
        """Mean and scale alone, no rotation: for networks that ask for no whitening."""
        mean, deviation, constant = _moments(features)
        return cls(mean, np.diag(np.where(constant, 0.0, 1.0 / deviation)), constant)

    def __call__(self, features: NDArray[np.floating]) -> FloatArray:
        """Whitened features.

        Args:
            features: (n_atoms, n_features)

        Returns:
            (n_atoms, n_features)
        """
        return np.asarray((features - self.mean) @ self.matrix)


def pieces(features: NDArray[Floating]) -> Iterator[NDArray[Floating]]:
    """Consecutive rows of a matrix, so many at a time that intermediate results stay small; at least one piece."""
    for first in range(0, max(len(features), 1), _ROWS_TOGETHER):
        yield features[first : first + _ROWS_TOGETHER]


def _moments(features: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    def squares(piece: FloatArray) -> FloatArray:
        deviations = piece - mean
        return np.asarray((deviations * deviations).sum(axis=0))

    mean = reduce(np.add, (piece.sum(axis=0) for piece in pieces(features))) / len(features)
    deviation = np.sqrt(reduce(np.add, map(squares, pieces(features))) / len(features))
    largest = reduce(np.maximum, (np.abs(piece).max(axis=0) for piece in pieces(features)))
    constant = deviation <= _CONSTANT * largest
    return mean, np.where(constant, 1.0, deviation), constant
