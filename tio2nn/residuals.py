"""The table of residuals: true and predicted energies of many structures, and the errors that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.metrics import (
    energy_metrics,
    errors_by_composition,
    errors_by_energy,
    errors_by_size,
    residuals_per_atom,
)
from tio2nn.structure import FloatArray

COLUMNS = (
    "structure",
    "file",
    "n_atoms",
    "composition",
    "energy_eV",
    "predicted_eV",
    "residual_eV",
    "residual_meV_per_atom",
    "cohesive_eV_per_atom",
    "spread_meV_per_atom",
    "n_extrapolating",
)
"""Of `residuals.csv`."""

_MEV = 1000.0  # meV in an eV


class Evaluated(NamedTuple):
    """One structure with its true and its predicted energy, without its atoms.

    Attributes:
        name, file: of the structure.
        composition: number of atoms of each element of the potential, in its order.
        energy, predicted: total energies, eV.
        spread: of the committee, eV/atom, or None.
        n_extrapolating: number of atoms outside the training range.
        composition_is_known: as in `Prediction`.
    """

    name: str
    file: str
    composition: tuple[int, ...]
    energy: float
    predicted: float
    spread: float | None
    n_extrapolating: int
    composition_is_known: bool


@dataclass(frozen=True)
class ResidualTable:
    """All evaluated structures, in the order of their names.

    Attributes:
        rows: one for each structure, at least one.
        elements: of the compositions.
        reference_energies: of each element, eV.
    """

    rows: tuple[Evaluated, ...]
    elements: tuple[str, ...]
    reference_energies: dict[str, float]

    @cached_property
    def n_atoms(self) -> NDArray[np.int64]:
        """(n_structures,)"""
        return np.array([sum(row.composition) for row in self.rows], dtype=np.int64)

    @cached_property
    def energies(self) -> FloatArray:
        """(n_structures,) true total energies, eV."""
        return np.array([row.energy for row in self.rows])

    @cached_property
    def predicted(self) -> FloatArray:
        """(n_structures,) predicted total energies, eV."""
        return np.array([row.predicted for row in self.rows])

    @cached_property
    def baseline(self) -> FloatArray:
        """(n_structures,) the part of total energies that is reference energies, eV."""
        reference = np.array([self.reference_energies[element] for element in self.elements])
        return np.asarray(np.array([row.composition for row in self.rows], dtype=np.float64) @ reference)

    @cached_property
    def cohesive(self) -> FloatArray:
        """(n_structures,) true cohesive energies, eV/atom."""
        return np.asarray((self.energies - self.baseline) / self.n_atoms)

    @cached_property
    def residuals_per_atom(self) -> FloatArray:
        """(n_structures,) meV/atom."""
        return residuals_per_atom(self.predicted, self.energies, self.n_atoms)

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        reduced = [self._formula(row.composition, math.gcd(*row.composition)) for row in self.rows]
        return {
            "n_structures": len(self.rows),
            "n_atoms": int(self.n_atoms.sum()),
            "energy": energy_metrics(self.predicted, self.energies, self.n_atoms),
            "by_size": errors_by_size(self.residuals_per_atom, self.n_atoms),
            "by_energy": errors_by_energy(self.residuals_per_atom, self.cohesive),
            "by_composition": errors_by_composition(self.residuals_per_atom, reduced),
        }

    def lines(self) -> Iterator[list[object]]:
        """Cells of `residuals.csv`. Energies are written with all their digits, the rest rounded."""
        derived = zip(
            (self.predicted - self.energies).tolist(),
            self.residuals_per_atom.tolist(),
            self.cohesive.tolist(),
            strict=True,
        )
        for row, (residual, per_atom, cohesive) in zip(self.rows, derived, strict=True):
            numbers = [row.energy, row.predicted, f"{residual:.6f}", f"{per_atom:.4f}", f"{cohesive:.6f}"]
            spread = "" if row.spread is None else f"{row.spread * _MEV:.4f}"
            formula, n_atoms = self._formula(row.composition), sum(row.composition)
            yield [row.name, row.file, n_atoms, formula, *numbers, spread, row.n_extrapolating]

    def _formula(self, composition: tuple[int, ...], divisor: int = 1) -> str:
        """Ti8O16, or TiO2 divided by 8."""
        counts = [(element, n // divisor) for element, n in zip(self.elements, composition, strict=True) if n]
        return "".join(element if n == 1 else f"{element}{n}" for element, n in counts)
