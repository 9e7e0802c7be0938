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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import Description, SymmetryCalculator, batch_wise
from tio2nn.errors import InputError, ParameterError, one_line
from tio2nn.fit_parameters import ACTIVATIONS
from tio2nn.io.arrays import opened_arrays, write_arrays
from tio2nn.layers import Layer, energies, energies_and_gradients
from tio2nn.nn.whitening import Whitening
from tio2nn.parameters import ParameterSet
from tio2nn.structure import Structure

FloatArray = NDArray[np.float64]

FORMAT = 1
"""Version of the file format; raised when an older program could not read a new file."""

# How far outside the training range a feature must lie to be reported, in units of the width of that range.
# Trained on structures of TiO2 below 1 eV/atom: of 600 others at random none has such an atom, of 1,118 others, most
# of them at higher energies, 67 % have one (85 % at a margin of 0).
EXTRAPOLATION_MARGIN = 0.05

# A range narrower than this fraction of its limits is one value with rounding; a function that had one value in
# training is measured in its own unit, in which one near neighbor counts about 1.
_CONSTANT = 1e-10

# relative distance of a composition from the span of others; compositions are small integers
_SPAN_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Extrapolation:
    """An atom with a feature outside the range that training saw; the worst one of that atom.

    Attributes:
        atom: number of the atom, from 1.
        element: its element.
        function: name of the symmetry function.
        distance: how far outside, in units of the width of the training range; of a function that did not
            vary in training, the difference itself.
    """

    atom: int
    element: str
    function: str
    distance: float


@dataclass(frozen=True)
class Prediction:
    """Energy of one structure.

    Attributes:
        structure: what was predicted.
        energy: total energy, eV; mean of the committee.
        atomic_energies: (n_atoms,) eV, reference energies included; mean of the committee.
        spread: standard deviation of the committee's energies, eV/atom; None for a single network.
        extrapolations: atoms outside the training range.
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
    extrapolations: tuple[Extrapolation, ...]
    composition_is_known: bool
    forces: FloatArray | None = None
    forces_spread: FloatArray | None = None
    stress: FloatArray | None = None

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / self.structure.n_atoms


@dataclass(frozen=True)
class Potential:
    """A committee of networks with all they need.

    Attributes:
        parameters: the symmetry functions and elements.
        reference_energies: of each element, eV.
        subnet_of: for each element the position of its subnet.
        whitenings: for each subnet.
        members: for each member, for each subnet, its layers.
        ranges: (n_elements, 2, n_features) smallest and largest value of each feature in training.
        composition_span: (rank, n_elements) orthonormal basis of the compositions in training. Reference
            energies fitted to them say nothing about compositions outside it.
        about: what `train` recorded: versions, seed, structures, errors.
    """

    parameters: ParameterSet
    reference_energies: dict[str, float]
    subnet_of: dict[str, int]
    whitenings: tuple[Whitening, ...]
    members: tuple[tuple[tuple[Layer, ...], ...], ...]
    ranges: FloatArray
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

    def _predict_forces(self, described: Description) -> list[Prediction]:
        features, structures = described.features, described.structures
        elements = [element for structure in structures for element in structure.elements]
        atomic = np.empty((len(self.members), len(elements)))
        weights = np.empty((len(self.members), *features.shape))
        for m, rows, whitened, layers in self._subnets(elements, features):
            atomic[m, rows], gradient = energies_and_gradients(layers, whitened)
            weights[m, rows] = gradient @ self.whitenings[self.subnet_of[elements[rows[0]]]].matrix.T
        gradients, strains = described.gradients(weights)
        forces, strain = -gradients, strains.mean(axis=0)
        predictions, first = [], 0
        for k, structure in enumerate(structures):
            own = slice(first, first + structure.n_atoms)
            first = own.stop
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
        outside = counts - self.composition_span.T @ (self.composition_span @ counts)
        return Prediction(
            structure,
            float(mean.sum()),
            mean,
            spread,
            self._extrapolations(structure, features),
            bool(np.linalg.norm(outside) <= _SPAN_TOLERANCE * np.linalg.norm(counts)),
        )

    def _extrapolations(self, structure: Structure, features: FloatArray) -> tuple[Extrapolation, ...]:
        rows = np.array([self.elements.index(element) for element in structure.elements])
        low, high = self.ranges[rows, 0], self.ranges[rows, 1]
        width = high - low
        varied = width > _CONSTANT * np.maximum(np.abs(low), np.abs(high))
        distance = np.maximum(low - features, features - high) / np.where(varied, width, 1.0)
        worst = distance.argmax(axis=1)
        return tuple(
            Extrapolation(
                int(atom) + 1,
                structure.elements[atom],
                self.parameters.feature_names[worst[atom]],
                float(distance[atom, worst[atom]]),
            )
            for atom in np.flatnonzero(distance.max(axis=1) > EXTRAPOLATION_MARGIN)
        )

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, Any] = {"ranges": self.ranges, "composition_span": self.composition_span}
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
        if (found := header["format"]) != FORMAT:
            raise InputError(f"expected a potential of format {FORMAT}, got format {found}", file=file)
        if unknown := {a for m in header["activations"] for net in m for a in net} - set(ACTIVATIONS):
            reason = (
                f"expected a potential with activations of this program, got {', '.join(sorted(unknown))}"
            )
            raise InputError(reason, file=file)
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
        return cls(
            parameters,
            header["reference_energies_eV"],
            header["subnet_of"],
            whitenings,
            members,
            arrays["ranges"],
            arrays["composition_span"],
            header["about"],
        )


def feature_ranges(features: Sequence[FloatArray]) -> FloatArray:
    """Smallest and largest value of each feature over the training atoms of each element.

    Args:
        features: for each element (n_atoms of it, n_features).

    Returns:
        (n_elements, 2, n_features)
    """
    return np.stack([np.stack([part.min(axis=0), part.max(axis=0)]) for part in features])


def composition_span(compositions: NDArray[np.integer]) -> FloatArray:
    """Orthonormal basis (rank, n_elements) of compositions (n_structures, n_elements)."""
    _, values, basis = np.linalg.svd(np.unique(compositions, axis=0).astype(float), full_matrices=False)
    return np.asarray(basis[values > _SPAN_TOLERANCE * values[0]])
