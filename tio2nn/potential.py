"""A trained potential: one portable file that needs neither its project nor Keras.

The file is a plain `.npz`: arrays, and one JSON text that says how they fit together. All members of a
committee, the parameter set, whitening, reference energies and the range of the training features are in it.
Energies are computed in float64.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import Description, SymmetryCalculator, batch_wise
from tio2nn.errors import InputError, ParameterError, one_line
from tio2nn.familiarity import TrainingAtoms
from tio2nn.io.arrays import opened_arrays, write_arrays
from tio2nn.layers import Layer, energies, energies_and_gradients
from tio2nn.nn.whitening import Whitening
from tio2nn.parameters import ParameterSet
from tio2nn.potential_checks import check_consistency, check_header
from tio2nn.special_files import is_special
from tio2nn.structure import Structure

FloatArray = NDArray[np.float64]

FORMAT = 2
"""Version of the file format; raised when an older program could not read a new file."""

_PARTS_OF_ATOMS = ("low", "high", "references", "unit")  # fields of TrainingAtoms, as the file names them

# Atoms at a larger distance from training are warned of; see tio2nn.familiarity for the unit. Trained on structures of
# TiO2 below 1 eV/atom: 1 to 2 % of 600 others at random have such an atom, 58 % of 1,118 others at higher energies; the
# forces of such atoms are wrong by 1 eV/Å and more, instead of 0.1.
EXTRAPOLATION_DISTANCE = 2.0

# relative distance of a composition from the span of others; compositions are small integers
_SPAN_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Extrapolation:
    """An atom far from all that training saw.

    Attributes:
        atom: number of the atom, from 1.
        element: its element.
        distance: from the nearest atom of the training, see `tio2nn.familiarity`; above `EXTRAPOLATION_DISTANCE`.
        function: name of the symmetry function that is farthest outside the range of training, or nearest to its end.
        excess: how far outside that function is, in units of the width of its range, of a function that did not vary
            in training the difference itself; not above zero if all functions are within their ranges, and only their
            combination is new.
    """

    atom: int
    element: str
    distance: float
    function: str
    excess: float


@dataclass(frozen=True)
class Prediction:
    """Energy of one structure.

    Attributes:
        structure: what was predicted.
        energy: total energy, eV; mean of the committee.
        atomic_energies: (n_atoms,) eV, reference energies included; mean of the committee.
        spread: standard deviation of the committee's energies, eV/atom; None for a single network.
        distances: (n_atoms,) of each atom from the nearest one that training saw; 1 is ordinary, see
            `tio2nn.familiarity`.
        extrapolations: the atoms farther than `EXTRAPOLATION_DISTANCE`.
        composition_is_known: whether the composition is a combination of those in training; if not, the
            total energy contains a reference energy that nothing determined.
        forces: (n_atoms, 3) eV/Å, mean of the committee; None if not asked for.
        forces_spread: (n_atoms,) eV/Å, root of the sum over the components of the variance among the committee;
            None without forces or for a single network.
        stress: (3, 3) eV/Å³, ∂E/∂strain over the volume, positive under tension; None without forces, or unless all
            three axes are periodic.
    """

    structure: Structure
    energy: float
    atomic_energies: FloatArray
    spread: float | None
    distances: FloatArray
    extrapolations: tuple[Extrapolation, ...]
    composition_is_known: bool
    forces: FloatArray | None = None
    forces_spread: FloatArray | None = None
    stress: FloatArray | None = None

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / self.structure.n_atoms

    def unusable(self) -> InputError | None:
        """Why it is none: the numbers of a damaged potential, or of atoms far from all, may be too large to be any."""
        for name, values in (("energy", self.energy), ("forces", self.forces), ("stress", self.stress)):
            if values is not None and not np.isfinite(values).all():
                return self.structure.error(f"expected finite numbers as predicted {name}, got others")
        return None

    def doubts(self) -> dict[Literal["composition", "atoms"], str]:
        """What speaks against trusting the prediction, each a line with advice."""
        found: dict[Literal["composition", "atoms"], str] = {}
        if not self.composition_is_known:
            found["composition"] = (
                "no combination of the compositions in training makes this one, so the total energy is off by an "
                "unknown reference energy; train on structures of such a composition"
            )
        if self.extrapolations:
            worst = max(self.extrapolations, key=lambda extrapolation: extrapolation.distance)
            place = (
                f"where {worst.function} is outside its range by {worst.excess:.2f} of it"
                if worst.excess > 0.0
                else f"in a new combination of functions, of which {worst.function} is nearest to its limit"
            )
            found["atoms"] = (
                f"{len(self.extrapolations)} of {self.structure.n_atoms} atoms are far from all in training, do not "
                f"trust energy or forces; farthest is atom {worst.atom} ({worst.element}), at {worst.distance:.1f} "
                f"times an ordinary distance, {place}; train on structures like this one"
            )
        return found


@dataclass(frozen=True)
class Potential:
    """A committee of networks with all they need.

    Attributes:
        parameters: the symmetry functions and elements.
        reference_energies: of each element, eV.
        subnet_of: for each element the position of its subnet.
        whitenings: for each subnet.
        members: for each member, for each subnet, its layers.
        training_atoms: what is remembered of those of each element.
        composition_span: (rank, n_elements) orthonormal basis of the compositions in training. Reference
            energies fitted to them say nothing about compositions outside it.
        about: what `train` recorded: versions, seed, structures, errors.
    """

    parameters: ParameterSet
    reference_energies: dict[str, float]
    subnet_of: dict[str, int]
    whitenings: tuple[Whitening, ...]
    members: tuple[tuple[tuple[Layer, ...], ...], ...]
    training_atoms: tuple[TrainingAtoms, ...]
    composition_span: FloatArray
    about: Mapping[str, Any]

    @cached_property
    def _calculator(self) -> SymmetryCalculator:
        return SymmetryCalculator(self.parameters)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.parameters.elements

    def predict(self, structures: Sequence[Structure], *, forces: bool = False) -> Iterator[Prediction]:
        """Predict structures, in order.

        Args:
            structures: any number.
            forces: also forces and stress.

        Raises:
            InputError: an element that the potential does not know, or two atoms at the same place.
        """
        if not forces:
            for structure, features in zip(structures, self._calculator.map(structures), strict=True):
                yield self.predict_features(structure, features)
            return
        calculator = self._calculator
        yield from batch_wise(structures, lambda batch: self._predict_forces(calculator.describe(batch)))

    def energy(self, structure: Structure) -> float:
        """Total energy, eV.

        Raises:
            InputError: as `predict`.
        """
        return next(self.predict([structure])).energy

    @np.errstate(over="ignore", invalid="ignore")  # see `Prediction.unusable`
    def predict_features(self, structure: Structure, features: FloatArray) -> Prediction:
        """Predict the energy of a structure whose features are known.

        Args:
            structure: n_atoms atoms.
            features: (n_atoms, n_features), not whitened.
        """
        atomic = np.empty((len(self.members), structure.n_atoms))
        for m, rows, whitened, layers in self._subnets(structure.elements, features):
            atomic[m, rows] = energies(layers, whitened)
        return self._prediction(structure, features, atomic)

    @np.errstate(over="ignore", invalid="ignore")
    def _predict_forces(self, described: Description) -> list[Prediction]:
        features, structures = described.features, described.structures
        ends = np.cumsum([structure.n_atoms for structure in structures]).tolist()
        of_structures = [slice(end - s.n_atoms, end) for s, end in zip(structures, ends, strict=True)]
        atomic = np.empty((len(self.members), len(features)))
        weights = np.empty((len(self.members), *features.shape))
        # structure by structure: matrix products of other shapes may differ in the last bit, and a prediction must not
        # depend on its company
        for structure, own in zip(structures, of_structures, strict=True):
            for m, rows, whitened, layers in self._subnets(structure.elements, features[own]):
                atomic[m, own][rows], gradient = energies_and_gradients(layers, whitened)
                whitening = self.whitenings[self.subnet_of[structure.elements[rows[0]]]]
                weights[m, own][rows] = gradient @ whitening.matrix.T
        gradients, strains = described.gradients(weights)
        forces, strain = -gradients, strains.mean(axis=0)
        predictions = []
        for k, (structure, own) in enumerate(zip(structures, of_structures, strict=True)):
            variance = forces[:, own].var(axis=0, ddof=1) if len(self.members) > 1 else None
            predictions.append(
                replace(
                    self._prediction(structure, features[own], atomic[:, own]),
                    forces=forces[:, own].mean(axis=0),
                    forces_spread=None if variance is None else np.sqrt(variance.sum(axis=1)),
                    stress=None if structure.volume is None else strain[k] / structure.volume,
                )
            )
        return predictions

    def _subnets(
        self, elements: Sequence[str], features: FloatArray
    ) -> Iterator[tuple[int, NDArray[np.int64], FloatArray, tuple[Layer, ...]]]:
        """For each subnet with atoms and each member: the member, the atoms, their whitened features, the layers."""
        subnets = np.array([self.subnet_of[element] for element in elements])
        for k, whitening in enumerate(self.whitenings):
            rows = np.flatnonzero(subnets == k)
            if len(rows):
                whitened = whitening(features[rows])
                for m, member in enumerate(self.members):
                    yield m, rows, whitened, member[k]

    def _prediction(self, structure: Structure, features: FloatArray, atomic: FloatArray) -> Prediction:
        """From the energies (n_members, n_atoms) of the networks."""
        reference = np.array([self.reference_energies[element] for element in structure.elements])
        totals = atomic.sum(axis=1)
        spread = float(totals.std(ddof=1)) / structure.n_atoms if len(self.members) > 1 else None
        mean = atomic.mean(axis=0) + reference
        counts = np.array([structure.composition.get(element, 0) for element in self.elements], dtype=float)
        distances, extrapolations = self._distances(structure, features)
        outside = counts - self.composition_span.T @ (self.composition_span @ counts)
        return Prediction(
            structure,
            float(mean.sum()),
            mean,
            spread,
            distances,
            extrapolations,
            bool(np.linalg.norm(outside) <= _SPAN_TOLERANCE * np.linalg.norm(counts)),
        )

    def _distances(
        self, structure: Structure, features: FloatArray
    ) -> tuple[FloatArray, tuple[Extrapolation, ...]]:
        """(n_atoms,) distances from training, and the atoms that are too far."""
        distances = np.empty(structure.n_atoms)
        found = []
        elements = np.array([self.elements.index(element) for element in structure.elements])
        for k, (element, atoms) in enumerate(zip(self.elements, self.training_atoms, strict=True)):
            rows = np.flatnonzero(elements == k)
            own = features[rows]
            distances[rows] = atoms.distances(own, self.whitenings[self.subnet_of[element]])
            far = distances[rows] > EXTRAPOLATION_DISTANCE
            for row, excess in zip(rows[far].tolist(), atoms.excess(own[far]), strict=True):
                worst = int(excess.argmax())
                name = self.parameters.feature_names[worst]
                found.append(
                    Extrapolation(row + 1, element, float(distances[row]), name, float(excess[worst]))
                )
        return distances, tuple(sorted(found, key=lambda extrapolation: extrapolation.atom))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, Any] = {"composition_span": self.composition_span}
        for k, atoms in enumerate(self.training_atoms):
            for part in _PARTS_OF_ATOMS:
                arrays[f"training/{k}/{part}"] = getattr(atoms, part)
        for k, whitening in enumerate(self.whitenings):
            arrays[f"whitening/{k}/mean"] = whitening.mean
            arrays[f"whitening/{k}/matrix"] = whitening.matrix
            arrays[f"whitening/{k}/constant"] = whitening.constant
        for m, member in enumerate(self.members):
            for k, layers in enumerate(member):
                for n, layer in enumerate(layers):
                    arrays[f"member/{m}/{k}/{n}/kernel"] = layer.kernel
                    arrays[f"member/{m}/{k}/{n}/bias"] = layer.bias
        header = {
            "format": FORMAT,
            "parameters": json.loads(self.parameters.to_json()),
            "reference_energies_eV": self.reference_energies,
            "subnet_of": self.subnet_of,
            "activations": [
                [[layer.activation for layer in net] for net in member] for member in self.members
            ],
            "about": dict(self.about),
        }
        write_arrays(path, {"header": np.array(json.dumps(header)), **arrays})

    @classmethod
    def load(cls, path: Path) -> Potential:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, damaged, or of a later version.
        """
        file = str(path)
        expected = "expected a potential written by tio2nn train, got"
        try:
            if is_special(path):
                raise InputError(f"{expected} no regular file", file=file)
            with path.open("rb") as handle:
                if not zipfile.is_zipfile(handle):
                    raise InputError(f"{expected} another kind of file, or a part of one", file=file)
            with opened_arrays(path) as arrays:
                return cls._from_arrays(json.loads(str(arrays["header"])), arrays, file)
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError("expected a potential, got no such file", file=file) from None
        except OSError as error:
            raise InputError(f"{expected}: {error.strerror}", file=file) from None
        except Exception as error:
            reason = f"{expected} a damaged or foreign file ({one_line(error)})"
            raise InputError(reason, file=file) from None

    @classmethod
    def _from_arrays(cls, header: dict[str, Any], arrays: Mapping[str, Any], file: str) -> Potential:
        check_header(header, FORMAT, file)
        try:
            parameters = ParameterSet.from_json(json.dumps(header["parameters"]))
        except ParameterError as error:
            raise InputError(f"expected a potential with valid parameters: {error}", file=file) from None
        n_subnets = max(header["subnet_of"].values()) + 1
        whitenings = tuple(
            Whitening(*(arrays[f"whitening/{k}/{part}"] for part in ("mean", "matrix", "constant")))
            for k in range(n_subnets)
        )
        members = tuple(
            tuple(
                tuple(
                    Layer(
                        arrays[f"member/{m}/{k}/{n}/kernel"], arrays[f"member/{m}/{k}/{n}/bias"], activation
                    )
                    for n, activation in enumerate(activations)
                )
                for k, activations in enumerate(member)
            )
            for m, member in enumerate(header["activations"])
        )
        potential = cls(
            parameters,
            header["reference_energies_eV"],
            header["subnet_of"],
            whitenings,
            members,
            tuple(
                TrainingAtoms(*(arrays[f"training/{k}/{part}"] for part in _PARTS_OF_ATOMS))
                for k in range(len(parameters.elements))
            ),
            arrays["composition_span"],
            header["about"],
        )
        check_consistency(
            potential.elements,
            parameters.n_features,
            reference_energies=potential.reference_energies,
            subnet_of=potential.subnet_of,
            whitenings=whitenings,
            members=members,
            training_atoms=potential.training_atoms,
            composition_span=potential.composition_span,
        )
        return potential


def composition_span(compositions: NDArray[np.integer]) -> FloatArray:
    """Orthonormal basis (rank, n_elements) of compositions (n_structures, n_elements)."""
    _, values, basis = np.linalg.svd(np.unique(compositions, axis=0).astype(float), full_matrices=False)
    return np.asarray(basis[values > _SPAN_TOLERANCE * values[0]])
