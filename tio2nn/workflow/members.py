"""The verb train in steps for job arrays: prepare once, then fit each member of the committee, on any machine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from tio2nn.cores import thread_count
from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_path
from tio2nn.files.paths import AnyPath
from tio2nn.memory import memory_for_derivatives
from tio2nn.parallel.devices import Device, known_device
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.targets import require_expressible
from tio2nn.project.freshness import Snapshot
from tio2nn.project.layout import features_beside
from tio2nn.project.preparation import Preparation, inputs_of_preparation, remove_preparation
from tio2nn.project.project import Project
from tio2nn.training.committee import MemberTask, fingerprint_of
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.data import Fixed, Inputs, Memory, TrainingData, prepare
from tio2nn.training.dataset import FitData
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit, Resumption
from tio2nn.training.history import Epoch
from tio2nn.training.origin import Origin
from tio2nn.workflow.distill import (
    Teacher,
    digest_of_lessons,
    mark_of,
    read_teacher,
    remove_lessons,
    taught,
    teach,
)
from tio2nn.workflow.fallback import with_fallback
from tio2nn.workflow.fine_tune import begun_from, read_origin, resolved_from
from tio2nn.workflow.inputs import SplitRequest, choose_split, holds, keep_split, read_inputs
from tio2nn.workflow.lessons import Distillation, FineTuning, Lesson
from tio2nn.workflow.prepared import require_preparation
from tio2nn.workflow.settings import split_request
from tio2nn.workflow.students import beginning, resolved_student


class Basis(NamedTuple):
    """What the members of a committee have in common.

    Attributes:
        parameters: with nothing left to a recipe.
        inputs: what the fit reads from the project.
        data: the data of the fit.
        n_fitted: number of members that an earlier preparation of the same fit has fitted.
    """

    parameters: ParameterSet
    inputs: Inputs
    data: TrainingData
    n_fitted: int


@dataclass(frozen=True)
class MemberSummary:
    """Result of fitting one member.

    Attributes:
        member: its number, from 1.
        members: size of the committee.
        epochs: of the fit.
        seconds: wall time of this run.
        fitted: numbers of the members that are fitted now.
    """

    member: int
    members: int
    epochs: int
    seconds: float
    fitted: list[int]


def basis_of(
    snapshot: Snapshot,
    parameters: ParameterSet,
    request: SplitRequest,
    preparation: Preparation | None = None,
    processes: int = 1,
    origin: Origin | None = None,
    teacher: Teacher | None = None,
    jobs: int | None = None,
) -> Basis:
    """Read and prepare the data of a fit, and keep its split.

    Args:
        snapshot: of a project with features.
        parameters: of the fit; their recipe need not have been applied.
        request: which split to use.
        preparation: an earlier one; if it is of the same parameters, split, origin and teacher, its reference
            energies, whitenings and windows are used.
        processes: that may train at the same time.
        origin: potential to begin from; None for random weights.
        teacher: potential to learn from; None for the labels alone.
        jobs: threads of a teacher, and processes that compute derivatives of what it teaches; by default one per core.
    """
    project = snapshot.project
    activation = (
        parameters.network.activation if origin is None else begun_from(parameters, origin).network.activation
    )
    require_expressible(parameters.target, activation, project.command(f"train --for {parameters.target}"))
    inputs = read_inputs(snapshot, parameters)
    chosen = choose_split(snapshot, parameters, request)
    if preparation is not None and not (
        preparation.parameters == parameters
        and preparation.origin_digest == (None if origin is None else origin.digest)
        and mark_of(preparation) == (None if teacher is None else teacher.mark)
        and holds(project.split_file, chosen)
    ):
        preparation = None
    asked = parameters
    if teacher is None:
        parameters = resolved_from(parameters, inputs.store, chosen, inputs.selection, origin)
        memory = Memory(
            memory_for_derivatives(),
            min(processes, parameters.training.members),
            features_beside(project.fit_data_file),
        )
        data = prepare(inputs, parameters, chosen, preparation, memory, origin)
    else:
        parameters = resolved_student(teacher, parameters, inputs.store, chosen, inputs.selection)
        fixed = None if preparation is None else Fixed(preparation.reference, preparation.whitenings, None)
        # a student knows its own structures, not all that its teacher was trained on
        data = replace(
            prepare(inputs, parameters, chosen, fixed, origin=beginning(teacher, parameters)), begun=None
        )
        lessons = teach(snapshot, asked, data.split, teacher, thread_count(jobs))
        data = taught(data, lessons, processes, preparation)
    if preparation is not None and data.first_weights is not None and preparation.data_file(project).exists():
        # as the whitenings: another processor may turn them
        data = replace(data, first_weights=FitData.first_weights_of(preparation.data_file(project)))
    keep_split(snapshot, chosen)
    n_fitted = 0 if preparation is None else len(preparation.fitted(project))
    return Basis(parameters, inputs, data, n_fitted)


def prepare_members(
    project: Project | Snapshot | AnyPath,
    parameters: ParameterSet | None = None,
    *,
    split: SplitRequest | AnyPath | None = None,
    on_data: Callable[[TrainingData], None] | None = None,
    lesson: Lesson | None = None,
) -> Preparation:
    """Make split, reference energies and whitening once, for members that `fit_member` fits and `train` assembles.

    Args:
        project, parameters, split, on_data, lesson: as for `train`.

    Raises:
        MissingInputError, StaleError, InputError, TypeError: as for `train`.
    """
    request = split_request(split)
    origin = read_origin(lesson.potential) if isinstance(lesson, FineTuning) else None
    configure_threads()
    snapshot = Snapshot.of(project)
    project = snapshot.project
    if parameters is None:
        parameters = snapshot.parameters
    teacher = read_teacher(lesson, parameters, project) if isinstance(lesson, Distillation) else None
    basis = basis_of(snapshot, parameters, request, origin=origin, teacher=teacher)
    data = basis.data
    taught_of = snapshot if teacher is None else Snapshot(Project(project.lessons_directory))
    if on_data is not None:
        on_data(data)
    compile_loops(data)  # members find them compiled
    project.model_directory.mkdir(exist_ok=True)
    preparation = Preparation(
        parameters=parameters,
        resolved=basis.parameters,
        inputs=inputs_of_preparation(snapshot.parameters, basis.inputs.store, project.split_file),
        derivatives=None if data.train_forces is None else taught_of.derivatives().file,
        members=tuple(
            fingerprint_of(basis.parameters, data, member)
            for member in range(1, basis.parameters.training.members + 1)
        ),
        reference=data.reference.as_dict(),
        whitenings=data.whitenings,
        window=data.window,
        strains=None if data.train_stress is None else taught_of.strains().file,
        origin=None if origin is None else (origin.file, origin.digest),
        teacher=None if teacher is None else teacher.for_preparation(digest_of_lessons(project)),
    )
    # in this order, a member never reads the data of another preparation
    project.preparation_file.unlink(missing_ok=True)
    data.save(preparation.data_file(project))
    kept = [project.preparation_file, preparation.data_file(project)]
    if data.features_file is not None:
        kept.append(data.features_file.replace(preparation.features_file(project)))
    if origin is not None:
        kept.append(preparation.origin_file(project))
        origin.potential.save(preparation.origin_file(project))
    if teacher is not None:
        kept.append(preparation.teacher_file(project))
        with atomic_path(preparation.teacher_file(project)) as temporary:
            shutil.copyfile(teacher.lesson.teacher, temporary)
    else:
        remove_lessons(project)
    preparation.write(project.preparation_file)
    remove_preparation(project, but=kept)
    return preparation


def fit_member(
    project: Project | Snapshot | AnyPath,
    member: int,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    device: Device = "cpu",
    on_fallback: Callable[[str], None] | None = None,
) -> MemberSummary:
    """Fit one member of a prepared committee to its finished checkpoint; a fit that was killed resumes.

    Members are fitted at once on any machines that share the project. `train` then assembles the potential.

    Args:
        project: project with a preparation, or its directory.
        member: its number, from 1.
        on_epoch: called after each epoch.
        device: what to compute on. If the derivatives do not fit on a GPU, it is the CPU.
        on_fallback: called with what is done in place of what was asked for, and why.

    Raises:
        MissingInputError: nothing is prepared.
        StaleError: the project has changed since.
        UsageError: there is no such member, no such device, or no GPU that TensorFlow can use.
        InputError: the preparation is damaged, or the fit diverges.
    """
    begin = time.perf_counter()
    snapshot = Snapshot.of(project)
    project = snapshot.project
    preparation = require_preparation(snapshot, member)
    threads = thread_count()
    configure_threads(threads, known_device(device))
    settings = preparation.resolved
    task = member_task(project, preparation, member)

    def fitted(device: Device) -> Fit:
        fit = task.begin()
        fit.run(task.resumption, on_epoch, threads, device)
        return fit

    try:
        fit, _ = with_fallback(fitted, device, threads, on_fallback)
    except FloatingPointError as error:
        raise diverged(error, settings) from None
    return MemberSummary(
        member=member,
        members=len(preparation.members),
        epochs=len(fit.history),
        seconds=time.perf_counter() - begin,
        fitted=preparation.fitted(project),
    )


def member_task(project: Project, preparation: Preparation, member: int) -> MemberTask:
    """The fit of one member of a preparation."""
    settings, derivatives, strains = preparation.resolved, preparation.derivatives, preparation.strains
    features = preparation.taught(project).features_directory
    return MemberTask(
        data=preparation.data_file(project),
        derivatives=None if derivatives is None else features / derivatives,
        strains=None if strains is None else features / strains,
        features=preparation.features_file(project) if preparation.has_features_file else None,
        elements=settings.elements,
        n_features=settings.n_features,
        network=settings.network,
        training=settings.training,
        seed=settings.training.seed,
        member=member,
        resumption=Resumption(project.checkpoint_file(member), preparation.members[member - 1]),
    )


def diverged(error: FloatingPointError, parameters: ParameterSet) -> InputError:
    """The error of a fit whose loss is not finite."""
    advice = f"try a learning_rate below {parameters.training.learning_rate:g}"
    return InputError(f"the fit diverged: {error}; {advice}")
