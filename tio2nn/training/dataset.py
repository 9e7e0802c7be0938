"""The data of a network: features and labels of the training and validation sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.rows import FileRows, Rows
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.places import rows_of
from tio2nn.training.windows import Window


@dataclass(frozen=True)
class Labels:
    """The energy labels.

    Attributes:
        energies: (n_structures,) total energy minus reference energies, eV.
        weights: (n_structures,) weight of each structure in the loss, mean 1.
    """

    energies: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class ForceLabels:
    """Forces of structures, and where the derivatives of their features lie.

    Attributes:
        jacobian: flat float32, of all structures in a project; may be memory-mapped.
        offsets: (n_structures,) start of the (n, n_features, n, 3) values of each structure; negative without forces.
        forces: (n_atoms, 3) float32, eV/Å, structures consecutive; zero without forces.
        subnets: (n_atoms,) subnet of each atom.
        n_atoms: (n_structures,)
    """

    jacobian: NDArray[np.float32]
    offsets: IntArray
    forces: NDArray[np.float32]
    subnets: NDArray[np.int8]
    n_atoms: IntArray

    @property
    def has_forces(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have forces."""
        return np.asarray(self.offsets >= 0)

    def sizes(self, n_features: int) -> IntArray:
        """(n_structures,) number of values in the derivatives of each structure; 0 without forces."""
        return np.asarray(3 * n_features * self.n_atoms**2 * self.has_forces)

    def copied(self, n_features: int) -> ForceLabels:
        """The labels with a copy of their derivatives in memory."""
        sizes = self.sizes(n_features)
        jacobian, first = np.empty(sizes.sum(), np.float32), np.cumsum(sizes) - sizes
        for begin, offset, size in zip(first.tolist(), self.offsets.tolist(), sizes.tolist(), strict=True):
            jacobian[begin : begin + size] = self.jacobian[offset : offset + size]
        jacobian.flags.writeable = False  # as a mapped file, for which loops are compiled
        return replace(self, jacobian=jacobian, offsets=np.where(self.has_forces, first, -1))

    def select(self, structures: IntArray) -> ForceLabels:
        """The labels of these structures, in this order."""
        atoms = rows_of(self.n_atoms, structures)
        return ForceLabels(
            self.jacobian,
            self.offsets[structures],
            self.forces[atoms],
            self.subnets[atoms],
            self.n_atoms[structures],
        )


@dataclass(frozen=True)
class FirstWeights:
    """The weights that networks begin with, where they are not drawn.

    Attributes:
        values: (n_members, n_weights) as `FlatNetwork` has them.
        known: (n_weights,) which of them are not to be drawn.
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]

    def of(self, member: int, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Those of a member, counted from 1, whose other weights have been drawn."""
        return np.where(self.known, self.values[member - 1], drawn)


@dataclass(frozen=True)
class StressLabels:
    """Stresses of structures, and where the derivatives of their features with respect to strain lie.

    Attributes:
        strains: flat float32, of all structures in a project; may be memory-mapped.
        offsets: (n_structures,) start of the (n, n_features, 6) values of each structure; negative without a stress.
        stresses: (n_structures, 6) eV/Å³, in Voigt's order; zero without, nan for components that are not learned.
        volumes: (n_structures,) Å³; 1 without a stress.
        subnets: (n_atoms,) subnet of each atom, structures consecutive.
        n_atoms: (n_structures,)
    """

    strains: NDArray[np.float32]
    offsets: IntArray
    stresses: FloatArray
    volumes: FloatArray
    subnets: NDArray[np.int8]
    n_atoms: IntArray

    @property
    def has_stress(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have a stress."""
        return np.asarray(self.offsets >= 0)

    def n_components(self, structures: IntArray) -> int:
        """How many components of the stresses of these structures are learned."""
        return int(np.isfinite(self.stresses[structures][self.has_stress[structures]]).sum())

    def sizes(self, n_features: int) -> IntArray:
        """(n_structures,) number of values in the derivatives of each structure; 0 without a stress."""
        return np.asarray(6 * n_features * self.n_atoms * self.has_stress)

    def select(self, structures: IntArray) -> StressLabels:
        """The labels of these structures, in this order."""
        return StressLabels(
            self.strains,
            self.offsets[structures],
            self.stresses[structures],
            self.volumes[structures],
            self.subnets[rows_of(self.n_atoms, structures)],
            self.n_atoms[structures],
        )


@dataclass(frozen=True)
class FitData:
    """The training and validation data of a network.

    Attributes:
        train, train_labels: the training set, with whitened float32 features.
        validation, validation_labels: the validation set, likewise.
        train_forces, validation_forces: forces of both sets; None for a fit to energies alone.
        whitening_matrices: for each subnet (n_features, n_features), whitened features per feature; needed with forces.
        first_weights: None to draw them all.
        train_stress, validation_stress: stresses of both sets; None for a fit without.
        window: in which derivatives are read, and features that are in a file; None to use derivatives where they lie.
    """

    train: AtomTable
    train_labels: Labels
    validation: AtomTable
    validation_labels: Labels
    train_forces: ForceLabels | None = None
    validation_forces: ForceLabels | None = None
    whitening_matrices: tuple[FloatArray, ...] = ()
    first_weights: FirstWeights | None = None
    train_stress: StressLabels | None = None
    validation_stress: StressLabels | None = None
    window: Window | None = None

    @property
    def mean_energy(self) -> float:
        """Mean energy of the training set, eV/atom."""
        return float(np.mean(self.train_labels.energies / self.train.n_atoms))

    def with_copied_derivatives(self, most: float) -> FitData:
        """The data with copies of their derivatives in memory, if those take no more than so many bytes.

        They are read twice as fast from there as from a mapped file (15.5 instead of 8.0 GB/s by one core), whose
        pages are small. The bits are the same. Those with respect to strain are few, and stay where they are.
        """
        train, validation = self.train_forces, self.validation_forces
        if train is None or validation is None or self.window is not None:
            return self
        n_features = len(self.whitening_matrices[0])
        n_values = sum(int(own.sizes(n_features).sum()) for own in (train, validation))
        if n_values * train.jacobian.itemsize > most:
            return self
        train, validation = train.copied(n_features), validation.copied(n_features)
        return replace(self, train_forces=train, validation_forces=validation)

    def save(self, path: Path) -> None:
        """Write the data for worker processes, without the derivatives and the features that have their own files."""
        arrays: dict[str, NDArray[Any]] = {}
        for part, table, labels, forces, stress in (
            ("train", self.train, self.train_labels, self.train_forces, self.train_stress),
            (
                "validation",
                self.validation,
                self.validation_labels,
                self.validation_forces,
                self.validation_stress,
            ),
        ):
            arrays |= {f"{part}_features_{k}": _saved(features) for k, features in enumerate(table.features)}
            arrays[f"{part}_counts"] = table.counts
            arrays[f"{part}_energies"], arrays[f"{part}_weights"] = labels.energies, labels.weights
            if forces is not None:
                arrays |= {f"{part}_force_{name}": getattr(forces, name) for name in _OF_FORCES}
            if stress is not None:
                arrays |= {f"{part}_stress_{name}": getattr(stress, name) for name in _OF_STRESS}
        if self.window is not None:
            arrays["window"] = np.array(self.window)
        arrays |= {f"whitening_matrix_{k}": matrix for k, matrix in enumerate(self.whitening_matrices)}
        if self.first_weights is not None:
            arrays |= {f"first_{name}": array for name, array in vars(self.first_weights).items()}
        write_arrays(path, arrays)

    @property
    def derivatives_file(self) -> Path | None:
        """The file that the derivatives are mapped from; None for a fit to energies alone.

        Raises:
            ValueError: derivatives that are not memory-mapped from a file.
        """
        return None if self.train_forces is None else _mapped_file(self.train_forces.jacobian)

    @property
    def strains_file(self) -> Path | None:
        """As `derivatives_file`, of the derivatives with respect to strain; None for a fit without stress."""
        return None if self.train_stress is None else _mapped_file(self.train_stress.strains)

    @property
    def features_file(self) -> Path | None:
        """The file that features are read from; None if they are in memory."""
        return self.train.file

    @staticmethod
    def load(
        path: Path, derivatives: Path | None, strains: Path | None = None, features: Path | None = None
    ) -> FitData:
        """Read a file of `save`; derivatives, and features that do not fit into memory, stay in their own files."""
        with opened_arrays(path) as arrays:
            n_subnets = arrays["train_counts"].shape[1]
            jacobian = None if derivatives is None else np.memmap(derivatives, dtype="<f4", mode="r")
            mapped = None if strains is None else np.memmap(strains, dtype="<f4", mode="r")
            window = Window.read(arrays["window"].tolist()) if "window" in arrays else None
            return FitData(
                *_part(arrays, "train", features),
                *_part(arrays, "validation", features),
                None if jacobian is None else _forces(arrays, "train", jacobian),
                None if jacobian is None else _forces(arrays, "validation", jacobian),
                tuple(arrays[f"whitening_matrix_{k}"] for k in range(n_subnets))
                if "whitening_matrix_0" in arrays
                else (),
                _first_weights(arrays),
                None if mapped is None else _stress(arrays, "train", mapped),
                None if mapped is None else _stress(arrays, "validation", mapped),
                window,
            )

    @staticmethod
    def first_weights_of(path: Path) -> FirstWeights | None:
        """Those in a file of `save`."""
        with opened_arrays(path) as arrays:
            return _first_weights(arrays)


# fields of the labels besides the derivatives
_OF_FORCES = ("offsets", "forces", "subnets", "n_atoms")
_OF_STRESS = ("offsets", "stresses", "volumes", "subnets", "n_atoms")


def _mapped_file(jacobian: NDArray[np.float32]) -> Path:
    """The file of memory-mapped derivatives."""
    if not isinstance(jacobian, np.memmap) or jacobian.filename is None:
        raise ValueError("jacobian: expected a memory-mapped file, got an array")
    return Path(jacobian.filename).resolve()


def _first_weights(arrays: Mapping[str, NDArray[Any]]) -> FirstWeights | None:
    return FirstWeights(arrays["first_values"], arrays["first_known"]) if "first_values" in arrays else None


def _forces(arrays: Mapping[str, NDArray[Any]], part: str, jacobian: NDArray[np.float32]) -> ForceLabels:
    others: dict[str, Any] = {name: arrays[f"{part}_force_{name}"] for name in _OF_FORCES}
    return ForceLabels(jacobian, **others)


def _stress(arrays: Mapping[str, NDArray[Any]], part: str, strains: NDArray[np.float32]) -> StressLabels:
    others: dict[str, Any] = {name: arrays[f"{part}_stress_{name}"] for name in _OF_STRESS}
    return StressLabels(strains, **others)


def _saved(features: Rows) -> NDArray[Any]:
    """A matrix; of one that stays in its file, its place and shape."""
    return (
        np.array([features.begin, *features.shape])
        if isinstance(features, FileRows)
        else np.asarray(features)
    )


def _part(arrays: Mapping[str, NDArray[Any]], part: str, file: Path | None) -> tuple[AtomTable, Labels]:
    counts = arrays[f"{part}_counts"]
    features: list[Rows] = [arrays[f"{part}_features_{k}"] for k in range(counts.shape[1])]
    if file is not None:
        places = [np.asarray(own).tolist() for own in features]
        features = [FileRows.of(file, begin, (n_rows, n), "<f4") for begin, n_rows, n in places]
    return AtomTable(tuple(features), counts), Labels(arrays[f"{part}_energies"], arrays[f"{part}_weights"])
