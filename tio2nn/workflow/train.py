"""The verb train: fit a potential to features, energies and forces."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.evaluation.baseline import Comparison
from tio2nn.files.atomic import atomic_path
from tio2nn.files.paths import AnyPath
from tio2nn.files.tables import write_csv, write_json
from tio2nn.parallel.devices import Device, known_device
from tio2nn.parallel.workers import worker_count
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.enlarged import united
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Limits
from tio2nn.project.freshness import Snapshot
from tio2nn.project.layout import features_beside
from tio2nn.project.preparation import remove_preparation
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model, versions
from tio2nn.project.structure_store import StructureStore
from tio2nn.training.committee import CommitteeFiles, fit_committee
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.data import TrainingData
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN, dense_layers
from tio2nn.workflow.baselines import compared, facts_of_fit, mean_of
from tio2nn.workflow.distill import Teacher, keeps_committee, prepared_teacher, read_teacher, remove_lessons
from tio2nn.workflow.fallback import with_fallback
from tio2nn.workflow.fine_tune import prepared_origin, read_origin
from tio2nn.workflow.inputs import SplitRequest
from tio2nn.workflow.lessons import Distillation, FineTuning, Lesson
from tio2nn.workflow.members import basis_of, diverged
from tio2nn.workflow.missed_energies import missed_energies
from tio2nn.workflow.prepared import usable_preparation
from tio2nn.workflow.settings import split_request


@dataclass(frozen=True)
class TrainSummary:
    """Result of a training.

    Attributes:
        n_train, n_validation, n_test: number of structures in each part of the split.
        members: number of committee members.
        epochs: epochs of the last member.
        seconds: wall time of this run.
        validation_rmse, validation_mae: meV/atom, at the epochs whose weights are used, averaged over the members;
            None without a validation set.
        validation_force_rmse: eV/Å per component, likewise; None without forces.
        validation_stress_rmse: meV/Å³ per component, likewise; None without stress.
        reference_energies: reference energy of each element, eV.
        constant_features: names of the features that are constant over the training set, for each subnet.
        comparison: comparison with the baseline on the validation set; None without one.
        facts: facts about the training that help to explain a poor fit.
        missed_energies: training structures whose energies the fit misses by far more than those of the others, with
            the residuals, meV/atom, the largest first.
        device: what the fit was computed on.
        potential: path of the potential file.
        earlier: where the potential that this one replaced is kept; None if there was none.
        earlier_is_of_others: whether that one was trained on other structures.
        committee: where a committee is kept in place of the student that this potential replaced; None for none.
    """

    n_train: int
    n_validation: int
    n_test: int
    members: int
    epochs: int
    seconds: float
    validation_rmse: float | None
    validation_mae: float | None
    validation_force_rmse: float | None
    validation_stress_rmse: float | None
    reference_energies: dict[str, float]
    constant_features: dict[str, tuple[str, ...]]
    comparison: Comparison | None
    facts: dict[str, Any]
    missed_energies: dict[str, float]
    device: Device
    potential: Path
    earlier: Path | None = None
    earlier_is_of_others: bool = False
    committee: Path | None = None


@dataclass(frozen=True)
class TrainListener:
    """The one who asks for a training: functions that are called during it, and what to record.

    Attributes:
        on_data: with the data of the fit before it begins.
        on_epoch: after each epoch with the number of the member, from 1, and the epoch.
        on_fallback: with what is done in place of what was asked for, and why, before the first epoch.
        command: the command line to record.
    """

    on_data: Callable[[TrainingData], None] | None = None
    on_epoch: Callable[[int, Epoch], None] | None = None
    on_fallback: Callable[[str], None] | None = None
    command: Sequence[str] = ()


def train(
    project: Project | Snapshot | AnyPath,
    parameters: ParameterSet | None = None,
    *,
    split: SplitRequest | AnyPath | None = None,
    lesson: Lesson | None = None,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] | None = None,
    listener: TrainListener | None = None,
    device: Device = "cpu",
) -> TrainSummary:
    """Fit the potential of a project.

    Committee members are fitted together, or each in a worker of an executor, with bitwise equal results.
    Derivatives that exceed half the memory, or TIO2NN_MEMORY in GB, are read in windows, and so are features.

    Args:
        project: project with features, or its directory.
        parameters: parameters of the project, with any changes from the command line or tuning; their recipe sets
            what they leave open. By default those of `prepare_members`, if the project has not changed since, else
            those of the project.
        split: split to use instead of that of the project, or its file.
        lesson: what to learn from besides the labels; by default nothing, or what `prepare_members` got.
        jobs: number of threads, or of workers of an executor; by default one per core.
        make_executor: makes a pool of that many workers; None to fit all members in this process.
        listener: is told how the training goes.
        device: what to compute on. If the derivatives do not fit on a GPU, it is the CPU.

    Raises:
        UsageError: there is no GPU that TensorFlow can use, or no such device; the variable TIO2NN_MEMORY is no
            positive number; or the parameters contradict the potential to begin from.
        MissingInputError, StaleError: a part of the project is missing or out of date.
        InputError: a part is damaged, the target cannot express the network, the fit diverges, a worker process
            dies, or the potential to learn from has other symmetry functions.
        TypeError, ValueError: jobs is no positive whole number, or the split is no path.
    """
    n_workers, request = worker_count(jobs), split_request(split)
    snapshot = Snapshot.of(project)
    try:
        return _trained(
            snapshot,
            parameters,
            request,
            lesson,
            n_workers,
            make_executor,
            listener or TrainListener(),
            known_device(device),
        )
    finally:
        features_beside(snapshot.project.fit_data_file).unlink(missing_ok=True)


def _trained(
    snapshot: Snapshot,
    parameters: ParameterSet | None,
    request: SplitRequest,
    lesson: Lesson | None,
    n_workers: int,
    make_executor: Callable[[int], Executor] | None,
    listener: TrainListener,
    device: Device,
) -> TrainSummary:
    """As `train`."""
    begin = time.perf_counter()
    origin = read_origin(lesson.potential) if isinstance(lesson, FineTuning) else None
    configure_threads(n_workers, device)
    project = snapshot.project
    preparation = usable_preparation(snapshot)
    if parameters is None:
        parameters = snapshot.parameters if preparation is None else preparation.parameters
    teacher = None
    if isinstance(lesson, Distillation):
        teacher = read_teacher(lesson, parameters, project)
    elif lesson is None and preparation is not None and preparation.parameters == parameters:
        origin = prepared_origin(preparation, project)
        teacher = prepared_teacher(preparation, project)
    processes = 1 if make_executor is None else n_workers
    parameters, inputs, data, n_fitted = basis_of(
        snapshot, parameters, request, preparation, processes, origin, teacher, n_workers
    )
    if teacher is None:
        remove_lessons(project)  # of a fit that is given up: its checkpoint is about to be replaced
    compile_loops(data)
    if listener.on_data is not None:
        listener.on_data(data)
    project.model_directory.mkdir(exist_ok=True)
    checkpoints = [project.checkpoint_file(member) for member in range(1, parameters.training.members + 1)]
    files = CommitteeFiles(checkpoints, project.fit_data_file)

    def fitted(device: Device) -> list[Fit]:
        return fit_committee(
            parameters,
            data,
            files,
            jobs=n_workers,
            # what is fitted is only read; a worker takes seconds to start
            make_executor=make_executor if n_fitted < len(checkpoints) else None,
            on_epoch=listener.on_epoch,
            device=device,
        )

    try:
        fits, device = with_fallback(fitted, device, n_workers, listener.on_fallback)
    except FloatingPointError as error:
        raise diverged(error, parameters) from None
    epochs = [fit.chosen for fit in fits]
    is_kept = keeps_committee(project)
    missed = {}
    if teacher is None:  # a student misses energies of its teacher
        missed = missed_energies([_layers(fit.network) for fit in fits], data, inputs.store)
    summary = TrainSummary(
        n_train=len(data.split.indices("train")),
        n_validation=len(data.validation.counts),
        n_test=len(data.split.indices("test")),
        members=len(fits),
        epochs=len(fits[-1].history),
        seconds=time.perf_counter() - begin,
        validation_rmse=mean_of(epoch.validation_rmse_meV_per_atom for epoch in epochs),
        validation_mae=mean_of(epoch.validation_mae_meV_per_atom for epoch in epochs),
        validation_force_rmse=mean_of(epoch.validation_force_rmse_eV_per_A for epoch in epochs),
        validation_stress_rmse=mean_of(epoch.validation_stress_rmse_meV_per_A3 for epoch in epochs),
        reference_energies=data.reference.as_dict(),
        constant_features=data.constant_features,
        comparison=compared("validation", inputs.store, data, epochs),
        facts=facts_of_fit(parameters, inputs.store, data, epochs, fits[-1].n_steps),
        missed_energies=missed,
        device=device,
        potential=project.potential_file,
        earlier=project.earlier_potential_file if project.potential_file.exists() and not is_kept else None,
        earlier_is_of_others="energies" in snapshot.model().of,
        committee=project.earlier_potential_file if is_kept else None,
    )
    record = {"command": list(listener.command), **_sources(data, teacher)}
    _write_model(project, parameters, inputs.store, data, fits, summary, record)
    for left in (*checkpoints, files.data):
        left.unlink(missing_ok=True)
    remove_lessons(project)
    remove_preparation(project)
    return summary


def _sources(data: TrainingData, teacher: Teacher | None) -> dict[str, Any]:
    """The potentials that a fit learns from, for the record."""
    found: dict[str, Any] = {}
    if data.begun is not None:
        found["origin"] = data.begun.as_dict()
    if teacher is not None:
        found["teacher"] = teacher.as_dict()
    return found


def _write_model(
    project: Project,
    parameters: ParameterSet,
    store: StructureStore,
    data: TrainingData,
    fits: Sequence[Fit],
    summary: TrainSummary,
    record: Mapping[str, Any],
) -> None:
    source = record.get("origin") or record.get("teacher") or {}
    about = {
        **record,
        "inputs": inputs_of_model(parameters, store, project.split_file, source.get("digest")),
        "selection": None if data.selection is None else data.selection.digest,
        "seed": parameters.training.seed,
        "n_train": summary.n_train,
        "n_validation": summary.n_validation,
        "n_test": summary.n_test,
        "members": summary.members,
        "epochs": [len(fit.history) for fit in fits],
        "validation_rmse_meV_per_atom": summary.validation_rmse,
        "validation_mae_meV_per_atom": summary.validation_mae,
        "validation_force_rmse_eV_per_A": summary.validation_force_rmse,
        "validation_stress_rmse_meV_per_A3": summary.validation_stress_rmse,
        "reference_energies_eV": summary.reference_energies,
        "baseline": {
            "reference_energies_eV": data.fitted_reference.as_dict(),
            **summary.facts,
            **({} if summary.comparison is None else {"validation": summary.comparison.as_dict()}),
        },
        "missed_energies_meV_per_atom": summary.missed_energies,
        "outliers_left_out": list(data.outliers) if parameters.training.outliers == "leave-out" else [],
        "device": summary.device,
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
        data.training_atoms,
        data.composition_span,
        about,
        data.repulsion if parameters.network.repulsion else None,
        _limits(store, data),
    )
    if data.begun is not None:
        # it knows what it began from
        before = data.begun.origin.potential
        potential = united(potential, before, with_span=not data.begun.are_shifted)
    _write_history(project.history_file, fits)
    for member, fit in enumerate(fits, start=1):
        _save_network(fit.network, project.network_file(member))
    for stale in project.model_directory.glob("network-*.keras"):
        if stale not in {project.network_file(member) for member in range(1, len(fits) + 1)}:
            stale.unlink()
    from tio2nn.evaluation.plots import plot_history

    plot_history(project.history_file, project.history_figure)
    if summary.earlier is not None:
        # a fit may have taken hours, and its user may have meant another project
        with atomic_path(summary.earlier) as temporary:
            shutil.copyfile(project.potential_file, temporary)
    potential.save(project.potential_file)
    # written last: this file marks a finished training
    write_json(project.training_metrics_file, about)


def _limits(store: StructureStore, data: TrainingData) -> Limits:
    """The limits set by the training set."""
    train = data.split.indices("train")
    compositions = store.compositions(data.reference.elements)[train]
    cohesive = data.reference.cohesive(compositions, store.energies[train])
    forces = store.forces[np.repeat(np.isin(np.arange(len(store)), train), store.n_atoms)]
    lengths = np.linalg.norm(forces, axis=1)
    known = lengths[np.isfinite(lengths)]
    return Limits(float(np.abs(cohesive).max()), float(known.max()) if len(known) else None)


def _layers(network: BPNN) -> tuple[tuple[Layer, ...], ...]:
    return tuple(
        tuple(Layer(*layer) for layer in dense_layers(subnet)) for subnet in network.subnets.values()
    )


def _save_network(network: BPNN, path: Path) -> None:
    with atomic_path(path) as temporary:
        network.save(temporary)


def _write_history(path: Path, fits: Sequence[Fit]) -> None:
    # the time comes last
    names = sorted(Epoch.__dataclass_fields__, key=lambda name: name == "seconds")
    rows = (
        [member, *(getattr(epoch, name) for name in names)]
        for member, fit in enumerate(fits, start=1)
        for epoch in fit.history
    )
    write_csv(path, ["member", *names], rows)
