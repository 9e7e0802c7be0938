"""An ASE calculator for potentials, for geometry optimization, molecular dynamics and other tools of ASE.

    from tio2nn.interfaces.ase import BehlerParrinello

    atoms.calc = BehlerParrinello("my-project/model/potential.npz")
    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

A. H. Larsen et al., J. Phys.: Condens. Matter 29 (2017) 273002.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    CalculatorSetupError,
    PropertyNotImplementedError,
    all_changes,
)
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from tio2nn.cores import thread_count
from tio2nn.descriptors.verlet import VerletList
from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.interfaces.watch import ExtrapolationWarning, Watch, compares_spread
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Structure

_NEED_FORCES = frozenset({"forces", "forces_spread", "stress"})
_NEED_COMMITTEE = frozenset({"energy_spread", "forces_spread"})


class BehlerParrinello(Calculator):  # type: ignore[misc]  # ASE has no types
    """Energy, forces and stress of a potential that `tio2nn train` made, in ASE's units and signs.

    Properties, for `atoms.calc.get_property(NAME, atoms)` or in `atoms.calc.results`:

    - energy, free_energy: eV, reference energies included; both are the same.
    - energies: (n_atoms,) eV; their sum is the energy.
    - forces: (n_atoms, 3) eV/Å.
    - stress: (6,) eV/Å³, xx, yy, zz, yz, xz, xy, positive under tension; for a slab or a wire, as in ASE,
      ∂E/∂strain over the cell volume. Only if an axis is periodic and the three vectors span a volume.
    - energy_spread: standard deviation of the committee's energies, eV/atom; committees only.
    - forces_spread: (n_atoms,) eV/Å, as `Prediction.forces_spread`; committees only. It makes forces of four networks
      take nearly twice as long, so it is computed with them only once it has been asked for, or by a watch on it.
    - distances: (n_atoms,) of each atom from training, as `Prediction.distances`.

    Forces and stress are computed together, and only on request; charges and magnetic moments of the atoms have no
    effect.

    Attributes:
        potential: the potential.
        prediction: the prediction behind the results, with `extrapolations` and `composition_is_known`; None before
            the first.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "energy_spread",
        "forces_spread",
        "distances",
    ]
    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(
        self,
        potential: Potential | AnyPath,
        *,
        warn: bool = True,
        watch: Watch | None = None,
        threads: int | None = None,
    ) -> None:
        """Wrap a potential.

        Args:
            potential: a potential or its file, `potential.npz`.
            warn: issue an `ExtrapolationWarning` for the first structure with atoms far from the training set, and for
                the first composition outside the span of the training compositions. Later structures do not warn: once
                a trajectory leaves the training range, every step would.
            watch: where the run stops, and where it records a structure for labeling.
            threads: as for `Potential.predict`.

        Raises:
            InputError: a missing or damaged file, one of a later version, or a watch on what the potential lacks.
            UsageError: threads below 1, or TIO2NN_THREADS that is no positive number.
        """
        super().__init__()
        self.potential = potential if isinstance(potential, Potential) else Potential.load(potential)
        self.prediction: Prediction | None = None
        self._threads = thread_count(threads)
        self._verlet = VerletList()
        self._unsaid = {"composition", "atoms"} if warn else set()
        self._watch = watch
        self._with_spread = compares_spread(watch)
        if watch is not None:
            watch.check_potential(self.potential)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results`; ASE calls this if they are missing or the atoms have changed.

        Raises:
            CalculatorSetupError: no atoms, an element unknown to the potential, two atoms at the same position, or a
                cell that spans no volume.
            CalculationFailed: values too large to be a prediction.
            PropertyNotImplementedError: stress without a periodic axis or a cell volume, or the spread of a single
                network.
            ExtrapolationError: the structure is beyond the limit where the run stops.
        """
        super().calculate(atoms, properties, system_changes)
        # discard results of earlier atoms, as the rest may fail
        self.results, self.prediction = {}, None
        try:
            structure = Structure.from_ase(self.atoms)
        except InputError as error:
            raise self._unfit(error.reason) from None
        asked = frozenset(properties)
        if "stress" in asked and structure.cell_volume is None:
            raise PropertyNotImplementedError(
                "stress: expected a periodic axis and three cell vectors that span a volume, got pbc "
                f"{list(structure.periodic)} and cell vectors of {_lengths(structure)} Å"
            )
        if asked & _NEED_COMMITTEE and len(self.potential.members) == 1:
            raise PropertyNotImplementedError("spread: expected a committee, got a single network")
        # whoever asks once may ask in each step: later forces come with it, instead of being computed twice
        self._with_spread |= "forces_spread" in asked
        try:
            if asked & _NEED_FORCES or compares_spread(self._watch):
                prediction = self.potential.predict_step(
                    structure, self._verlet, forces_spread=self._with_spread, threads=self._threads
                )
            else:
                (prediction,) = self.potential.predict([structure], threads=self._threads)
        except InputError as error:
            raise self._unfit(error.reason) from None
        if (unusable := prediction.unusable()) is not None:
            raise CalculationFailed(f"{self._formula}: {unusable.reason}")
        self.prediction = prediction
        self._warn(prediction)
        if self._watch is not None:
            # before there are results: whoever asks again is stopped again
            self._watch.check(prediction, self._formula)
        self.results = _results(prediction)

    def export_properties(self) -> Properties:
        """The results with names known to ASE, for `Atoms.get_properties`."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _unfit(self, reason: str) -> CalculatorSetupError:
        return CalculatorSetupError(f"{self._formula}: {reason}" if len(self.atoms) else reason)

    def _warn(self, prediction: Prediction) -> None:
        for kind, doubt in prediction.doubts().items():
            if kind in self._unsaid:
                self._unsaid.remove(kind)
                warnings.warn(f"{self._formula}: {doubt} (shown once)", ExtrapolationWarning, stacklevel=3)

    @property
    def _formula(self) -> str:
        return str(self.atoms.get_chemical_formula(mode="metal"))


def _lengths(structure: Structure) -> str:
    return ", ".join(f"{length:.4g}" for length in np.linalg.norm(structure.cell, axis=1))


def _results(prediction: Prediction) -> dict[str, Any]:
    found = {
        "energy": prediction.energy,
        "free_energy": prediction.energy,
        "energies": prediction.atomic_energies,
        "forces": prediction.forces,
        "stress": None if prediction.stress is None else full_3x3_to_voigt_6_stress(prediction.stress),
        "energy_spread": prediction.spread,
        "forces_spread": prediction.forces_spread,
        "distances": prediction.distances,
    }
    return {name: value for name, value in found.items() if value is not None}
