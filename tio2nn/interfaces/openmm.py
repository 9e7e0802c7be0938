"""A potential as a force of OpenMM, by its `PythonForce`.

    from tio2nn.interfaces.openmm import openmm_force

    system.addForce(openmm_force("my-project/model/potential.npz", ["Ti", "O", "O"], periodic=True))

P. Eastman et al., J. Phys. Chem. B 128 (2024) 109.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.interfaces.watch import Watch, compares_spread
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Structure

# kJ/mol per eV, and Å per nm
_ENERGY_UNIT = 1.602176634e-19 * 6.02214076e23 / 1000.0
_LENGTH_UNIT = 10.0


def openmm_force(
    potential: Potential | AnyPath, elements: Sequence[str], *, periodic: bool, watch: Watch | None = None
) -> Any:
    """Make the force.

    Args:
        potential: a potential or its file, `potential.npz`.
        elements: (n_particles,) the chemical symbol of each particle of the system.
        periodic: along all three of the system's box vectors, or not at all. Set those vectors: OpenMM's own are
            those of a cube of 2 nm.
        watch: where the run stops, and where it records a structure for labeling.

    Returns:
        An `openmm.PythonForce`; its energy includes reference energies. Errors in a step, the `ExtrapolationError` of a
        watch among them, come out of OpenMM as an `OpenMMException` with the same line.

    Raises:
        InputError: OpenMM is not installed or too old, an element unknown to the potential, or a bad potential.
    """
    try:
        from openmm import PythonForce
    except ImportError:
        raise InputError(
            "cannot find OpenMM with PythonForce: it is missing or too old; pip install 'tio2nn[openmm]'"
        ) from None
    loaded = potential if isinstance(potential, Potential) else Potential.load(potential)
    for number, element in enumerate(elements, start=1):
        if element not in loaded.elements:
            raise InputError(
                f"elements: expected {', '.join(loaded.elements)}, which the potential knows, got {element} for "
                f"particle {number}"
            )
    if watch is not None:
        watch.check_potential(loaded)
    force = PythonForce(_Computation(loaded, tuple(elements), periodic, watch))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


class _Computation:
    """What OpenMM calls in each step."""

    def __init__(
        self, potential: Potential, elements: tuple[str, ...], periodic: bool, watch: Watch | None
    ) -> None:
        self._potential, self._elements, self._periodic, self._watch = potential, elements, periodic, watch

    def __call__(self, state: Any) -> tuple[float, NDArray[np.float64]]:
        """Energy, kJ/mol, and forces, kJ/mol/nm, for a `State`."""
        from openmm import unit

        where = f"time {state.getTime().value_in_unit(unit.picosecond):g} ps"
        try:
            return self._energy_and_forces(state, where)
        except KeyboardInterrupt:
            # OpenMM keeps nothing of it but the text
            raise KeyboardInterrupt(f"{where}: interrupted") from None

    def _energy_and_forces(self, state: Any, where: str) -> tuple[float, NDArray[np.float64]]:
        from openmm import unit

        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer) * _LENGTH_UNIT
        if len(positions) != len(self._elements):
            raise InputError(
                f"elements: expected {len(positions)} for the particles of the system, got {len(self._elements)}"
            )
        cell = np.zeros((3, 3))
        if self._periodic:
            vectors = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
            cell = np.array(vectors, np.float64) * _LENGTH_UNIT
        prediction = self._predict(positions, cell)
        if self._watch is not None:
            self._watch.check(prediction, where)
        assert prediction.forces is not None
        return _ENERGY_UNIT * prediction.energy, _ENERGY_UNIT * _LENGTH_UNIT * prediction.forces

    def _predict(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> Prediction:
        axes = (self._periodic,) * 3
        structure = Structure("particles", self._elements, np.array(positions, np.float64), cell, axes)
        (prediction,) = self._potential.predict(
            [structure], forces=True, forces_spread=compares_spread(self._watch)
        )
        if (unusable := prediction.unusable()) is not None:
            raise unusable
        return prediction
