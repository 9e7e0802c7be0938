"""Whitening: features rotated and scaled to be uncorrelated, with unit variance where the data determine it.

Symmetry functions are strongly correlated, and first-order optimizers converge slowly along directions of small
variance. Principal component analysis of the standardized features of the training atoms, with each component scaled by
its own standard deviation, removes that. Two measures keep it from amplifying directions that training hardly spans:

- A column is standardized by its standard deviation and a fraction of its natural size, the contribution of one
  neighbor at the closest training distance: s² = σ² + (κ size)². A function that is almost zero in training then stays
  small elsewhere.
- A component of variance v (of standardized features) is multiplied by √v / (v + floor), the Wiener filter for a signal
  of variance v under noise of variance `floor`: 1/√v for large v, and zero, instead of 1/√floor, for vanishing v.

Labels may tell of directions that the atoms themselves hardly span: a stress tells of strained cells, even if all cells
are alike. What the features vary by there is added to their variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.cores import one_blas_thread
from tio2nn.files.rows import Rows

# Constants of `floor_of`: the count at which the floor is the mean variance, the power with which it falls, and its
# minimum. Errors of energies and forces (meV/atom, eV/Å) on structures unlike the training set, or on a held-out set,
# for several floors; in parentheses the count, √(atoms · structures):
# - cells of 4 atoms of Cu (80), judged by one of 32: 6e-3 4.3, 0.083; 0.02 2.3, 0.035; 0.06 0.9, 0.013; 0.2 0.5, 0.011
# - seven metals (44 of each): 0.02 10.7, 0.062; 0.3 8.6, 0.050
# - 30 cells of 64 atoms of Ge (240): 1e-4 4.2, 0.080; 1.5e-3 4.1, 0.072; 0.025 4.5, 0.067
# - acetylacetone (350 to 710): 4e-4 to 1e-3 0.63, 0.044; 1.4e-3 to 2.8e-3 0.56, 0.039
# - 170 cells of Ge (1,400): 1e-5 2.23, 0.052; 1.2e-4 2.15, 0.051; 1e-2 2.64, 0.051
# - 1,200 cells of TiO2 (3,100 and 4,400): 1e-6 1.31, 0.063; 5e-6 and 2e-5 1.36, 0.066; 6e-5 and 1.5e-4 1.62, 0.070
_ONE_AT, _POWER, LEAST_FLOOR = 70.0, 3.0, 1e-6
# κ in the formula above. Energy errors of aligned molecules bent by 0.09 Å, meV/atom: 0 9,500, 1e-2 14, with the gain
# 1/√max(v, 1e-5); with the present gain 5.
NATURAL_FRACTION = 1e-2
# A column with a standard deviation below this fraction of its largest value contains only rounding errors.
_CONSTANT = 1e-10
# Rows processed at once, so that intermediate results take at most 0.1 GB. Sums over more rows are sums over such
# pieces.
_ROWS_TOGETHER = 1 << 17


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x - mean) @ matrix, in float64.

    Attributes:
        mean: (n_features,)
        matrix: (n_features, n_features)
        constant: (n_features,) columns that do not vary over the training atoms; the matrix ignores them.
        metric: (n_features, n_features) transforms features to measure distances from the training set, (x - mean) @
            metric: like the matrix, but sensitive to directions that do not vary in training.
    """

    mean: FloatArray
    matrix: FloatArray
    constant: NDArray[np.bool_]
    metric: FloatArray

    @classmethod
    def fit(
        cls,
        features: Rows,
        floor: float = LEAST_FLOOR,
        sizes: FloatArray | None = None,
        beside: FloatArray | None = None,
    ) -> Whitening:
        """Fit to the training atoms of one element.

        Args:
            features: (n_atoms, n_features), at least one atom.
            floor: variance of standardized features below which a component is treated as noise; see `floor_of`.
            sizes: (n_features,) natural size of each function; by default zero.
            beside: (n_features, n_features) covariance of what labels tell of beside these atoms; by default zero. It
                changes the matrix, not the metric.
        """
        # of several threads, products and eigenvectors have other last bits
        with one_blas_thread():
            return cls._fitted(features, floor, sizes, beside)

    @classmethod
    def _fitted(
        cls, features: Rows, floor: float, sizes: FloatArray | None, beside: FloatArray | None
    ) -> Whitening:
        mean, deviation, constant = _moments(features, sizes)

        def products(piece: FloatArray) -> FloatArray:
            standardized = piece - mean
            standardized /= deviation
            standardized[:, constant] = 0.0
            return np.asarray(standardized.T @ standardized)

        covariance = reduce(np.add, map(products, pieces(features))) / len(features)
        variances, rotation = _components(covariance)
        metric = rotation / np.sqrt(variances + floor) / deviation[:, None]
        if beside is not None:
            more = beside / np.outer(deviation, deviation)
            more[constant] = more[:, constant] = 0.0
            variances, rotation = _components(covariance + more)
        matrix = rotation * (np.sqrt(variances) / (variances + floor)) / deviation[:, None]
        matrix[constant] = metric[constant] = 0.0
        return cls(mean, matrix, constant, metric)

    @classmethod
    def standardization(cls, features: Rows, sizes: FloatArray | None = None) -> Whitening:
        """Mean and scale alone, without rotation: for networks without whitening."""
        mean, deviation, constant = _moments(features, sizes)
        matrix = np.diag(np.where(constant, 0.0, 1.0 / deviation))
        return cls(mean, matrix, constant, matrix)

    def __call__(self, features: NDArray[np.floating]) -> FloatArray:
        """Whitened features.

        Args:
            features: (n_atoms, n_features)

        Returns:
            (n_atoms, n_features)
        """
        return np.asarray((features - self.mean) @ self.matrix)

    def points(self, features: NDArray[np.floating]) -> FloatArray:
        """Points between which distances are measured: features in the metric, and the constant features it leaves out.

        Args:
            features: (n_atoms, n_features), not whitened.

        Returns:
            (n_atoms, n_features + number of constant features)
        """
        return np.asarray((features - self.mean) @ self.full_metric)

    @property
    def full_metric(self) -> FloatArray:
        """(n_features, n_features + number of constant features) from centered features to `points`."""
        return np.hstack([self.metric, np.eye(len(self.mean))[:, self.constant]])


def floor_of(n_atoms: int, n_structures: int) -> float:
    """Variance of a component, of standardized features, that remains uncertain with so much training data.

    Atoms of one structure are similar, so they carry less information than as many atoms of different structures, and
    more than a single atom: the effective count is the geometric mean of both numbers.
    """
    count = (n_atoms * n_structures) ** 0.5
    return float(min(1.0, max(LEAST_FLOOR, (_ONE_AT / count) ** _POWER)))


def pieces(features: Rows) -> Iterator[NDArray[Any]]:
    """Consecutive rows of a matrix, in pieces that keep intermediate results small; at least one piece."""
    for first in range(0, max(len(features), 1), _ROWS_TOGETHER):
        yield features[first : first + _ROWS_TOGETHER]


def _components(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances and directions (columns) of the principal components."""
    variances, rotation = np.linalg.eigh(covariance)
    return np.maximum(variances, 0.0), rotation


def _moments(features: Rows, sizes: FloatArray | None) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Mean and scale of each column, and whether it is constant."""

    def squares(piece: FloatArray) -> FloatArray:
        deviations = piece - mean
        return np.asarray((deviations * deviations).sum(axis=0))

    mean = reduce(np.add, (piece.sum(axis=0) for piece in pieces(features))) / len(features)
    deviation = np.sqrt(reduce(np.add, map(squares, pieces(features))) / len(features))
    largest = reduce(np.maximum, (np.abs(piece).max(axis=0) for piece in pieces(features)))
    constant = deviation <= _CONSTANT * largest
    if sizes is not None:
        deviation = np.hypot(deviation, NATURAL_FRACTION * sizes)
    return mean, np.where(constant, 1.0, deviation), constant
