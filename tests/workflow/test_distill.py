"""Fits that learn from a teacher."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refusal
from projects import ATOMIC_ENERGIES, small_project, structures_with_forces
from workflow.students import FORCES, arrays, content_of, lessons, project_of_student

from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import write_store
from tio2nn.structures.split import read_parts
from tio2nn.training import fit as training
from tio2nn.training.data import TrainingData
from tio2nn.training.history import Epoch
from tio2nn.workflow import distill
from tio2nn.workflow.distill import lessons_of, read_teacher
from tio2nn.workflow.inputs import PROJECTS_OWN
from tio2nn.workflow.lessons import Distillation
from tio2nn.workflow.train import TrainListener, train


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """24 structures, all but one with forces; the first ones for validation and test."""
    return project_of_student(tmp_path / "p")


# --- what is taught -------------------------------------------------------------------------------------------


def test_the_teacher_labels_training_structures_and_displaced_copies_of_them(
    project: Project, teacher: Path
) -> None:
    found = lessons(project, Distillation(teacher, copies=2, displacement=0.03))
    parts = read_parts(project.split_file)
    of_part = {part: [name for name in parts if parts[name] == part] for part in set(parts.values())}
    originals, copies, validation = found.names[:16], found.names[16:48], found.names[48:]
    assert list(originals) == of_part["train"]
    assert list(copies) == [f"{name} copy {k}" for k in (1, 2) for name in of_part["train"]]
    assert list(validation) == of_part["validation"]
    assert not any(name.startswith(tuple(of_part["test"])) for name in found.names)
    own = {structure.name: structure for structure in structures_with_forces()}
    networks = replace(Potential.load(teacher), repulsion=None)
    for structure in (found[k] for k in range(48)):
        (said,) = networks.predict([replace(structure, energy=None, forces=None)], forces=True)
        assert structure.energy == said.energy
        np.testing.assert_array_equal(structure.forces, said.forces)
    shifts = np.concatenate(
        [(found[k].positions - own[found.names[k].split()[0]].positions).ravel() for k in range(16, 48)]
    )
    assert np.std(shifts) == pytest.approx(0.03, rel=0.1)
    assert abs(shifts).max() < 0.15
    for k in range(48, 51):
        assert found[k].energy == own[found.names[k]].energy


def test_labels_of_the_truth_can_be_mixed_in(project: Project, teacher: Path) -> None:
    said = lessons(project, Distillation(teacher, copies=1))
    half = lessons(project, Distillation(teacher, copies=1, truth=0.5))
    true = lessons(project, Distillation(teacher, copies=1, truth=1.0))
    own = {structure.name: structure for structure in structures_with_forces()}
    for k in range(16):
        assert true[k].energy == own[true.names[k]].energy
        np.testing.assert_array_equal(true[k].forces, own[true.names[k]].forces)
        assert half[k].energy == pytest.approx(0.5 * (said[k].energy + own[said.names[k]].energy), abs=1e-9)
        np.testing.assert_allclose(half[k].forces, 0.5 * (said[k].forces + true[k].forces), atol=1e-12)
    for k in range(16, 32):
        assert half[k].energy == true[k].energy == said[k].energy


def test_stresses_are_taught_where_structures_have_them(project: Project, teacher: Path) -> None:
    stress = np.diag([0.1, 0.2, 0.3])
    labeled = [replace(s, stress=stress if k % 2 else None) for k, s in enumerate(structures_with_forces())]
    write_store(project.structures_file, labeled, reference_energies=ATOMIC_ENERGIES)
    found = lessons(project, Distillation(teacher, copies=1))
    networks = replace(Potential.load(teacher), repulsion=None)
    own = {structure.name: structure for structure in labeled}
    for structure in (found[k] for k in range(32)):
        if own[structure.name.split()[0]].stress is None:
            assert structure.stress is None
            continue
        (said,) = networks.predict([structure], forces=True)
        np.testing.assert_array_equal(structure.stress, said.stress)
    for k in range(32, 35):
        np.testing.assert_equal(found[k].stress, own[found.names[k]].stress)


def test_copies_come_from_the_seed(project: Project, teacher: Path) -> None:
    lesson = Distillation(teacher, copies=1)
    parameters = project.parameters()
    found = [
        lessons_of(
            Snapshot(project), own, PROJECTS_OWN, read_teacher(lesson, own, project), 1
        ).structures.geometry_hashes
        for own in (parameters, parameters, parameters.with_overrides(training={"seed": 1}))
    ]
    assert found[0] == found[1]
    assert found[0][:16] == found[2][:16]
    assert not set(found[0][16:32]) & set(found[2][16:32])


# --- fits -----------------------------------------------------------------------------------------------------


def test_one_network_learns_what_several_say_and_leaves_nothing_but_its_record(
    project: Project, teacher: Path
) -> None:
    before = content_of(project.features_directory)
    parameters = FORCES.with_overrides(
        recipe="auto", training={"epochs": 150, "members": None, "forces": True, "learning_rate": 0.01}
    )
    heard: list[TrainingData] = []
    summary = train(
        project,
        parameters,
        lesson=Distillation(teacher, copies=4),
        jobs=1,
        listener=TrainListener(on_data=heard.append),
    )
    assert content_of(project.features_directory) == before
    assert not project.lessons_directory.exists()
    assert (summary.n_train, summary.members, len(heard[0].train.counts)) == (16, 1, 80)
    student, wise = Potential.load(project.potential_file), Potential.load(teacher)
    assert student.about["teacher"]["members"] == 3
    assert student.about["teacher"]["copies"] == 4
    # on structures that neither was taught
    judges = structures_with_forces()[:5]
    said = [p.energy for p in wise.predict(judges)]
    distance = [
        (p.energy - e) / p.structure.n_atoms for p, e in zip(student.predict(judges), said, strict=True)
    ]
    spread = np.std([e / s.n_atoms for e, s in zip(said, judges, strict=True)])
    assert float(np.sqrt(np.mean(np.square(distance)))) < 0.2 * spread


@pytest.mark.usefixtures("eager")
def test_structures_held_out_change_no_bit(project: Project, teacher: Path) -> None:
    lesson = Distillation(teacher, copies=1)
    train(project, lesson=lesson, jobs=1)
    before, parts = arrays(project), read_parts(project.split_file)
    changed = [
        replace(s, energy=s.energy + 5.0 * (parts[s.name] == "test"))
        for s in structures_with_forces()
        if s.energy is not None
    ]
    write_store(project.structures_file, changed, reference_energies=ATOMIC_ENERGIES)
    train(project, lesson=lesson, jobs=1)
    assert arrays(project) == before


@pytest.mark.usefixtures("eager")
def test_an_interrupted_fit_goes_on_without_asking_the_teacher_again(
    tmp_path: Path, project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = Distillation(teacher, copies=1)
    undisturbed = project_of_student(tmp_path / "undisturbed")
    train(undisturbed, lesson=lesson, jobs=1)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)

    def interrupt(_member: int, epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(project, lesson=lesson, jobs=1, listener=TrainListener(on_epoch=interrupt))
    assert project.lessons_directory.exists()

    def nothing(*_: object, **__: object) -> Iterator[Any]:
        raise AssertionError("expected no prediction")

    before = content_of(project.lessons_directory)
    monkeypatch.setattr(distill, "_lessons", nothing)
    epochs: list[int] = []
    heard: list[dict[str, str]] = []
    listener = TrainListener(
        on_data=lambda _: heard.append(content_of(project.lessons_directory)),
        on_epoch=lambda _, epoch: epochs.append(epoch.epoch),
    )
    train(project, lesson=lesson, jobs=1, listener=listener)
    assert heard == [before]
    assert epochs == [3, 4]
    assert arrays(project) == arrays(undisturbed)


def test_students_that_are_fitted_one_by_one_have_the_bits_of_one_command(
    tmp_path: Path, project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = project_of_student(tmp_path / "whole")
    own = tmp_path / "teacher.npz"
    own.write_bytes(teacher.read_bytes())
    options = ("--distill", own, "--copies", 1, "--members", 2)
    invoke("train", "-C", whole.root, *options, "-j", 1)
    _, said = invoke("train", "-C", "p", *options, "--prepare")
    assert "learning from" in said
    own.unlink()  # the preparation has a copy
    assert list(project.model_directory.glob("prepared-by-*.npz"))
    for member in (2, 1):
        invoke("train", "-C", "p", "--member", member)
    _, said = invoke("train", "-C", "p", "-j", 1)
    assert "found all 2 members fitted" in said
    assert "starting over" not in said
    assert arrays(project) == arrays(whole)
    about = Potential.load(project.potential_file).about
    assert about["teacher"] == Potential.load(whole.potential_file).about["teacher"]
    left = {path.name for path in project.model_directory.iterdir()}
    assert left == {path.name for path in whole.model_directory.iterdir()}


@pytest.mark.usefixtures("eager")
def test_a_preparation_for_another_teacher_or_without_lessons_is_not_used(
    tmp_path: Path, project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "-C", "p", "--distill", teacher, "--epochs", 1)
    invoke(*words, "--copies", 0, "--prepare")
    _, said = invoke(*words, "--copies", 1, "-j", 1)
    assert "warning: the members were prepared with other settings; starting over" in said
    invoke(*words, "--copies", 0, "--prepare")
    shutil.rmtree(project.lessons_directory)
    line = refusal("train", "-C", "p", "--member", 1, code=3)
    again = f"tio2nn train -C p --prepare --distill {teacher} --copies 0"
    assert line == f'the preparation in p was made with other lessons; run "{again}" again'
    invoke("train", "-C", "p", "--prepare", "--epochs", 1)
    assert not list(project.model_directory.glob("prepared-by-*.npz"))


def test_ranks_fit_a_student_together(
    tmp_path: Path, project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("train", "-C", "p", "--distill", teacher, "--copies", 1, "--prepare")
    invoke("train", "-C", "p", "--rank", "1/1")
    _, said = invoke("train", "-C", "p", "-j", 1)
    assert "fitted" in said
    assert Potential.load(project.potential_file).about["teacher"]["copies"] == 1


def test_another_training_removes_the_lessons_of_one_that_was_killed(
    project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("tio2nn.workflow.train.compile_loops", stop)
        with pytest.raises(KeyboardInterrupt):
            train(project, lesson=Distillation(teacher, copies=2), jobs=1)
        assert project.lessons_directory.exists()
        out, _ = invoke("status", "-C", project.root)
        told = " ".join(out.split())
        assert (
            f'interrupted; "tio2nn train -C {project.root} --distill {teacher} --copies 2" resumes it' in told
        )
        assert told.endswith(f"next: tio2nn train -C {project.root} --distill {teacher} --copies 2")
        with pytest.raises(KeyboardInterrupt):
            train(project, jobs=1, listener=TrainListener(on_data=stop))
    assert not project.lessons_directory.exists()
    assert "--distill" not in invoke("status", "-C", project.root)[0]


@pytest.mark.parametrize(("memory", "has_features"), [("0.0001", False), ("0.000002", True)])
def test_derivatives_and_features_beyond_memory_are_read_in_windows(
    project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch, memory: str, has_features: bool
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", memory)
    heard: list[TrainingData] = []
    train(
        project, lesson=Distillation(teacher, copies=2), jobs=1, listener=TrainListener(on_data=heard.append)
    )
    assert heard[0].window is not None
    assert heard[0].window.has_features == has_features
    assert heard[0].train_forces is not None
    assert list(project.root.rglob("*.f32")) == list(project.features_directory.glob("*.f32"))


def test_energies_alone_can_be_learnt(tmp_path: Path, teacher: Path) -> None:
    project = small_project(tmp_path / "p")
    heard: list[TrainingData] = []
    train(project, lesson=Distillation(teacher), jobs=1, listener=TrainListener(on_data=heard.append))
    assert heard[0].train_forces is None
    assert len(heard[0].train.counts) == 2 * len(heard[0].split.indices("train"))
