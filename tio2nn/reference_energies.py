"""Reference energies: what one atom of each element contributes to a total energy, whatever its surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tio2nn.structure import FloatArray


@dataclass(frozen=True, eq=False)
class ReferenceEnergies:
    """An energy for each element. Float64 throughout: in float32 a total of -20,000 eV is known to 2 meV.

    Attributes:
        elements: chemical symbols.
        values: (n_elements,) eV.
        underdetermined: whether the compositions that they were fitted to leave them undetermined, as where every
            structure is TiO2; differences between such compositions are still right.
        source: "given" or "least squares".

    Raises:
        ValueError: not one value for each element.
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
        """Those that someone states, eV."""
        return cls(tuple(values), np.array(list(values.values()), dtype=np.float64))

    @classmethod
    def fit(
        cls, elements: tuple[str, ...], compositions: NDArray[np.integer], energies: FloatArray
    ) -> ReferenceEnergies:
        """Least squares of the total energies; of many solutions that of smallest norm.

        Args:
            elements: of the columns.
            compositions: (n_structures, n_elements) number of atoms of each element.
            energies: (n_structures,) total energies, eV.
        """
        matrix = np.asarray(compositions, dtype=np.float64)
        values, _, rank, _ = np.linalg.lstsq(matrix, np.asarray(energies, dtype=np.float64), rcond=None)
        return cls(
            elements=elements,
            values=np.asarray(values, dtype=np.float64),
            underdetermined=int(rank) < len(elements),
            source="least squares",
        )

    def baseline(self, compositions: NDArray[np.integer]) -> FloatArray:
        """(n_structures,) eV, the part of total energies that compositions (n_structures, n_elements) explain."""
        return np.asarray(compositions, dtype=np.float64) @ self.values

    def as_dict(self) -> dict[str, float]:
        """Element to energy, eV."""
        return dict(zip(self.elements, self.values.tolist(), strict=True))
