"""A trained potential: one portable file that needs neither its project nor Keras.

The file is a plain `.npz` with arrays and one JSON header. It holds all committee members, the parameter set, the
whitening, the reference energies and the range of the training features. Energies are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.cores import thread_count
from tio2nn.descriptors.batches import batch_wise
from tio2nn.descriptors.symmetry_functions import Description, SymmetryCalculator
from tio2nn.descriptors.verlet import VerletList
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.file import read_potential, write_potential
from tio2nn.potential.layers import Layer
from tio2nn.potential.networks import Evaluated, Networks, rows_of
from tio2nn.potential.prediction import (
    EXTRAPOLATION_DISTANCE,
    NO_TRAINING_KNOWN,
    Extrapolation,
    Limits,
    Prediction,
)
from tio2nn.potential.repulsion import Repelled, Repulsion
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

# relative distance of a composition from a span; compositions are small integers
_SPAN_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Potential:
    """A committee of networks with everything it needs.

    Attributes:
        parameters: the symmetry functions and elements.
        reference_energies: of each element, eV.
        subnet_of: index of the subnet of each element.
        whitenings: one per subnet.
        members: for each member, for each subnet, its layers.
        training_atoms: the stored training atoms of each element.
        composition_span: (rank, n_elements) orthonormal basis of the training compositions. Reference energies fitted
            to them are undetermined outside it.
        about: recorded by `train`: versions, seed, structures, errors.
        repulsion: of atoms closer than any in the training set; None for none.
        limits: beyond which an output of the networks is no prediction.
    """

    parameters: ParameterSet
    reference_energies: dict[str, float]
    subnet_of: dict[str, int]
    whitenings: tuple[Whitening, ...]
    members: tuple[tuple[tuple[Layer, ...], ...], ...]
    training_atoms: tuple[TrainingAtoms, ...]
    composition_span: FloatArray
    about: Mapping[str, Any]
    repulsion: Repulsion | None = None
    limits: Limits = NO_TRAINING_KNOWN

    def __repr__(self) -> str:
        networks = f"{counted(len(self.members), 'network')} of {self.nodes} nodes"
        return f"<Potential of {', '.join(self.elements)}: {networks}, cutoff {self.parameters.cutoff:g} Å>"

    @cached_property
    def _calculator(self) -> SymmetryCalculator:
        return SymmetryCalculator(self.parameters)

    @cached_property
    def networks(self) -> Networks:
        """The networks alone, without reference energies and repulsion."""
        return Networks(self.elements, self.subnet_of, self.whitenings, self.members, self.training_atoms)

    @property
    def nodes(self) -> str:
        """Nodes of the hidden layers, in words."""
        return "-".join(str(len(layer.bias)) for layer in self.members[0][0][:-1]) or "no hidden"

    @property
    def elements(self) -> tuple[str, ...]:
        return self.parameters.elements

    def predict(
        self,
        structures: Iterable[Structure],
        *,
        forces: bool = False,
        forces_spread: bool = True,
        threads: int | None = None,
    ) -> Iterator[Prediction]:
        """Predict structures, in order.

        Args:
            structures: any iterable, such as a list or `read_structures`.
            forces: predict forces and stress, too.
            forces_spread: with forces, also predict how much those of a committee differ. The rest has the same bits
                without it, and then a committee takes little longer than one network.
            threads: that work on a batch or a large structure at once; by default as many as TIO2NN_THREADS says, else
                one for each core. Predictions have the same bits whatever their number.

        Raises:
            InputError: an element unknown to the potential, or two atoms at the same position.
            UsageError: threads below 1, or TIO2NN_THREADS that is no positive number.
        """
        n = thread_count(threads)

        def compute(batch: Sequence[Structure]) -> list[Prediction]:
            if not forces:
                return self._predict_energies(batch, n)
            described = self._calculator.describe(batch, n, reach=self._reach)
            return self._with_all_forces(described, n, forces_spread)

        yield from batch_wise(structures, compute)

    def predict_described(
        self, structures: Sequence[Structure], *, threads: int | None = None
    ) -> list[tuple[Prediction, FloatArray]]:
        """Predict energies and forces, with their spread, of some structures.

        Args:
            structures: all of them at once in memory.
            threads: as for `predict`.

        Returns:
            Each prediction with the features (n_atoms, n_features) of its atoms.

        Raises:
            InputError, UsageError: as `predict`.
        """
        n = thread_count(threads)
        described = self._calculator.describe(structures, n, reach=self._reach)
        own = rows_of(structures)
        found = self._with_all_forces(described, n, with_spread=True)
        return [(prediction, described.features[rows]) for prediction, rows in zip(found, own, strict=True)]

    def predict_step(
        self,
        structure: Structure,
        verlet: VerletList,
        *,
        forces_spread: bool = True,
        threads: int | None = None,
    ) -> Prediction:
        """Predict energy and forces of the next step of a simulation.

        Args:
            structure: the step.
            verlet: neighbors of earlier steps, which are used again if they can.
            forces_spread, threads: as for `predict`.

        Raises:
            InputError, UsageError: as `predict`.
        """
        n = thread_count(threads)
        described = self._calculator.describe([structure], n, verlet, self._reach)
        return self._with_all_forces(described, n, forces_spread)[0]

    def energy(self, structure: Structure) -> float:
        """Total energy, eV.

        Raises:
            InputError: as `predict`.
        """
        return next(self.predict([structure])).energy

    def predict_features(self, structure: Structure, features: FloatArray) -> Prediction:
        """Predict the energy of a structure from its features.

        Args:
            structure: n_atoms atoms.
            features: (n_atoms, n_features), not whitened.
        """
        repelled = None if self.repulsion is None else self.repulsion.of_structure(structure)
        own = self.networks.evaluate([structure], features, 1, with_gradients=False)
        return self._prediction(structure, features, own, repelled)

    def _predict_energies(self, structures: Sequence[Structure], threads: int) -> list[Prediction]:
        features, pairs = self._calculator.with_close_pairs(structures, self._reach, threads)
        evaluated = self.networks.evaluate(structures, features, threads, with_gradients=False)
        repelled = None if self.repulsion is None else self.repulsion(structures, pairs)
        return [
            self._prediction(
                structure, features[own], evaluated.of(own), None if repelled is None else repelled.of(own)
            )
            for structure, own in zip(structures, rows_of(structures), strict=True)
        ]

    def _with_all_forces(self, described: Description, threads: int, with_spread: bool) -> list[Prediction]:
        features, structures = described.features, described.structures
        evaluated = self.networks.evaluate(
            structures, features, threads, with_gradients=True, with_contrasts=with_spread
        )
        with np.errstate(over="ignore", invalid="ignore"):  # see `Prediction.unusable`
            gradients, strains = described.gradients(evaluated.weights)
            repelled = None
            if self.repulsion is not None:
                repelled = self.repulsion(structures, described.close)
            return [
                self._with_forces(
                    self._prediction(
                        structure,
                        features[own],
                        evaluated.of(own),
                        None if repelled is None else repelled.of(own),
                    ),
                    gradients[:, own],
                    strains[0, k],
                    None if repelled is None else repelled.of(own),
                )
                for k, (structure, own) in enumerate(zip(structures, rows_of(structures), strict=True))
            ]

    def _with_forces(
        self, prediction: Prediction, gradients: FloatArray, strain: FloatArray, repelled: Repelled | None
    ) -> Prediction:
        """Add forces, from gradients (n_sets, n_atoms, 3) of the sets of `Evaluated` and the mean strain derivative."""
        of_networks, contrasts = -gradients[0], gradients[1:]
        # one axis after the other: NumPy would add both in an order that depends on the number of atoms
        variances = (contrasts**2).sum(axis=0).sum(axis=1) / len(contrasts) if len(contrasts) else None
        volume = prediction.structure.cell_volume
        forces = of_networks if repelled is None else of_networks - repelled.gradient
        strain = strain if repelled is None else strain + repelled.strain.sum(axis=0)
        return replace(
            prediction,
            forces=forces,
            forces_spread=None if variances is None else np.sqrt(variances),
            stress=None if volume is None else strain / volume,
            largest_network_force=float(np.sqrt((of_networks**2).sum(axis=1).max())),
        )

    @property
    def _reach(self) -> float:
        return 0.0 if self.repulsion is None else self.repulsion.reach

    @np.errstate(over="ignore", invalid="ignore")
    def _prediction(
        self, structure: Structure, features: FloatArray, evaluated: Evaluated, repelled: Repelled | None
    ) -> Prediction:
        """A prediction from what the networks say of the structure."""
        atomic, distances = evaluated.atomic, evaluated.distances
        reference = np.array([self.reference_energies[element] for element in structure.elements])
        totals = atomic.sum(axis=1)
        spread = float(totals.std(ddof=1)) / structure.n_atoms if len(self.members) > 1 else None
        mean = atomic.mean(axis=0) + reference
        if repelled is not None:
            mean += repelled.energies
        counts = np.array([structure.composition.get(element, 0) for element in self.elements], dtype=float)
        extrapolations = self._extrapolations(structure, features, distances)
        outside = counts - self.composition_span.T @ (self.composition_span @ counts)
        return Prediction(
            structure,
            float(mean.sum()),
            mean,
            spread,
            distances,
            extrapolations,
            bool(np.linalg.norm(outside) <= _SPAN_TOLERANCE * np.linalg.norm(counts)),
            repulsion=0.0 if repelled is None else float(repelled.energies.sum()),
            network_energy=float(totals.mean()) / structure.n_atoms,
            limits=self.limits,
        )

    def _extrapolations(
        self, structure: Structure, features: FloatArray, distances: FloatArray
    ) -> tuple[Extrapolation, ...]:
        """The atoms too far from training."""
        found = []
        for row in np.flatnonzero(distances > EXTRAPOLATION_DISTANCE).tolist():
            element = structure.elements[row]
            excess = self.training_atoms[self.elements.index(element)].excess(features[row : row + 1])[0]
            worst = int(excess.argmax())
            name = self.parameters.feature_names[worst]
            found.append(Extrapolation(row + 1, element, float(distances[row]), name, float(excess[worst])))
        return tuple(found)

    def save(self, path: AnyPath) -> None:
        """Write the file, atomically."""
        write_potential({field.name: getattr(self, field.name) for field in fields(self)}, path)

    @classmethod
    def load(cls, path: AnyPath) -> Potential:
        """Read a file of `save`.

        Raises:
            InputError: a missing or damaged file, or one of a later version.
        """
        return cls(**read_potential(path))


def composition_span(compositions: NDArray[np.integer]) -> FloatArray:
    """Orthonormal basis (rank, n_elements) of compositions (n_structures, n_elements)."""
    _, values, basis = np.linalg.svd(np.unique(compositions, axis=0).astype(float), full_matrices=False)
    return np.asarray(basis[values > _SPAN_TOLERANCE * values[0]])
