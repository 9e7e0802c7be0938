"""Fits that learn from a teacher: its predictions on the training structures, and on displaced copies of them.

What is taught is a project of its own in `model/lessons/`: the training structures, their copies and the validation
set, with features and derivatives that are computed, kept and resumed as those of any project. Nothing of the project
around it changes. Structures of the test set take no part in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tio2nn.cores import thread_count
from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.errors import InputError
from tio2nn.files.digests import digest_of, digest_of_file
from tio2nn.files.tables import read_json, write_json
from tio2nn.memory import memory_for_derivatives
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.enlarged import require_same_functions
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.project.facts import are_used
from tio2nn.project.freshness import Snapshot
from tio2nn.project.layout import features_beside
from tio2nn.project.preparation import Preparation
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore, write_store
from tio2nn.structures.split import Split
from tio2nn.structures.structure import Structure
from tio2nn.training.data import Fixed, Memory, TrainingData, prepare
from tio2nn.training.windows import Window
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain
from tio2nn.workflow.featurize import compute_features
from tio2nn.workflow.fine_tune import read_origin
from tio2nn.workflow.inputs import SplitRequest, choose_split, read_inputs
from tio2nn.workflow.lessons import Distillation, FineTuning, Lesson

_NO_LABELS: dict[str, Any] = {"free_energy": None, "plain_energy": None}


class Teacher(NamedTuple):
    """A potential whose predictions are learned.

    Attributes:
        potential: with the functions and elements of the project.
        digest: of its file.
        lesson: what is asked of it.
    """

    potential: Potential
    digest: str
    lesson: Distillation

    @property
    def mark(self) -> str:
        """Digest of what it teaches, besides the structures."""
        return _mark(self.digest, self.lesson)

    def for_preparation(self, lessons: str | None) -> dict[str, Any]:
        """As `Preparation.teacher`; `lessons` is the digest of what is taught."""
        asked = {name: getattr(self.lesson, name) for name in ("copies", "displacement", "truth")}
        return {"file": os.fspath(self.lesson.teacher), "digest": self.digest, **asked, "lessons": lessons}

    def as_dict(self) -> dict[str, Any]:
        """As `model/metrics.json` and the potential record it."""
        return {
            "file": os.fspath(self.lesson.teacher),
            "digest": self.mark,
            "members": len(self.potential.members),
            "copies": self.lesson.copies,
            "displacement_A": self.lesson.displacement,
            "truth": self.lesson.truth,
        }


def prepared_teacher(preparation: Preparation, project: Project) -> Teacher | None:
    """The teacher of a prepared fit; None if it has none.

    Raises:
        InputError: it is gone or damaged.
    """
    lesson, told = prepared_lesson(preparation), preparation.teacher
    if lesson is None or told is None:
        return None
    return Teacher(Potential.load(preparation.teacher_file(project)), told["digest"], lesson)


def prepared_lesson(preparation: Preparation) -> Distillation | None:
    """What the teacher of a prepared fit was asked for; None for a fit without a teacher."""
    if (told := preparation.teacher) is None:
        return None
    return Distillation(told["file"], told["copies"], told["displacement"], told["truth"])


def learns_as(preparation: Preparation, lesson: Lesson | None) -> bool:
    """Whether a prepared fit has the teacher that the command line names, if it names one."""
    if lesson is None:
        return True
    if isinstance(lesson, FineTuning):
        return read_origin(lesson.potential).digest == preparation.origin_digest
    with suppress(OSError):  # told when it is read
        return _mark(digest_of_file(Path(lesson.teacher)), lesson) == mark_of(preparation)
    return False


def mark_of(preparation: Preparation) -> str | None:
    """As `Teacher.mark`, of a prepared fit; None for one without a teacher."""
    lesson, told = prepared_lesson(preparation), preparation.teacher
    return None if lesson is None or told is None else _mark(told["digest"], lesson)


def _mark(digest: str, lesson: Distillation) -> str:
    return digest_of([digest, repr((lesson.copies, lesson.displacement, lesson.truth))])


def read_teacher(lesson: Distillation, parameters: ParameterSet, project: Project) -> Teacher:
    """The potential that teaches a project.

    Raises:
        InputError: it is no potential, one of other symmetry functions or elements, or a student of this project.
    """
    file = os.fspath(lesson.teacher)
    potential = Potential.load(file)
    own = project.potential_file
    if "teacher" in potential.about and own.exists() and own.samefile(file):
        raise InputError(
            f"expected a teacher, got a student of this project; give its teacher: --distill "
            f"{shlex.quote(_teacher_of(potential, project))}",
            file=file,
        )
    require_same_functions(potential, parameters, file, "to learn from")
    if unknown := [element for element in parameters.elements if element not in potential.elements]:
        raise InputError(
            f"expected a potential to learn from that knows {', '.join(parameters.elements)}, got one without "
            f"{', '.join(unknown)}",
            file=file,
        )
    return Teacher(potential, digest_of_file(Path(file)), lesson)


def _teacher_of(student: Potential, project: Project) -> str:
    """The file that taught a student, which a training may have renamed since."""
    told, earlier = student.about["teacher"], project.earlier_potential_file
    with suppress(OSError):
        lesson = Distillation(told["file"], told["copies"], told["displacement_A"], told["truth"])
        if _mark(digest_of_file(earlier), lesson) == told["digest"]:
            return os.fspath(earlier)
    return str(told["file"])


def keeps_committee(project: Project) -> bool:
    """Whether the earlier potential of a project is a committee, and the present one a student not to replace it."""
    files = (project.potential_file, project.earlier_potential_file)
    with suppress(InputError):
        own, earlier = (Potential.load(file) for file in files)
        return "teacher" in own.about and len(own.members) < len(earlier.members)
    return False


def write_lessons(
    snapshot: Snapshot, parameters: ParameterSet, split: Split, teacher: Teacher, threads: int
) -> Snapshot:
    """Let the teacher label the training structures of a split and copies of them, unless it has.

    Args:
        snapshot: of the project.
        parameters: of the fit.
        split: of its structures.
        teacher: of the project.
        threads: that work at the same time.

    Returns:
        The project of what is taught, without features yet if they are not there from an interrupted training.
    """
    root, store = snapshot.project.lessons_directory, snapshot.structures
    if root.is_symlink():
        raise InputError("refusing to write through a symbolic link", file=str(root))
    mark = snapshot.project.lessons_mark
    digest = digest_of(
        [
            fingerprint(parameters),
            teacher.mark,
            str(parameters.training.seed),
            *store.geometry_hashes,
            store.digest_of_energies,
            store.digest_of_forces,
            str(store.digest_of_stresses),
            *([] if store.weights is None else map(str, store.weights.tolist())),
            *split.parts,
        ]
    )
    if _found(mark) == digest:
        return Snapshot(Project(root))
    shutil.rmtree(root, ignore_errors=True)
    project = Project.create(
        root, parameters.with_overrides(training={"max_energy": None, "outliers": "keep"})
    )
    project.structures_file.parent.mkdir()
    write_store(
        project.structures_file, list(_lessons(store, split, teacher, parameters.training.seed, threads))
    )
    write_json(mark, {"digest": digest, "options": teacher.lesson.options()})
    return Snapshot(project)


def teach(
    snapshot: Snapshot, parameters: ParameterSet, split: Split, teacher: Teacher, jobs: int
) -> Snapshot:
    """As `write_lessons`, with features, and derivatives if a fit with these parameters needs those of the project."""
    lessons = write_lessons(snapshot, parameters, split, teacher, jobs)
    compute_features(lessons, jobs=jobs)
    if snapshot.needs_derivatives(parameters):
        differentiate(lessons, jobs=jobs, insist=parameters.training.forces is True)
    if snapshot.needs_strains(parameters):
        differentiate_by_strain(lessons, jobs=jobs, insist=parameters.training.forces is True)
    return lessons


def lessons_of(
    snapshot: Snapshot,
    parameters: ParameterSet,
    request: SplitRequest,
    teacher: Teacher,
    jobs: int | None,
) -> Snapshot:
    """As `write_lessons`, for the split that a fit with these parameters will use."""
    split = choose_split(snapshot, parameters, request)
    used = split.restricted_to(are_used(parameters, snapshot.structures))
    return write_lessons(snapshot, parameters, used, teacher, thread_count(jobs))


def remove_lessons(project: Project) -> None:
    """Remove the lessons of a fit that has ended or was abandoned."""
    shutil.rmtree(project.lessons_directory, ignore_errors=True)


def digest_of_lessons(project: Project) -> str | None:
    """Digest of the complete lessons in `model/lessons`; None if there are none."""
    return _found(project.lessons_mark)


def _found(mark: Path) -> str | None:
    with suppress(InputError, KeyError, TypeError):
        return str(read_json(mark)["digest"])
    return None


def _lessons(
    store: StructureStore, split: Split, teacher: Teacher, seed: int, threads: int
) -> Iterator[Structure]:
    """Training structures and their copies with the teacher's labels, then the validation set with its own."""
    lesson = teacher.lesson
    # each network has a repulsion added to it, and learns what lies below
    networks = replace(teacher.potential, repulsion=None)
    originals = [store[k] for k in split.indices("train").tolist()]
    say = partial(networks.predict, forces=True, forces_spread=False, threads=threads)
    for prediction in say(originals):
        own, said = prediction.structure, _said(prediction)
        labels = {
            name: _mixed(getattr(said, name), getattr(own, name), lesson.truth)
            for name in ("energy", "forces", "stress")
        }
        yield replace(said, **labels)
    for prediction in say(_copies(originals, lesson, seed)):
        if prediction.unusable() is None:
            yield _said(prediction)
    for k in split.indices("validation").tolist():
        yield replace(store[k], **_NO_LABELS)


def _said(prediction: Prediction) -> Structure:
    """The structure with the labels of a prediction; a stress only where it, or what it is a copy of, has one."""
    stress = None if prediction.structure.stress is None else prediction.stress
    return replace(
        prediction.structure,
        energy=prediction.energy,
        forces=prediction.forces,
        stress=stress,
        **_NO_LABELS,
    )


def _mixed(said: Any, true: Any, truth: float) -> Any:
    """A label of the teacher, with this weight of the true one, if there is one."""
    return said if true is None else (1.0 - truth) * said + truth * true


def _copies(originals: list[Structure], lesson: Distillation, seed: int) -> Iterator[Structure]:
    for number in range(1, lesson.copies + 1):
        for k, structure in enumerate(originals):
            random = np.random.default_rng([seed, number, k])
            shifts = random.normal(0.0, lesson.displacement, structure.positions.shape)
            yield replace(
                structure,
                name=f"{structure.name} copy {number}",
                positions=structure.positions + shifts,
                **_NO_LABELS,
            )


def taught(
    data: TrainingData, lessons: Snapshot, processes: int, preparation: Preparation | None = None
) -> TrainingData:
    """The data of a fit with what is taught in place of the labels of its training set.

    Args:
        data: of the fit without a teacher.
        lessons: with features, and derivatives if the fit is one to forces.
        processes: that may train at the same time.
        preparation: an earlier one of the same fit, whose windows are used.
    """
    parameters = data.parameters.with_overrides(training={"max_energy": None, "outliers": "keep"})
    inputs = read_inputs(lessons, parameters)
    n_validation = len(data.validation.counts)
    n = len(inputs.store)
    parts = ("train",) * (n - n_validation) + ("validation",) * n_validation
    memory = Memory(memory_for_derivatives(), processes, features_beside(lessons.project.fit_data_file))
    n_features = parameters.n_features * int(inputs.store.n_atoms.sum())
    has_features = memory.file_for(n_features, None) is not None
    n_values = sum(len(own) for own in (inputs.jacobian, inputs.strains) if own is not None)
    if preparation is not None:
        window = None if preparation.window is None else Window.read(preparation.window)
    else:
        window = Window.of(
            n_values + n_features * has_features,
            memory.n_bytes,
            parameters.n_features,
            processes,
            has_features=has_features,
        )
    fixed = Fixed(data.reference.as_dict(), data.whitenings, window)
    found = prepare(inputs, parameters, Split(inputs.store.names, parts), fixed, memory)
    return replace(
        data,
        facts=found.facts,
        train=found.train,
        train_labels=found.train_labels,
        validation=found.validation,
        validation_labels=found.validation_labels,
        train_forces=found.train_forces,
        validation_forces=found.validation_forces,
        train_stress=found.train_stress,
        validation_stress=found.validation_stress,
        window=found.window,
        fingerprint=digest_of([data.fingerprint, found.fingerprint]),
    )
