"""The distance of an atom from the training set: one number, of which 1 is ordinary.

A potential interpolates. If the neighborhood of an atom is unlike all neighborhoods in the training set, its energy is
a guess, and nothing in the number says so. Here a neighborhood is a point in the space of whitened features, in which
all directions have the same weight, and the distance is that to the nearest of a sample of training atoms of the same
element. Its unit comes from these atoms: 99 of 100 have a nearer atom in another training structure.

On TiO2 (1,718 held-out structures, two thirds of them far above the training energies) the distance predicts the
error of an atom's force over three decades, by the same law inside and far outside the training range; the table is
in docs/results/extrapolation.md, and docs/theory.md has what else was tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import AnyIntArray, FloatArray
from tio2nn.files.rows import Rows
from tio2nn.potential.whitening import Whitening, pieces

# Reference atoms per element in a potential. Rank correlation of distance and error inside the training range,
# TiO2: 250 0.51, 500 0.54, 1,000 0.62, 2,000 0.68, 4,000 0.71. 2,000 are 0.6 MB of 70 functions and cost 0.4 ms for
# 48 atoms, a tenth of their forces.
N_REFERENCES = 2000
_N_CALIBRATION = 2000  # atoms whose distances define the unit, enough for its percentile
_QUANTILE = 0.99
# Atoms compared with the references at once: their 2 MB stay in the L2 cache (8.7 → 2.8 µs an atom)
_ATOMS_TOGETHER = 256

# A smaller unit, in standard deviations of whitened features, is rounding: all structures are copies of one.
_SMALLEST_UNIT = 1e-6

# A range narrower than this fraction of its limits is a single value with rounding; such a function is measured in its
# own unit, in which one near neighbor contributes about 1.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class TrainingAtoms:
    """The training atoms of one element, as far as a potential stores them.

    Attributes:
        low, high: (n_features,) smallest and largest value of each feature.
        references: (n_references, n_features + number of constant features) a sample, see `Whitening.points`.
        unit: distance of points that counts as 1.
    """

    low: FloatArray
    high: FloatArray
    references: NDArray[np.float32]
    unit: float

    @classmethod
    def fit(
        cls, features: Rows, structures: AnyIntArray, whitening: Whitening, random: np.random.Generator
    ) -> TrainingAtoms:
        """Choose the reference atoms and the unit.

        With atoms of a single structure there is nothing to compare; the unit is then the standard deviation of a
        whitened feature.

        Args:
            features: (n_atoms, n_features) of all training atoms of the element.
            structures: (n_atoms,) index of the structure of each.
            whitening: of the element.
            random: draws the atoms.
        """
        n_atoms = len(features)
        chosen = np.sort(random.permutation(n_atoms)[:N_REFERENCES])
        tried = np.sort(random.permutation(n_atoms)[:_N_CALIBRATION])
        references = whitening.points(features[chosen]).astype(np.float32)
        low = reduce(np.minimum, (piece.min(axis=0) for piece in pieces(features)))
        high = reduce(np.maximum, (piece.max(axis=0) for piece in pieces(features)))
        atoms = cls(low, high, references, 1.0)
        of_others = structures[tried, None] != structures[chosen]
        comparable = of_others.any(axis=1)
        if not comparable.any():
            return atoms
        distances = atoms._to_nearest(whitening.points(features[tried[comparable]]), of_others[comparable])
        return replace(atoms, unit=max(float(np.quantile(distances, _QUANTILE)), _SMALLEST_UNIT))

    def distances(self, features: FloatArray, whitening: Whitening) -> FloatArray:
        """Distance of atoms from the nearest reference, in units of `unit`.

        Args:
            features: (n_atoms, n_features), not whitened.
            whitening: of the element.

        Returns:
            (n_atoms,)
        """
        return self._to_nearest(whitening.points(features)) / self.unit

    def excess(self, features: FloatArray) -> FloatArray:
        """How far each feature lies outside the training range, in units of the width of that range.

        Negative inside the range; for a feature that did not vary, the difference itself.

        Args:
            features: (n_atoms, n_features), not whitened.

        Returns:
            (n_atoms, n_features)
        """
        width = self.high - self.low
        varied = width > _CONSTANT * np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(
            np.maximum(self.low - features, features - self.high) / np.where(varied, width, 1.0)
        )

    def _to_nearest(self, of_atoms: FloatArray, allowed: NDArray[np.bool_] | None = None) -> FloatArray:
        """Root mean square difference from the nearest reference allowed for each atom."""
        found = np.empty(len(of_atoms))
        for first in range(0, len(of_atoms), _ATOMS_TOGETHER):
            own = slice(first, first + _ATOMS_TOGETHER)
            # the expanded square in single precision is accurate enough to choose, not to measure
            extended = np.ones((len(of_atoms[own]), of_atoms.shape[1] + 1), np.float32)
            extended[:, :-1] = of_atoms[own]
            squares = extended @ self.expanded.T
            if allowed is not None:
                squares[~allowed[own]] = np.inf
            nearest = self.references[squares.argmin(axis=1)]
            found[own] = np.sqrt(((of_atoms[own] - nearest) ** 2).mean(axis=1))
        return found

    @cached_property
    def expanded(self) -> NDArray[np.float32]:
        """(n_references, n + 1) -2 r and r²: of the product with (p, 1) nothing is left out but p²."""
        squares = np.einsum("ij,ij->i", self.references, self.references)
        return np.column_stack([-2.0 * self.references, squares])
