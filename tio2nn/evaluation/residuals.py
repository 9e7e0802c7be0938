"""The table of residuals: true and predicted energies, forces and stresses of many structures, and their errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError
from tio2nn.evaluation.kinds import errors_by_config_type
from tio2nn.evaluation.metrics import (
    correlation,
    energy_metrics,
    errors_by_composition,
    errors_by_distance,
    errors_by_energy,
    errors_by_size,
    force_errors_by_distance,
    force_errors_by_element,
    force_metrics,
    residuals_per_atom,
    stress_metrics,
)
from tio2nn.evaluation.shear_order import OtherOrder, other_orders
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.elements import formula
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.stress import to_voigt

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
    "largest_distance",
    "force_rmse_eV_per_A",
    "force_max_eV_per_A",
    "force_spread_eV_per_A",
    "nearest_in_training",
    "distance_to_training",
    "stress_rmse_meV_per_A3",
    "stress_max_meV_per_A3",
    "config_type",
)
"""Columns of `residuals.csv`."""

_MEV = 1000.0  # meV in an eV


class EvaluatedForces(NamedTuple):
    """True and predicted forces of a structure.

    Attributes:
        true, predicted: (n_atoms, 3) eV/Å.
        spread: (n_atoms,) committee spread, eV/Å, or None.
        distances: (n_atoms,) distance of each atom from the training set, see `tio2nn.potential.familiarity`.
        elements: (n_atoms,) symbols; empty if unknown.
    """

    true: FloatArray
    predicted: FloatArray
    spread: FloatArray | None
    distances: FloatArray
    elements: tuple[str, ...] = ()


class EvaluatedStress(NamedTuple):
    """True and predicted stress of a structure, or of several.

    Attributes:
        true, predicted: (..., 6) eV/Å³, in Voigt's order.
    """

    true: FloatArray
    predicted: FloatArray


class Nearest(NamedTuple):
    """The nearest training structure of a structure.

    Attributes:
        name: name of the training structure.
        distance: see `tio2nn.evaluation.leakage`.
        same_group: whether the training set contains structures of the same group.
    """

    name: str
    distance: float
    same_group: bool


class Evaluated(NamedTuple):
    """True and predicted labels of one structure, without its positions.

    Attributes:
        name, file: name and file of the structure.
        composition: number of atoms of each element, in the order of the potential.
        energy, predicted: total energies, eV.
        spread: committee spread, eV/atom, or None.
        n_extrapolating: number of atoms far from the training set.
        largest_distance: largest distance of an atom from the training set.
        composition_is_known: as in `Prediction`.
        forces: None if unknown.
        nearest: None unless the structure is in the test set of a project.
        stress: None if unknown.
        config_type: the kind of structure, or "".
    """

    name: str
    file: str
    composition: tuple[int, ...]
    energy: float
    predicted: float
    spread: float | None
    n_extrapolating: int
    largest_distance: float
    composition_is_known: bool
    forces: EvaluatedForces | None = None
    nearest: Nearest | None = None
    stress: EvaluatedStress | None = None
    config_type: str = ""


def evaluated(
    prediction: Prediction, elements: Sequence[str], nearest: Mapping[str, Nearest]
) -> Evaluated | InputError:
    """The row of a structure, or why it has none.

    Args:
        prediction: with forces and stress, if these are to be evaluated.
        elements: in the order of the compositions.
        nearest: nearest training structures by name, where known.
    """
    structure = prediction.structure
    if structure.energy is None:
        return structure.error(structure.extras.no_energy)
    if (unusable := prediction.unusable()) is not None:
        return unusable
    return Evaluated(
        name=structure.name,
        file=structure.file,
        composition=tuple(structure.composition.get(element, 0) for element in elements),
        energy=structure.energy,
        predicted=prediction.energy,
        spread=prediction.spread,
        n_extrapolating=len(prediction.extrapolations),
        largest_distance=float(prediction.distances.max()),
        composition_is_known=prediction.composition_is_known,
        forces=None
        if structure.forces is None or prediction.forces is None
        else EvaluatedForces(
            structure.forces,
            prediction.forces,
            prediction.forces_spread,
            prediction.distances,
            structure.elements,
        ),
        nearest=nearest.get(structure.name),
        stress=None
        if structure.stress is None or prediction.stress is None
        else EvaluatedStress(to_voigt(structure.stress), to_voigt(prediction.stress)),
        config_type=structure.config_type,
    )


@dataclass(frozen=True)
class ResidualTable:
    """All evaluated structures, in order of name.

    Attributes:
        rows: one per structure; at least one.
        elements: elements of the compositions.
        reference_energies: reference energy of each element, eV.
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
    def cohesive(self) -> FloatArray:
        """(n_structures,) true cohesive energies, eV/atom."""
        values = {element: self.reference_energies[element] for element in self.elements}
        compositions = np.array([row.composition for row in self.rows], dtype=np.int64)
        return ReferenceEnergies.given(values).cohesive(compositions, self.energies)

    @cached_property
    def residuals_per_atom(self) -> FloatArray:
        """(n_structures,) residuals, meV/atom."""
        return residuals_per_atom(self.predicted, self.energies, self.n_atoms)

    @cached_property
    def forces(self) -> EvaluatedForces | None:
        """Forces of all structures that have them, concatenated; None if there are none."""
        found = [row.forces for row in self.rows if row.forces is not None]
        if not found:
            return None
        spreads = [forces.spread for forces in found if forces.spread is not None]
        return EvaluatedForces(
            np.concatenate([forces.true for forces in found]),
            np.concatenate([forces.predicted for forces in found]),
            np.concatenate(spreads) if len(spreads) == len(found) else None,
            np.concatenate([forces.distances for forces in found]),
            tuple([element for forces in found for element in forces.elements]),
        )

    @cached_property
    def stresses(self) -> EvaluatedStress | None:
        """(n_structures that have one, 6); None if none has."""
        found = [row.stress for row in self.rows if row.stress is not None]
        if not found:
            return None
        return EvaluatedStress(np.stack([s.true for s in found]), np.stack([s.predicted for s in found]))

    @property
    def other_orders(self) -> list[OtherOrder]:
        """Kinds of structures whose shear stresses fit much better in another order."""
        return other_orders(*self._kinds_and_stresses)

    @property
    def _kinds_and_stresses(self) -> tuple[list[str], list[EvaluatedStress | None]]:
        return [row.config_type for row in self.rows], [row.stress for row in self.rows]

    @cached_property
    def by_config_type(self) -> list[dict[str, Any]]:
        """Errors of each kind of structure; none if there are no kinds."""
        kinds, stresses = self._kinds_and_stresses
        forces = [row.forces for row in self.rows]
        return errors_by_config_type(kinds, self.residuals_per_atom, forces, stresses)

    @cached_property
    def distances(self) -> FloatArray | None:
        """(n_structures,) distances from the training set; None if unknown."""
        found = [row.nearest.distance for row in self.rows if row.nearest is not None]
        return np.array(found) if len(found) == len(self.rows) else None

    @cached_property
    def spreads(self) -> FloatArray | None:
        """(n_structures,) committee spreads of the energies, meV/atom; None for a single member."""
        found = [row.spread for row in self.rows if row.spread is not None]
        return _MEV * np.array(found) if len(found) == len(self.rows) else None

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        reduced = [formula(self._named(row), reduced=True) for row in self.rows]
        metrics: dict[str, Any] = {
            "n_structures": len(self.rows),
            "n_atoms": int(self.n_atoms.sum()),
            "energy": energy_metrics(self.predicted, self.energies, self.n_atoms),
        }
        if (forces := self.forces) is not None:
            by_distance = force_errors_by_distance(forces.predicted, forces.true, forces.distances)
            metrics["forces"] = force_metrics(forces.predicted, forces.true)
            metrics["forces"]["by_distance_of_atom"] = by_distance
            if forces.elements:
                errors = forces.predicted - forces.true
                metrics["forces"]["by_element"] = force_errors_by_element(
                    errors, forces.elements, self.elements
                )
        if (stresses := self.stresses) is not None:
            metrics["stress"] = stress_metrics(stresses.predicted, stresses.true)
        metrics |= {
            "by_size": errors_by_size(self.residuals_per_atom, self.n_atoms),
            "by_energy": errors_by_energy(self.residuals_per_atom, self.cohesive),
            "by_composition": errors_by_composition(self.residuals_per_atom, reduced),
        }
        if self.by_config_type:
            metrics["by_config_type"] = self.by_config_type
        if (spreads := self.spreads) is not None:
            metrics["spread"] = {"energy": correlation(spreads, np.abs(self.residuals_per_atom))}
            if forces is not None and forces.spread is not None:
                error = np.linalg.norm(forces.predicted - forces.true, axis=1)
                metrics["spread"]["forces"] = correlation(forces.spread, error)
        if (distances := self.distances) is not None:
            with_family = sum(row.nearest is not None and row.nearest.same_group for row in self.rows)
            metrics["leakage"] = {
                "fraction_with_group_in_training": with_family / len(self.rows),
                "by_distance": errors_by_distance(self.residuals_per_atom, distances),
            }
        return metrics

    def lines(self) -> Iterator[list[object]]:
        """Cells of `residuals.csv`. Energies are written with all digits, the rest is rounded."""
        derived = zip(
            (self.predicted - self.energies).tolist(),
            self.residuals_per_atom.tolist(),
            self.cohesive.tolist(),
            strict=True,
        )
        for row, (residual, per_atom, cohesive) in zip(self.rows, derived, strict=True):
            numbers = [row.energy, row.predicted, f"{residual:.6f}", f"{per_atom:.4f}", f"{cohesive:.6f}"]
            spread = "" if row.spread is None else f"{row.spread * _MEV:.4f}"
            n_atoms = sum(row.composition)
            nearest = ["", ""] if row.nearest is None else [row.nearest.name, f"{row.nearest.distance:.4f}"]
            far = [row.n_extrapolating, f"{row.largest_distance:.4f}"]
            cells = [row.name, row.file, n_atoms, formula(self._named(row)), *numbers, spread, *far]
            yield [*cells, *_force_cells(row.forces), *nearest, *_stress_cells(row.stress), row.config_type]

    def _named(self, row: Evaluated) -> dict[str, int]:
        return dict(zip(self.elements, row.composition, strict=True))


def _force_cells(forces: EvaluatedForces | None) -> list[str]:
    if forces is None:
        return ["", "", ""]
    errors = forces.predicted - forces.true
    spread = "" if forces.spread is None else f"{float(np.sqrt(np.mean(forces.spread**2))):.5f}"
    return [f"{float(np.sqrt(np.mean(errors**2))):.5f}", f"{float(np.abs(errors).max()):.5f}", spread]


def _stress_cells(stress: EvaluatedStress | None) -> list[str]:
    if stress is None:
        return ["", ""]
    errors = _MEV * (stress.predicted - stress.true)
    return [f"{float(np.sqrt(np.mean(errors**2))):.5f}", f"{float(np.abs(errors).max()):.5f}"]
