"""What train --distill does before the fit: a teacher labels structures and copies of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tio2nn.cli import console, featurize
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.cli.pools import Pool
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import Distillation


def perform(
    snapshot: Snapshot,
    parameters: ParameterSet,
    split: SplitRequest,
    lesson: Distillation,
    workers: Pool,
) -> None:
    """Let the teacher label, compute what training on its labels needs, and report it."""
    from tio2nn.workflow.distill import lessons_of, read_teacher

    teacher = read_teacher(lesson, parameters)
    members = len(teacher.potential.members)
    if members == 1:
        console.warn("the teacher is a single network: its errors are learnt, and no others cancel them")
    with console.compile_notice("the forces"):
        lessons = lessons_of(snapshot, parameters, split, teacher, workers.jobs)
    n = len(lessons.structures)
    console.say(
        f"learning from {lesson.teacher}, {counted(members, 'network')}: training structures and "
        f"{counted(lesson.copies, 'copy', 'copies')} of each, displaced by {lesson.displacement:g} Å; with the "
        f"validation set {counted(n, 'structure')}"
    )
    featurize.perform(lessons, workers)
    featurize.differentiate_if_needed(lessons, parameters, workers)
