"""The command train: from features and energies to a potential."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.io.features import Manifest, digest_of, read_features
from tio2nn.io.store import StructureStore, read_store
from tio2nn.io.tables import write_csv, write_json
from tio2nn.nn.dataset import AtomTable, FitData, Labels
from tio2nn.nn.network import BPNN, dense_layers
from tio2nn.nn.training import Epoch, Fit, configure_threads, initial_network
from tio2nn.nn.whitening import Whitening
from tio2nn.parameters import ParameterSet
from tio2nn.potential import Layer, Potential, composition_span, feature_ranges
from tio2nn.project import Project
from tio2nn.provenance import inputs_of_model, versions
from tio2nn.reference_energies import ReferenceEnergies
from tio2nn.schema import to_json
from tio2nn.split import LEFT_OUT, Split, covers, random_split, read_split

configure_threads()

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TrainingData(FitData):
    """Everything that a fit starts from, computed on the training part alone.

    Attributes:
        split: the parts.
        reference: reference energies.
        whitenings: for each subnet.
        subnet_of: for each element the position of its subnet.
        ranges: (n_elements, 2, n_features) of the features in the training part.
        composition_span: (rank, n_elements) of the compositions in the training part.
        constant_features: names of columns that do not vary in the training part, for each subnet.
        fingerprint: of features, energies and split.
    """

    split: Split
    reference: ReferenceEnergies
    whitenings: tuple[Whitening, ...]
    subnet_of: dict[str, int]
    ranges: FloatArray
    composition_span: FloatArray
    constant_features: dict[str, tuple[str, ...]]
    fingerprint: str


@dataclass(frozen=True)
class TrainSummary:
    """What a training did.

    Attributes:
        n_train, n_validation, n_test: structures in the parts.
        members: networks in the committee.
        epochs: epochs of the last member.
        seconds: wall time of this run.
        validation_rmse, validation_mae: meV/atom, of the epochs whose weights are taken, mean over the members.
        reference_energies: eV.
        constant_features: names of columns that do not vary in the training part, for each subnet.
        potential: the file.
    """

    n_train: int
    n_validation: int
    n_test: int
    members: int
    epochs: int
    seconds: float
    validation_rmse: float
    validation_mae: float
    reference_energies: dict[str, float]
    constant_features: dict[str, tuple[str, ...]]
    potential: Path


@dataclass(frozen=True)
class Inputs:
    """The structures of a project with their features.

    Attributes:
        store: the structures.
        features: (n_atoms of all, n_features) float64.
        fingerprint: of parameter set and structures.
    """

    store: StructureStore
    features: FloatArray
    fingerprint: str


def read_inputs(project: Project, parameters: ParameterSet) -> Inputs:
    """Structures and features of a project, refused if the features belong to others.

    Raises:
        MissingInputError, StaleError, InputError
    """
    store = read_store(project.require(project.structures_file))
    manifest = Manifest.read(project.require(project.features_manifest))
    structures = digest_of(store.geometry_hashes)
    project.check_fresh(asdict(manifest), parameters.fingerprint, structures)
    fingerprint = digest_of([parameters.fingerprint, structures])
    return Inputs(store, read_features(project.features_directory, manifest), fingerprint)


def choose_split(
    project: Project, parameters: ParameterSet, store: StructureStore, given: Path | None, new: bool
) -> Split:
    """The split that the user gives, else that of the project, else a new one; kept in `split.csv`."""
    settings = parameters.training
    names = store.names
    if given is not None:
        split = read_split(given, names, settings.validation_fraction, settings.seed)
    elif not new and project.split_file.exists() and covers(project.split_file, names):
        return read_split(project.split_file, names, settings.validation_fraction, settings.seed)
    else:
        groups = store.groups if settings.split == "grouped" else names
        split = random_split(
            names, groups, settings.validation_fraction, settings.test_fraction, settings.seed
        )
    split.write(project.split_file, store.groups)
    return split


def prepare(inputs: Inputs, parameters: ParameterSet, split: Split) -> TrainingData:
    """Reference energies, whitening and labels of a fit.

    Raises:
        InputError: an element without an atom in the training part, or a part without structures.
    """
    store, settings = inputs.store, parameters.training
    if settings.max_energy is not None:
        low = store.cohesive_energies <= settings.max_energy
        parts = tuple(part if ok else LEFT_OUT for part, ok in zip(split.parts, low, strict=True))
        split = replace(split, parts=parts)
    train, validation = split.indices("train"), split.indices("validation")
    for part, indices in (("train", train), ("validation", validation)):
        if not len(indices):
            raise InputError(f"expected structures in the part {part}, got none")
    elements = parameters.elements
    element_of_atom = store.element_indices(elements)
    by_element = AtomTable.from_rows(inputs.features, element_of_atom, store.n_atoms, len(elements))
    for element, count in zip(elements, by_element.counts[train].sum(axis=0), strict=True):
        if count == 0:
            raise InputError(f"expected atoms of {element} in the training part, got none")
    compositions = by_element.counts
    if parameters.reference_energies is not None:
        given = parameters.reference_energies
        reference = ReferenceEnergies.given({element: given[element] for element in elements})
    else:
        reference = ReferenceEnergies.fit(elements, compositions[train], store.energies[train])
    energies = store.energies - reference.baseline(compositions)
    shared = parameters.network.shared_subnet
    subnet_of = {element: 0 if shared else k for k, element in enumerate(elements)}
    table = (
        AtomTable.from_rows(inputs.features, np.zeros_like(element_of_atom), store.n_atoms, 1)
        if shared
        else by_element
    )
    train_table, validation_table = table.select(train), table.select(validation)
    fit = Whitening.fit if parameters.network.whitening else Whitening.standardization
    whitenings = tuple(fit(np.asarray(part, np.float64)) for part in train_table.features)
    names = ["all elements"] if shared else list(elements)
    constant = {
        name: tuple(f for f, c in zip(parameters.feature_names, w.constant, strict=True) if c)
        for name, w in zip(names, whitenings, strict=True)
        if w.constant.any()
    }
    training_energies = energies[train]
    weights = density_weights(training_energies / train_table.n_atoms, settings.density_weighting)
    digest = hashlib.blake2b(digest_size=12)
    digest.update(inputs.fingerprint.encode())
    digest.update(np.ascontiguousarray(store.energies, dtype="<f8").tobytes())
    digest.update("\n".join(split.parts).encode())
    return TrainingData(
        split=split,
        reference=reference,
        whitenings=whitenings,
        subnet_of=subnet_of,
        ranges=feature_ranges([np.asarray(p, np.float64) for p in by_element.select(train).features]),
        composition_span=composition_span(compositions[train]),
        train=train_table.transformed(whitenings),
        train_labels=Labels(training_energies, weights),
        validation=validation_table.transformed(whitenings),
        validation_labels=Labels(energies[validation], np.ones(len(validation))),
        constant_features=constant,
        fingerprint=digest.hexdigest(),
    )


def density_weights(energies_per_atom: FloatArray, strength: float) -> FloatArray:
    """Weights that raise structures at rare energies: density of energies to the power -strength, mean 1.

    The density is that of a histogram whose bins follow the Freedman-Diaconis rule.

    Args:
        energies_per_atom: (n_structures,) eV/atom.
        strength: from 0 (all alike) to 1 (every bin counts the same).

    Returns:
        (n_structures,)
    """
    if strength == 0.0 or np.ptp(energies_per_atom) == 0.0:
        return np.ones(len(energies_per_atom))
    counts, edges = np.histogram(energies_per_atom, bins="fd")
    bins = np.clip(np.searchsorted(edges, energies_per_atom, side="right") - 1, 0, len(counts) - 1)
    weights = counts[bins].astype(np.float64) ** -strength
    return np.asarray(weights / weights.mean())


def new_network(parameters: ParameterSet, data: TrainingData, seed: int) -> BPNN:
    """A network with the data's whitening, its first weights drawn from the seed."""
    network = initial_network(parameters.network, parameters.elements, parameters.n_features, data, seed)
    for subnet in network.subnets.values():
        dense_layers(subnet)  # refuses now what the potential could not carry later
    network.set_whitenings(data.whitenings)
    return network


def train(
    project: Project,
    parameters: ParameterSet,
    *,
    split_file: Path | None = None,
    new_split: bool = False,
    command: Sequence[str] = (),
    on_data: Callable[[TrainingData], None] | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> TrainSummary:
    """Fit the potential of a project.

    Args:
        project: with features.
        parameters: those of the project, with what flags, recipe or tuning changed.
        split_file: a division given by the user.
        new_split: make a new one even if the project has one.
        command: the command line, for the record.
        on_data: hears of split, reference energies and whitening before the fit.
        on_epoch: hears of each epoch, with the member's number from 1.

    Raises:
        MissingInputError, StaleError, InputError: also where the fit diverges
    """
    begin = time.perf_counter()
    inputs = read_inputs(project, parameters)
    split = choose_split(project, parameters, inputs.store, split_file, new_split)
    data = prepare(inputs, parameters, split)
    if on_data is not None:
        on_data(data)
    project.model_directory.mkdir(exist_ok=True)
    fits: list[Fit] = []
    checkpoints: list[Path] = []
    for member in range(1, parameters.training.members + 1):
        seed = parameters.training.seed + member - 1
        network = new_network(parameters, data, seed)
        fit = Fit(network, parameters.training, seed, data)
        checkpoint = project.checkpoint_file(member)
        listen = None if on_epoch is None else lambda epoch, member=member: on_epoch(member, epoch)
        try:
            fit.run(checkpoint, _fit_fingerprint(parameters, data, seed), listen)
        except FloatingPointError as error:
            advice = f"try a learning_rate below {parameters.training.learning_rate:g}"
            raise InputError(f"expected a fit that converges, got: {error}; {advice}") from None
        fits.append(fit)
        checkpoints.append(checkpoint)
    chosen = [fit.chosen for fit in fits]
    summary = TrainSummary(
        n_train=len(data.train.counts),
        n_validation=len(data.validation.counts),
        n_test=len(data.split.indices("test")),
        members=len(fits),
        epochs=len(fits[-1].history),
        seconds=time.perf_counter() - begin,
        validation_rmse=float(np.mean([epoch.validation_rmse_meV_per_atom for epoch in chosen])),
        validation_mae=float(np.mean([epoch.validation_mae_meV_per_atom for epoch in chosen])),
        reference_energies=data.reference.as_dict(),
        constant_features=data.constant_features,
        potential=project.potential_file,
    )
    _write_model(project, parameters, inputs.store, data, fits, summary, command)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return summary


def _fit_fingerprint(parameters: ParameterSet, data: TrainingData, seed: int) -> str:
    """Of everything that the weights of one member depend on."""
    settings = {"network": to_json(parameters.network), **to_json(parameters.training), "seed": seed}
    for of_no_effect in ("members", "validation_fraction", "test_fraction", "split", "max_energy"):
        settings.pop(of_no_effect)  # what they decide is in the data's fingerprint
    return digest_of([data.fingerprint, json.dumps(settings, sort_keys=True), str(data.reference.as_dict())])


def _write_model(
    project: Project,
    parameters: ParameterSet,
    store: StructureStore,
    data: TrainingData,
    fits: Sequence[Fit],
    summary: TrainSummary,
    command: Sequence[str],
) -> None:
    about = {
        "command": list(command),
        "inputs": inputs_of_model(parameters, store, project.split_file),
        "seed": parameters.training.seed,
        "n_train": summary.n_train,
        "n_validation": summary.n_validation,
        "n_test": summary.n_test,
        "members": summary.members,
        "epochs": [len(fit.history) for fit in fits],
        "validation_rmse_meV_per_atom": summary.validation_rmse,
        "validation_mae_meV_per_atom": summary.validation_mae,
        "reference_energies_eV": summary.reference_energies,
        "seconds": round(summary.seconds, 1),
        "parameters": json.loads(parameters.to_json()),
        "versions": versions(),
    }
    potential = Potential(
        parameters,
        data.reference.as_dict(),
        data.subnet_of,
        data.whitenings,
        tuple(_layers(fit.network) for fit in fits),
        data.ranges,
        data.composition_span,
        about,
    )
    _write_history(project.history_file, fits)
    for member, fit in enumerate(fits, start=1):
        _save_network(fit.network, project.network_file(member))
    for stale in project.model_directory.glob("network-*.keras"):
        if stale not in {project.network_file(member) for member in range(1, len(fits) + 1)}:
            stale.unlink()
    from tio2nn.plots import plot_history

    plot_history(project.history_file, project.history_figure)
    write_json(project.training_metrics_file, about)
    potential.save(project.potential_file)


def _layers(network: BPNN) -> tuple[tuple[Layer, ...], ...]:
    return tuple(
        tuple(Layer(*layer) for layer in dense_layers(subnet)) for subnet in network.subnets.values()
    )


def _save_network(network: BPNN, path: Path) -> None:
    """Keras chooses the format by the name, so the temporary file keeps the suffix."""
    temporary = path.with_name(f".{path.stem}.part.keras")
    network.save(temporary)
    temporary.replace(path)


def _write_history(path: Path, fits: Sequence[Fit]) -> None:
    rows = ([member, *astuple(epoch)] for member, fit in enumerate(fits, start=1) for epoch in fit.history)
    write_csv(path, ["member", *Epoch.__dataclass_fields__], rows)
