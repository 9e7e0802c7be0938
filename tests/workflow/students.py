"""Projects of students, what teachers tell them, and what is left of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from projects import PARAMETERS, no_pool, small_project, structures_with_forces, trained_project

from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore, read_store
from tio2nn.structures.split import Split
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.distill import lessons_of, read_teacher
from tio2nn.workflow.inputs import PROJECTS_OWN
from tio2nn.workflow.lessons import Distillation

PARTS = ("test",) * 5 + ("validation",) * 3 + ("train",) * 16
FORCES = PARAMETERS.with_overrides(training={"forces": True, "epochs": 4, "members": 1})


def three_networks(root: Path) -> Path:
    """The potential of a teacher."""
    return Path(trained_project(root, training={"members": 3, "epochs": 30}).potential_file)


def project_of_student(root: Path) -> Project:
    """24 structures, all but one with forces; the first ones for validation and test."""
    made = small_project(root, FORCES, structures_with_forces())
    differentiate(made, jobs=1, make_executor=no_pool)
    store = read_store(made.structures_file)
    Split(store.names, PARTS).write(made.split_file, store.groups)
    return made


def lessons(project: Project, lesson: Distillation) -> StructureStore:
    """What the teacher says."""
    parameters = project.parameters()
    found = lessons_of(
        Snapshot(project), parameters, PROJECTS_OWN, read_teacher(lesson, parameters, project), 1
    )
    return found.structures


def arrays(project: Project) -> dict[str, bytes]:
    """The bits of a potential, whatever its header says."""
    with np.load(project.potential_file) as content:
        return {name: content[name].tobytes() for name in content.files if name != "header"}


def content_of(directory: Path) -> dict[str, str]:
    """Digests of all files below a directory."""
    return {
        str(path.relative_to(directory)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
