"""Reference energies: what an atom of each element contributes to the total energy, independent of its surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray
from tio2nn.structures.outliers import FEWEST, beyond_gap
from tio2nn.wording import counted

# eV/atom; crystals, surfaces and melts of one material lie closer than this, and structures within it shift the
# reference energies by no more than the first epochs of a fit undo
_FAR = 1.0
_MOST_STEPS = 100  # of reweighting; a few dozen are enough
_SMALLEST_RESIDUAL = 1e-4  # eV/atom; weights are inverse residuals, down to this one


@dataclass(frozen=True, eq=False)
class ReferenceEnergies:
    """An energy for each element, in float64: float32 resolves a total energy of -20,000 eV to only 2 meV.

    Attributes:
        elements: chemical symbols.
        values: (n_elements,) eV.
        underdetermined: whether the fitted compositions leave them undetermined, for example if every structure is
            TiO2; energy differences within the span of these compositions are still right.
        source: "given", "least squares", or "least squares to all but 2 structures".

    Raises:
        ValueError: the number of values is not the number of elements.
    """

    elements: tuple[str, ...]
    values: FloatArray = field(repr=False)
    underdetermined: bool = False
    source: str = "given"

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.elements),):
            raise ValueError(f"values: expected shape ({len(self.elements)},), got {self.values.shape}")

    @classmethod
    def given(cls, values: Mapping[str, float]) -> ReferenceEnergies:
        """Reference energies that the user gives, eV."""
        return cls(tuple(values), np.array(list(values.values()), dtype=np.float64))

    @classmethod
    def fit(
        cls, elements: tuple[str, ...], compositions: NDArray[np.integer], energies: FloatArray
    ) -> ReferenceEnergies:
        """Robust least squares on the total energies: structures far from all others are ignored.

        A structure is far if its residual per atom, after a fit by least absolute deviations, is separated from the
        rest by more than 1 eV/atom and by more than the spread of the rest (`tio2nn.structures.outliers`); without far
        structures this is plain least squares. Far structures still decide what the others leave undetermined. Of many
        solutions, the one of smallest norm is taken.

        Args:
            elements: one for each column.
            compositions: (n_structures, n_elements) number of atoms of each element.
            energies: (n_structures,) total energies, eV.
        """
        matrix = np.asarray(compositions, dtype=np.float64)
        values, rank, far = _robust(matrix, np.asarray(energies, dtype=np.float64))
        n_far = int(np.count_nonzero(far))
        apart = f" to all but {counted(n_far, 'structure')}" if n_far else ""
        return cls(
            elements=elements,
            values=values,
            underdetermined=rank < len(elements),
            source=f"least squares{apart}",
        )

    def baseline(self, compositions: NDArray[np.integer]) -> FloatArray:
        """(n_structures,) eV, the sum of reference energies for compositions (n_structures, n_elements)."""
        return np.asarray(compositions, dtype=np.float64) @ self.values

    def cohesive(self, compositions: NDArray[np.integer], energies: FloatArray) -> FloatArray:
        """(n_structures,) cohesive energies, eV/atom: total energies minus reference energies, by number of atoms.

        Args:
            compositions: (n_structures, n_elements) number of atoms of each element.
            energies: (n_structures,) total energies, eV.
        """
        n_atoms = np.asarray(compositions).sum(axis=1)
        return np.asarray((energies - self.baseline(compositions)) / n_atoms)

    def as_dict(self) -> dict[str, float]:
        """Element to energy, eV."""
        return dict(zip(self.elements, self.values.tolist(), strict=True))


def robust_residuals(compositions: NDArray[np.integer], energies: FloatArray) -> FloatArray:
    """(n_structures,) energies minus robust reference energies of the set, eV/atom; see `ReferenceEnergies.fit`."""
    matrix = np.asarray(compositions, dtype=np.float64)
    values, _, _ = _robust(matrix, energies)
    return np.asarray((energies - matrix @ values) / matrix.sum(axis=1))


def _robust(matrix: FloatArray, energies: FloatArray) -> tuple[FloatArray, int, BoolArray]:
    """Reference energies, rank of the compositions, and which structures were ignored."""
    far = _far(matrix, energies)
    values, _, found, _ = np.linalg.lstsq(matrix[~far], energies[~far], rcond=None)
    rank = int(found)
    if far.any():
        rank_of_all = int(np.linalg.matrix_rank(matrix))
        if rank_of_all > rank:
            # directions that the others leave undetermined, for example if only far structures have some element
            free = np.linalg.svd(np.linalg.qr(matrix[~far], mode="r"))[2][rank:]
            steps = np.linalg.lstsq(matrix[far] @ free.T, energies[far] - matrix[far] @ values, rcond=None)[0]
            values = values + steps @ free
        rank = rank_of_all
    return np.asarray(values, dtype=np.float64), rank, far


def _far(matrix: FloatArray, energies: FloatArray) -> BoolArray:
    """(n_structures,) which structures are far from all others."""
    n_atoms = matrix.sum(axis=1)
    if len(matrix) < FEWEST:
        return np.zeros(len(matrix), dtype=np.bool_)
    fractions, per_atom = matrix / n_atoms[:, None], energies / n_atoms
    far = beyond_gap(_least_deviations(fractions, per_atom), _FAR)
    for _ in range(_MOST_STEPS if far.any() else 0):
        # least squares without them may change the set by a few
        values = np.linalg.lstsq(matrix[~far], energies[~far], rcond=None)[0]
        residuals = per_atom - fractions @ values
        # undetermined directions cannot tell which are far
        determined = np.linalg.matrix_rank(matrix[~far]) == np.linalg.matrix_rank(matrix)
        again = beyond_gap(residuals, _FAR) if determined else far
        if (again == far).all():
            break
        far = again
    return far


def _least_deviations(fractions: FloatArray, per_atom: FloatArray) -> FloatArray:
    """(n_structures,) residuals, eV/atom, of the fit by least absolute deviations.

    By iteratively reweighted least squares (E. J. Schlossmacher, J. Am. Stat. Assoc. 68 (1973) 857).
    """
    residuals = per_atom - fractions @ np.linalg.lstsq(fractions, per_atom, rcond=None)[0]
    for _ in range(_MOST_STEPS):
        root = np.maximum(np.abs(residuals), _SMALLEST_RESIDUAL) ** -0.5
        step = fractions @ np.linalg.lstsq(fractions * root[:, None], residuals * root, rcond=None)[0]
        residuals = residuals - step
        if np.abs(step).max() < _SMALLEST_RESIDUAL:
            break
    return np.asarray(residuals)
