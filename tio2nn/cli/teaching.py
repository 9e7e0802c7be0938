"""What train --distill does before the fit: a teacher labels structures and copies of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tio2nn.cli import console, featurize
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.cli.pools import Pool
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.data import TrainingData
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import Distillation, Lesson


def perform(
    snapshot: Snapshot,
    parameters: ParameterSet,
    split: SplitRequest,
    lesson: Distillation,
    workers: Pool,
) -> None:
    """Let the teacher label, compute what training on its labels needs, and report it."""
    from tio2nn.workflow.distill import lessons_of, read_teacher

    teacher = read_teacher(lesson, parameters, snapshot.project)
    members = len(teacher.potential.members)
    if members == 1:
        console.warn(
            "the teacher is a single network: the student learns its errors too, which a committee would average out"
        )
    with console.compile_notice("the loops of the fit"):
        lessons = lessons_of(snapshot, parameters, split, teacher, workers.jobs)
    n = len(lessons.structures)
    console.say(
        f"learning from {lesson.teacher}, {counted(members, 'network')}: training structures and "
        f"{counted(lesson.copies, 'copy', 'copies')} of each, displaced by {lesson.displacement:g} Å; with the "
        f"validation set {counted(n, 'structure')}"
    )
    featurize.perform(lessons, workers)
    if snapshot.needs_derivatives(parameters):
        featurize.differentiate(lessons, workers, insist=parameters.training.forces is True)
    if snapshot.needs_strains(parameters):
        featurize.differentiate_by_strain(lessons, workers, insist=parameters.training.forces is True)


def show_beginning(snapshot: Snapshot, lesson: Lesson, data: TrainingData) -> None:
    """Say where students begin; warn if the potential may know structures that this fit holds out."""
    from tio2nn.potential.potential import Potential
    from tio2nn.workflow.lessons import Distillation

    if isinstance(lesson, Distillation):
        file = lesson.teacher
        weights = "random weights" if data.first_weights is None else f"networks of {file} side by side"
        console.say(f"beginning with {weights}")
    else:
        file = lesson.potential
    then, now = Potential.load(file).about.get("inputs", {}), snapshot.inputs(snapshot.parameters)
    if then.get("energies") == now["energies"] and then.get("split") != now["split"]:
        console.warn(
            f"{file} was trained on these structures with another split: it may have seen structures that are "
            "held out here, so errors on these mean little"
        )
