"""Where the networks of students begin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from projects import structures_with_forces
from workflow.students import FORCES, project_of_student

from tio2nn.parameters import auto_recipe
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.project.facts import resolved
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.workflow.distill import Teacher, read_teacher
from tio2nn.workflow.fine_tune import begun_from, read_origin
from tio2nn.workflow.inputs import own_split
from tio2nn.workflow.lessons import Distillation
from tio2nn.workflow.students import beginning, resolved_student
from tio2nn.workflow.train import train


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_of_student(tmp_path / "p")


def wanted(nodes: int = 16, members: int = 1, **network: Any) -> ParameterSet:
    return FORCES.with_overrides(
        network={"hidden_layers": [nodes, nodes], **network},
        training={"members": members, "epochs": 1, "learning_rate": 1e-12},
    )


def taught_by(file: Path, project: Project) -> Teacher:
    return read_teacher(Distillation(file), FORCES, project)


@pytest.mark.parametrize("nodes", [16, 24])
def test_a_student_begins_with_the_mean_of_the_networks_that_its_layers_hold(
    project: Project, teacher: Path, nodes: int
) -> None:
    committee = Potential.load(teacher)
    train(project, wanted(nodes), lesson=Distillation(teacher, copies=1), jobs=1)
    student = Potential.load(project.potential_file)
    expected = replace(committee, members=committee.members[: nodes // 8], repulsion=None)
    judges = structures_with_forces()
    found, said = (own.predict(judges, forces=True) for own in (replace(student, repulsion=None), expected))
    for ours, theirs in zip(found, said, strict=True):
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-4)
        np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-4)
    assert "origin" not in student.about
    assert student.reference_energies == committee.reference_energies


@pytest.mark.parametrize(
    ("nodes", "with_what"), [(16, "networks of {} side by side"), (12, "random weights")]
)
def test_train_says_where_a_student_begins(
    project: Project, teacher: Path, nodes: int, with_what: str
) -> None:
    project.parameters_file.write_text(wanted(nodes).to_json(), encoding="utf-8")
    _, err = invoke("train", "-C", project.root, "--distill", teacher, "--copies", 0, "-j", 1)
    assert f"beginning with {with_what.format(teacher)}\n" in err


def test_students_of_one_committee_begin_apart(project: Project, teacher: Path) -> None:
    start = beginning(taught_by(teacher, project), wanted(members=3))
    assert start is not None
    first = [member[0][0].kernel for member in start.potential.members]
    assert len({kernel.tobytes() for kernel in first}) == 3


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(wanted(8), id="one network alone"),
        pytest.param(wanted(12), id="no whole number of networks"),
        pytest.param(wanted(32), id="more networks than there are"),
        pytest.param(wanted(activation="softplus"), id="another activation"),
        pytest.param(wanted(whitening=False), id="no whitening"),
        pytest.param(wanted(whitening_floor=0.1), id="another whitening"),
        pytest.param(
            wanted().with_overrides(reference_energies={"Ti": -35.0, "O": -129.5}),
            id="given reference energies",
        ),
        pytest.param(wanted(members=4), id="more students than networks"),
        pytest.param(wanted(24, members=2), id="students that would be the same"),
    ],
)
def test_other_networks_begin_with_random_weights(
    project: Project, teacher: Path, asked: ParameterSet
) -> None:
    assert beginning(taught_by(teacher, project), asked) is None


@pytest.mark.parametrize(("networks", "taken"), [(1, 1), (2, 2), (3, 2), (4, 3), (6, 3)])
def test_a_student_has_the_nodes_of_some_networks_and_learns_slowly_where_it_begins_as_these(
    tmp_path: Path, project: Project, teacher: Path, networks: int, taken: int
) -> None:
    committee = Potential.load(teacher)
    members = (committee.members * 2)[:networks]
    replace(committee, members=members).save(tmp_path / "teacher.npz")
    lesson = Distillation(tmp_path / "teacher.npz", copies=4)
    schedule = {"epochs": 80, "learning_rate": 0.01}
    snapshot = Snapshot(project)

    def settings_of(parameters: ParameterSet) -> ParameterSet:
        taught = read_teacher(lesson, parameters, project)
        return resolved_student(taught, parameters, snapshot.structures, own_split(snapshot), None)

    asked = FORCES.with_overrides(
        recipe="auto",
        network={"hidden_layers": None},
        training=dict.fromkeys(("members", "epochs", "learning_rate")),
    )
    alone = resolved(asked, snapshot.structures, own_split(snapshot), None).training
    found = settings_of(asked)
    assert found.network.hidden_layers == (8 * taken, 8 * taken)
    assert found.training.members == 1
    # over all epochs, a quarter of the structures that a fit without copies sees, or twice as many from random weights
    passes, rate = (0.25, 0.1) if taken > 1 else (2.0, 1.0)
    assert found.training.epochs == round(passes * alone.epochs / 5)
    assert found.training.learning_rate == pytest.approx(rate * alone.learning_rate)
    told = settings_of(asked.with_overrides(training=schedule)).training
    assert (told.epochs, told.learning_rate) == (80, 0.01)


def test_students_have_the_optimizer_of_the_recipe_and_fits_that_go_on_adam_without_decay_unless_told_otherwise(
    project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_recipe, "_FEWEST_STRUCTURES_FOR_MUON", 1)
    asked = FORCES.with_overrides(
        recipe="auto", network={"hidden_layers": None}, training={"members": None, "optimizer": None}
    )
    snapshot = Snapshot(project)
    store, split = snapshot.structures, own_split(snapshot)
    assert resolved(asked, store, split, None).training.optimizer == "muon"
    taught, origin = read_teacher(Distillation(teacher), asked, project), read_origin(teacher)
    assert resolved_student(taught, asked, store, split, None).training.optimizer == "muon"
    assert begun_from(asked, origin).training.optimizer == "adam"
    # weights that decay would forget what the potential knows, also where energies alone are learned
    alone = asked.with_overrides(training={"forces": False, "weight_decay": None})
    assert resolved(alone, store, split, None).training.weight_decay > 0.0
    assert begun_from(alone, origin).training.weight_decay == 0.0
    assert resolved_student(taught, alone, store, split, None).training.weight_decay == 0.0
    own = alone.with_overrides(training={"weight_decay": 0.1})
    assert begun_from(own, origin).training.weight_decay == 0.1
    assert resolved_student(taught, own, store, split, None).training.weight_decay == 0.1
    for own in ("adam", "muon"):
        told = asked.with_overrides(training={"optimizer": own})
        assert resolved_student(taught, told, store, split, None).training.optimizer == own
        assert begun_from(told, origin).training.optimizer == own


def test_a_student_of_other_structures_has_the_whitening_of_its_committee_unless_told_otherwise(
    tmp_path: Path, project: Project, teacher: Path
) -> None:
    committee = Potential.load(teacher)
    network = {"whitening_floor": 3e-5}  # as the recipe `record` has it for some two thousand structures
    file = tmp_path / "floor.npz"
    replace(committee, parameters=committee.parameters.with_overrides(network=network)).save(file)
    recipe = FORCES.with_overrides(
        recipe="record",
        network=dict.fromkeys(("hidden_layers", "activation", "whitening")),
        training=dict.fromkeys(("members", "epochs")),
    )
    snapshot = Snapshot(project)
    found = []
    for asked in (recipe, recipe.with_overrides(network={"whitening_floor": 0.1})):
        taught = read_teacher(Distillation(file), asked, project)
        settings = resolved_student(taught, asked, snapshot.structures, own_split(snapshot), None)
        found.append((settings.network.whitening_floor, beginning(taught, settings) is not None))
    assert found == [(3e-5, True), (0.1, False)]


def test_a_student_of_true_labels_begins_with_random_weights(project: Project, teacher: Path) -> None:
    lesson = Distillation(teacher, truth=0.5)
    assert beginning(read_teacher(lesson, FORCES, project), wanted()) is None


def test_networks_of_different_widths_are_no_beginning(
    tmp_path: Path, project: Project, teacher: Path
) -> None:
    committee = Potential.load(teacher)
    *others, last = committee.members
    narrow = tuple(
        (
            Layer(first.kernel[:, :5], first.bias[:5], first.activation),
            Layer(second.kernel[:5], second.bias, second.activation),
            *rest,
        )
        for first, second, *rest in last
    )
    replace(committee, members=(*others, narrow)).save(tmp_path / "other.npz")
    assert beginning(taught_by(tmp_path / "other.npz", project), wanted()) is None
