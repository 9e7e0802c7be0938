"""The data of a fit: features, split, reference energies, whitening, labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.cores import one_blas_thread
from tio2nn.descriptors.natural_sizes import near
from tio2nn.errors import InputError
from tio2nn.files.rows import scratch_beside
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.training_size import Facts
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.potential import composition_span
from tio2nn.potential.repulsion import Repulsion
from tio2nn.potential.whitening import Whitening
from tio2nn.project.facts import are_used, facts_of, why_left_out
from tio2nn.project.jacobian_store import Selection, jacobian_sizes, strain_sizes, with_derivatives
from tio2nn.project.preparation import Preparation
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.split import Split
from tio2nn.structures.stress import to_voigt
from tio2nn.training.atom_table import AtomTable, write_transformed
from tio2nn.training.balance import density_weights, weighted
from tio2nn.training.dataset import FitData, ForceLabels, Labels, StressLabels
from tio2nn.training.feature_statistics import training_atoms_of, whitenings_of
from tio2nn.training.origin import Begun, Origin
from tio2nn.training.splits import FEWEST_TO_TRAIN
from tio2nn.training.subnets import Subnets
from tio2nn.training.windows import Window

# of each value, float64 until it is whitened, float32 then; float32 and two copies in an epoch
_FEATURE_BYTES = 12
_FITTED_ON = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class TrainingData(FitData):
    """The data of a fit; everything fitted comes from the training set alone.

    Attributes:
        parameters: of the fit, with nothing left to a recipe.
        facts: about the training set, with its forces even if they are not used.
        split: the split, without structures that are not used.
        reference: reference energies.
        whitenings: one per subnet.
        subnet_of: index of the subnet of each element.
        training_atoms: of each element, as a potential stores them.
        composition_span: (rank, n_elements) span of the training compositions.
        repulsion: of atoms closer than any in the training set.
        constant_features: names of the features that do not vary in the training set, for each subnet.
        fingerprint: of features, energies and split.
        fitted_reference: reference energies fitted to the training set, even if others are given: the baseline without
            a network.
        outliers: names of the gross outliers, excluded or kept as the settings say.
        n_above_max_energy: structures excluded for their energy.
        selection: structures with forces that have derivatives, if those of all do not fit.
        n_without_derivatives: training structures whose forces cannot be trained on.
        begun: how the fit begins, if from a potential.
    """

    parameters: ParameterSet
    facts: Facts
    split: Split
    reference: ReferenceEnergies
    whitenings: tuple[Whitening, ...]
    subnet_of: dict[str, int]
    training_atoms: tuple[TrainingAtoms, ...]
    composition_span: FloatArray
    repulsion: Repulsion
    constant_features: dict[str, tuple[str, ...]]
    fingerprint: str
    fitted_reference: ReferenceEnergies
    outliers: tuple[str, ...]
    n_above_max_energy: int
    n_without_derivatives: int
    selection: Selection | None = None
    begun: Begun | None = None


@dataclass(frozen=True)
class Inputs:
    """The structures of a project with their features.

    Attributes:
        store: the structures.
        features: of all atoms, float64, in blocks (n_atoms of some consecutive structures, n_features); each iteration
            reads them again.
        fingerprint: of parameter set and structures.
        jacobian: flat float32, derivatives of the features of structures with forces; None if not requested.
        selection: which structures with forces have derivatives; None for all.
        strains: flat float32, derivatives with respect to strain of structures with a stress; None if not requested.
        strain_selection: as `selection`, of those.
    """

    store: StructureStore
    features: Iterable[FloatArray]
    fingerprint: str
    jacobian: NDArray[np.float32] | None = None
    selection: Selection | None = None
    strains: NDArray[np.float32] | None = None
    strain_selection: Selection | None = None

    @property
    def has_derivatives(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have forces that can be trained on."""
        return with_derivatives(self.store.has_forces, self.selection)

    @property
    def has_strains(self) -> NDArray[np.bool_]:
        """(n_structures,) which structures have a stress that can be trained on."""
        return with_derivatives(self.store.has_bulk_stress, self.strain_selection)


class Fixed(NamedTuple):
    """What another fit has fixed.

    Attributes:
        reference: reference energy of each element, eV.
        whitenings: one per subnet.
        window: in which derivatives and features are read; None if they fit into memory.
    """

    reference: Mapping[str, float]
    whitenings: tuple[Whitening, ...]
    window: Window | None


class Memory(NamedTuple):
    """The memory for derivatives, and for features; those that exceed it are read in windows.

    Attributes:
        n_bytes: in all processes.
        processes: that train at the same time.
        file: to be made for features that exceed it; None to hold them in memory.
    """

    n_bytes: float
    processes: int = 1
    file: Path | None = None

    def file_for(self, n_values: int, earlier: Preparation | Fixed | None) -> Path | None:
        """The file for so many features; None if they fit into memory, or did when another fit fixed the windows."""
        if earlier is not None:
            return (
                self.file if earlier.window is not None and Window.read(earlier.window).has_features else None
            )
        return self.file if _FEATURE_BYTES * n_values * self.processes > self.n_bytes else None


def prepare(
    inputs: Inputs,
    parameters: ParameterSet,
    split: Split,
    earlier: Preparation | Fixed | None = None,
    memory: Memory | None = None,
    origin: Origin | None = None,
) -> TrainingData:
    """Prepare reference energies, whitening and labels of a fit.

    Features of the training and validation sets are held in float64, 8 bytes per value, until they are whitened and
    converted to float32: in memory, or in a file beside that which they are then read from.

    Args:
        inputs: derivatives are ignored if the fit does not use them.
        parameters: with nothing left to a recipe.
        split: the split.
        earlier: gives reference energies, whitenings and windows.
        memory: for derivatives and features; None to use derivatives where they lie, whatever their size, and to hold
            features in memory.
        origin: potential to begin from; None for random weights.

    Raises:
        ValueError: `parameters` leave a setting to their recipe.
        InputError: an element missing in the training set, fewer than two training structures, damaged features.
    """
    if parameters.undecided:
        raise ValueError(
            f"parameters: expected resolved settings, got none for {', '.join(parameters.undecided)}"
        )
    if not parameters.training.forces:
        inputs = replace(inputs, jacobian=None)
    if not parameters.training.stress:
        inputs = replace(inputs, strains=None)
    split = split.restricted_to(are_used(parameters, inputs.store))
    file = None
    if memory is not None:
        n_atoms = sum(int(inputs.store.n_atoms[split.indices(part)].sum()) for part in _FITTED_ON)
        file = memory.file_for(n_atoms * parameters.n_features, earlier)
    # last bits of products of several threads depend on their number
    with one_blas_thread(), scratch_beside(file) as scratch:
        return _prepared(inputs, parameters, split, earlier, memory, origin, (file, scratch))


def _prepared(
    inputs: Inputs,
    parameters: ParameterSet,
    split: Split,
    earlier: Preparation | Fixed | None,
    memory: Memory | None,
    origin: Origin | None,
    files: tuple[Path | None, Path | None],
) -> TrainingData:
    """As `prepare`, of structures that are used; `files` are those for features as networks get them, and before."""
    store, elements, (file, scratch) = inputs.store, parameters.elements, files
    train, validation = (split.indices(part) for part in _FITTED_ON)
    compositions = store.compositions(elements)
    _require_enough(parameters, store, train, compositions)
    fitted = ReferenceEnergies.fit(elements, compositions[train], store.energies[train])
    reference = fitted
    if (given := parameters.reference_energies) is not None:
        reference = ReferenceEnergies.given({element: given[element] for element in elements})
    subnets = Subnets.of(parameters, store)
    train_table, validation_table = AtomTable.gather(
        inputs.features, subnets.of_atom, store.n_atoms, len(subnets.names), (train, validation), scratch
    )
    repulsion = Repulsion.beyond(store.chosen(train), elements, parameters.cutoff)
    sizes = subnets.natural_sizes(parameters, near(elements, repulsion.closest))
    stress = _stress_labels(inputs, parameters, subnets.of_atom)
    if stress is not None and not stress.has_stress[train].any():
        raise InputError("expected structures with a stress in the training set, got none")
    if earlier is None:
        own_stress = None if stress is None else stress.select(train)
        whitenings = whitenings_of(parameters, train_table, sizes, own_stress)
    else:
        whitenings = earlier.whitenings
    begun = None
    if origin is not None:
        own = (compositions[train], store.energies[train])
        begun = origin.begin(parameters, train_table, whitenings, sizes, *own)
        whitenings = begun.start.whitenings if earlier is None else whitenings
        reference = begun.reference
    if earlier is not None:
        values = np.array([earlier.reference[element] for element in elements])
        reference = replace(reference, values=values)
    energies = store.energies - reference.baseline(compositions)
    in_training = np.repeat(np.isin(np.arange(len(store)), train), store.n_atoms)
    elements_of_training = subnets.element_of_atom[in_training]
    weights = density_weights(energies[train] / train_table.n_atoms, parameters.training.density_weighting)
    if store.weights is not None:
        weights = weighted(weights, store.weights[train])
    forces = _force_labels(inputs, parameters.n_features, subnets.of_atom)
    if forces is not None and not forces.has_forces[train].any():
        raise InputError("expected structures with forces in the training set, got none")
    fitted_on = np.concatenate([train, validation])
    in_files = [own.sizes(parameters.n_features) for own in (forces, stress) if own is not None]
    if file is not None:
        in_files.append(parameters.n_features * store.n_atoms)
    n_values = sum(int(sizes[fitted_on].sum()) for sizes in in_files)
    window = None
    if in_files:
        window = _window(n_values, parameters.n_features, earlier, memory, has_features=file is not None)
    training_atoms = training_atoms_of(parameters, train_table, subnets, elements_of_training, whitenings)
    if file is None:
        tables = tuple(table.transformed(whitenings) for table in (train_table, validation_table))
    else:
        tables = write_transformed((train_table, validation_table), whitenings, file)
    return TrainingData(
        parameters=parameters,
        facts=facts_of(parameters, store, split, inputs.selection),
        split=split,
        reference=reference,
        whitenings=whitenings,
        subnet_of=dict(zip(elements, subnets.of_element, strict=True)),
        training_atoms=training_atoms,
        composition_span=composition_span(compositions[train]),
        repulsion=repulsion,
        train=tables[0],
        train_labels=Labels(energies[train], weights),
        validation=tables[1],
        validation_labels=Labels(energies[validation], np.ones(len(validation))),
        train_forces=None if forces is None else forces.select(train),
        validation_forces=None if forces is None else forces.select(validation),
        train_stress=None if stress is None else stress.select(train),
        validation_stress=None if stress is None else stress.select(validation),
        whitening_matrices=tuple(whitening.matrix for whitening in whitenings),
        first_weights=None if begun is None else begun.start.weights,
        constant_features={
            name: tuple(f for f, c in zip(parameters.feature_names, whitening.constant, strict=True) if c)
            for name, whitening in zip(subnets.names, whitenings, strict=True)
            if whitening.constant.any()
        },
        fingerprint=_fingerprint(inputs, split, window, origin),
        fitted_reference=fitted,
        outliers=tuple(store.names[k] for k in np.flatnonzero(store.gross_outliers)),
        n_above_max_energy=int(np.count_nonzero(~store.are_up_to(parameters.training.max_energy))),
        n_without_derivatives=int(np.count_nonzero((store.has_forces & ~inputs.has_derivatives)[train])),
        selection=inputs.selection,
        begun=begun,
        window=window,
    )


def _window(
    n_values: int,
    n_features: int,
    earlier: Preparation | Fixed | None,
    memory: Memory | None,
    *,
    has_features: bool,
) -> Window | None:
    """The windows for what a fit reads, `n_values` in all: those of the preparation, if there is one."""
    if earlier is not None:
        return None if earlier.window is None else Window.read(earlier.window)
    if memory is None:
        return None
    return Window.of(n_values, memory.n_bytes, n_features, memory.processes, has_features=has_features)


def _require_enough(
    parameters: ParameterSet, store: StructureStore, train: IntArray, compositions: IntArray
) -> None:
    """Refuse a training set with too few structures, or without one of the elements."""
    if len(train) < FEWEST_TO_TRAIN:
        why = why_left_out(parameters, store, np.ones(len(store), np.bool_))
        raise InputError(
            f"expected at least {FEWEST_TO_TRAIN} structures in the training set, got {len(train)}{why}; "
            "add structures, or draw another split with --new-split"
        )
    for element, of_element in zip(parameters.elements, compositions.T, strict=True):
        if not of_element[train].any():
            why = why_left_out(parameters, store, of_element > 0)
            raise InputError(f"expected atoms of {element} in the training set, got none{why}")


def _begins(
    name: str, derivatives: NDArray[np.float32], sizes: IntArray, are_there: NDArray[np.bool_]
) -> IntArray:
    """(n_structures,) where the derivatives of each begin in the flat array; -1 where they are not there."""
    if len(derivatives) != sizes.sum():
        raise ValueError(f"{name}: expected {sizes.sum()} numbers, got {len(derivatives)}")
    return np.where(are_there, np.cumsum(sizes) - sizes, -1)


def _force_labels(inputs: Inputs, n_features: int, subnet_of_atom: IntArray) -> ForceLabels | None:
    """Force labels of all structures; None without derivatives."""
    if inputs.jacobian is None:
        return None
    store, has_derivatives = inputs.store, inputs.has_derivatives
    sizes = jacobian_sizes(store.n_atoms, n_features, has_derivatives)
    return ForceLabels(
        inputs.jacobian,
        _begins("jacobian", inputs.jacobian, sizes, has_derivatives),
        np.nan_to_num(store.forces).astype(np.float32),
        subnet_of_atom.astype(np.int8),
        store.n_atoms,
    )


def _stress_labels(inputs: Inputs, parameters: ParameterSet, subnet_of_atom: IntArray) -> StressLabels | None:
    """Stress labels of all structures; None without derivatives with respect to strain."""
    if inputs.strains is None:
        return None
    store, has_strains = inputs.store, inputs.has_strains
    sizes = strain_sizes(store.n_atoms, parameters.n_features, has_strains)
    stresses = np.where(has_strains[:, None], to_voigt(store.stresses), 0.0)
    if parameters.training.stress == "diagonal":
        stresses[:, 3:] = np.nan
    return StressLabels(
        inputs.strains,
        _begins("strains", inputs.strains, sizes, has_strains),
        stresses,
        np.where(has_strains, np.abs(np.linalg.det(store.cells)), 1.0),
        subnet_of_atom.astype(np.int8),
        store.n_atoms,
    )


def _fingerprint(inputs: Inputs, split: Split, window: Window | None, origin: Origin | None) -> str:
    """Digest of the data of a fit: features, energies, weights, split, origin, and forces and windows if used."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(inputs.fingerprint.encode())
    digest.update(np.ascontiguousarray(inputs.store.energies, dtype="<f8").tobytes())
    digest.update("\n".join(split.parts).encode())
    if inputs.store.weights is not None:
        digest.update(inputs.store.weights.astype("<f8").tobytes())
    if inputs.jacobian is not None:
        digest.update(np.ascontiguousarray(inputs.store.forces, dtype="<f8").tobytes())
    if inputs.selection is not None:
        digest.update(inputs.selection.digest.encode())
    if inputs.strains is not None:
        digest.update(np.ascontiguousarray(inputs.store.stresses, dtype="<f8").tobytes())
        digest.update(np.packbits(inputs.has_strains).tobytes())
    if window is not None:
        digest.update(f"windows of {window.capacity}".encode())
        if window.has_features:
            digest.update(b"with features")
    if origin is not None:
        digest.update(f"from {origin.digest}".encode())
    return digest.hexdigest()
