"""Structures in the layout of the network: the atoms of each subnet in one flat matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.potential.whitening import pieces
from tio2nn.training.places import rows_of
from tio2nn.training.windows import Window

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AtomTable:
    """Features of the atoms of many structures, one matrix for each subnet.

    Attributes:
        features: for each subnet (n_atoms of it, n_features), float64 or float32, structures consecutive.
        counts: (n_structures, n_subnets) atoms of each structure that belong to each subnet.
    """

    features: tuple[NDArray[np.floating], ...]
    counts: IntArray

    @classmethod
    def from_rows(
        cls, features: FloatArray, subnet_of_atom: IntArray, n_atoms: IntArray, n_subnets: int
    ) -> AtomTable:
        """Sort the atoms of consecutive structures by subnet.

        Args:
            features: (n_atoms of all, n_features)
            subnet_of_atom: (n_atoms of all,)
            n_atoms: (n_structures,)
            n_subnets: number of subnets.
        """
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        parts = tuple(features[subnet_of_atom == k] for k in range(n_subnets))
        return cls(parts, _counts_of(structure, subnet_of_atom, len(n_atoms), n_subnets))

    @classmethod
    def gather(
        cls,
        blocks: Iterable[FloatArray],
        subnet_of_atom: IntArray,
        n_atoms: IntArray,
        n_subnets: int,
        parts: Sequence[IntArray],
    ) -> tuple[AtomTable, ...]:
        """A table for each part; features come block by block, and only those of the parts are kept.

        Args:
            blocks: (n_atoms of some consecutive structures, n_features), at least one, together all atoms.
            subnet_of_atom, n_atoms, n_subnets: as for `from_rows`, of all structures.
            parts: structures of each part, ascending, without overlap.
        """
        part_of_structure = np.full(len(n_atoms), -1)
        for p, structures in enumerate(parts):
            part_of_structure[structures] = p
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        counts = _counts_of(structure, subnet_of_atom, len(n_atoms), n_subnets)
        part_of_atom = part_of_structure[structure]
        place = np.where(part_of_atom >= 0, part_of_atom * n_subnets + subnet_of_atom, -1)
        sizes = [int(counts[structures, k].sum()) for structures in parts for k in range(n_subnets)]
        matrices: list[FloatArray] = []
        filled = [0] * len(sizes)
        row = 0
        for block in blocks:
            matrices = matrices or [np.empty((size, block.shape[1])) for size in sizes]
            own = place[row : row + len(block)]
            for k, matrix in enumerate(matrices):
                chosen = block[own == k]
                matrix[filled[k] : filled[k] + len(chosen)] = chosen
                filled[k] += len(chosen)
            row += len(block)
        if row != len(subnet_of_atom):
            raise ValueError(f"blocks: expected {len(subnet_of_atom)} rows, got {row}")
        return tuple(
            cls(tuple(matrices[p * n_subnets : (p + 1) * n_subnets]), counts[structures])
            for p, structures in enumerate(parts)
        )

    @property
    def n_atoms(self) -> IntArray:
        """(n_structures,) number of atoms."""
        return np.asarray(self.counts.sum(axis=1))

    def select(self, structures: IntArray) -> AtomTable:
        """The table of these structures, in this order."""
        return AtomTable(
            tuple(part[self.rows(k, structures)] for k, part in enumerate(self.features)),
            self.counts[structures],
        )

    def rows(self, subnet: int, structures: IntArray) -> IntArray:
        """Rows of one subnet's matrix that belong to these structures, one structure after the other."""
        return rows_of(self.counts[:, subnet], structures)

    def segments(self, subnet: int) -> NDArray[np.int32]:
        """(n_atoms of the subnet,) index of the structure that each row belongs to."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts[:, subnet])

    def transformed(self, functions: Sequence[Callable[[NDArray[np.floating]], FloatArray]]) -> AtomTable:
        """The table with a row-wise function applied to each matrix, as float32."""
        return AtomTable(
            tuple(_mapped(f, part) for f, part in zip(functions, self.features, strict=True)),
            self.counts,
        )


def _counts_of(
    structure_of_atom: IntArray, subnet_of_atom: IntArray, n_structures: int, n_subnets: int
) -> IntArray:
    """(n_structures, n_subnets) atoms of each structure that belong to each subnet."""
    cells = structure_of_atom * n_subnets + subnet_of_atom
    return np.bincount(cells, minlength=n_structures * n_subnets).reshape(n_structures, n_subnets)


def _mapped(
    function: Callable[[NDArray[np.floating]], FloatArray], features: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Apply a function of the rows piece by piece, to hold only one piece in float64."""
    mapped: NDArray[np.float32] | None = None
    first = 0
    for piece in pieces(features):
        rows = function(piece)
        if mapped is None:
            mapped = np.empty((len(features), rows.shape[1]), np.float32)
        mapped[first : first + len(rows)] = rows
        first += len(rows)
    assert mapped is not None, "there is at least one piece"
    return mapped


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
        window: how much of the derivatives is held in memory; None to use them where they lie.
    """

    jacobian: NDArray[np.float32]
    offsets: IntArray
    forces: NDArray[np.float32]
    subnets: NDArray[np.int8]
    n_atoms: IntArray
    window: Window | None = None

    @property
    def has_forces(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have forces."""
        return np.asarray(self.offsets >= 0)

    def sizes(self, n_features: int) -> IntArray:
        """(n_structures,) number of values in the derivatives of each structure; 0 without forces."""
        return np.asarray(3 * n_features * self.n_atoms**2 * self.has_forces)

    def select(self, structures: IntArray) -> ForceLabels:
        """The labels of these structures, in this order."""
        atoms = rows_of(self.n_atoms, structures)
        return ForceLabels(
            self.jacobian,
            self.offsets[structures],
            self.forces[atoms],
            self.subnets[atoms],
            self.n_atoms[structures],
            self.window,
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
        stresses: (n_structures, 6) eV/Å³, in Voigt's order; zero without.
        volumes: (n_structures,) Å³; 1 without a stress.
        subnets: (n_atoms,) subnet of each atom, structures consecutive.
        n_atoms: (n_structures,)
        window: how much of the derivatives is held in memory; None to use them where they lie.
    """

    strains: NDArray[np.float32]
    offsets: IntArray
    stresses: FloatArray
    volumes: FloatArray
    subnets: NDArray[np.int8]
    n_atoms: IntArray
    window: Window | None = None

    @property
    def has_stress(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have a stress."""
        return np.asarray(self.offsets >= 0)

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
            self.window,
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

    @property
    def window(self) -> Window | None:
        """In which derivatives are read; None to use them where they lie."""
        labels = (self.train_forces, self.train_stress)
        return next((own.window for own in labels if own is not None), None)

    @property
    def mean_energy(self) -> float:
        """Mean energy of the training set, eV/atom."""
        return float(np.mean(self.train_labels.energies / self.train.n_atoms))

    def save(self, path: Path) -> None:
        """Write the data for worker processes, without the derivatives, which have their own file."""
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
            arrays |= {f"{part}_features_{k}": features for k, features in enumerate(table.features)}
            arrays[f"{part}_counts"] = table.counts
            arrays[f"{part}_energies"], arrays[f"{part}_weights"] = labels.energies, labels.weights
            if forces is not None:
                arrays |= {f"{part}_force_{name}": getattr(forces, name) for name in _OF_FORCES}
                if forces.window is not None:
                    arrays["window"] = np.array(forces.window)
            if stress is not None:
                arrays |= {f"{part}_stress_{name}": getattr(stress, name) for name in _OF_STRESS}
                if stress.window is not None:
                    arrays["window"] = np.array(stress.window)
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

    @staticmethod
    def load(path: Path, derivatives: Path | None, strains: Path | None = None) -> FitData:
        """Read a file of `save`; derivatives stay in their own files."""
        with opened_arrays(path) as arrays:
            n_subnets = arrays["train_counts"].shape[1]
            jacobian = None if derivatives is None else np.memmap(derivatives, dtype="<f4", mode="r")
            mapped = None if strains is None else np.memmap(strains, dtype="<f4", mode="r")
            window = Window(*arrays["window"].tolist()) if "window" in arrays else None
            return FitData(
                *_part(arrays, "train"),
                *_part(arrays, "validation"),
                None if jacobian is None else _forces(arrays, "train", jacobian, window),
                None if jacobian is None else _forces(arrays, "validation", jacobian, window),
                tuple(arrays[f"whitening_matrix_{k}"] for k in range(n_subnets))
                if "whitening_matrix_0" in arrays
                else (),
                _first_weights(arrays),
                None if mapped is None else _stress(arrays, "train", mapped, window),
                None if mapped is None else _stress(arrays, "validation", mapped, window),
            )

    @staticmethod
    def first_weights_of(path: Path) -> FirstWeights | None:
        """Those in a file of `save`."""
        with opened_arrays(path) as arrays:
            return _first_weights(arrays)


# fields of the labels besides the derivatives and their window
_OF_FORCES = ("offsets", "forces", "subnets", "n_atoms")
_OF_STRESS = ("offsets", "stresses", "volumes", "subnets", "n_atoms")


def _mapped_file(jacobian: NDArray[np.float32]) -> Path:
    """The file of memory-mapped derivatives."""
    if not isinstance(jacobian, np.memmap) or jacobian.filename is None:
        raise ValueError("jacobian: expected a memory-mapped file, got an array")
    return Path(jacobian.filename).resolve()


def _first_weights(arrays: Mapping[str, NDArray[Any]]) -> FirstWeights | None:
    return FirstWeights(arrays["first_values"], arrays["first_known"]) if "first_values" in arrays else None


def _forces(
    arrays: Mapping[str, NDArray[Any]], part: str, jacobian: NDArray[np.float32], window: Window | None
) -> ForceLabels:
    others: dict[str, Any] = {name: arrays[f"{part}_force_{name}"] for name in _OF_FORCES}
    return ForceLabels(jacobian, **others, window=window)


def _stress(
    arrays: Mapping[str, NDArray[Any]], part: str, strains: NDArray[np.float32], window: Window | None
) -> StressLabels:
    others: dict[str, Any] = {name: arrays[f"{part}_stress_{name}"] for name in _OF_STRESS}
    return StressLabels(strains, **others, window=window)


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> tuple[AtomTable, Labels]:
    counts = arrays[f"{part}_counts"]
    features = tuple(arrays[f"{part}_features_{k}"] for k in range(counts.shape[1]))
    return AtomTable(features, counts), Labels(arrays[f"{part}_energies"], arrays[f"{part}_weights"])
