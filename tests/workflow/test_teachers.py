"""Teachers that are refused, and what is said of those that are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import invoke, refusal
from projects import PARAMETERS, small_project, structures_with_forces, trained_project
from workflow.students import lessons, project_of_student

from tio2nn.errors import InputError
from tio2nn.project.project import Project
from tio2nn.workflow.lessons import Distillation
from tio2nn.workflow.train import train


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """24 structures, all but one with forces; the first ones for validation and test."""
    return project_of_student(tmp_path / "p")


def test_a_teacher_of_other_functions_or_elements_is_refused(tmp_path: Path, teacher: Path) -> None:
    other = small_project(tmp_path / "cutoff", PARAMETERS.with_overrides(cutoff=4.5))
    with pytest.raises(
        InputError, match=r"to learn from with the .* of the project \(cutoff 4.5 Å\), got one with 4"
    ):
        train(other, lesson=Distillation(teacher), jobs=1)
    lithium = [replace(s, elements=("Li", *s.elements[1:])) for s in structures_with_forces()]
    elements = PARAMETERS.with_overrides(elements=["Ti", "O", "Li"])
    with pytest.raises(InputError, match="that knows Ti, O, Li, got one without Li"):
        train(small_project(tmp_path / "more", elements, lithium), lesson=Distillation(teacher), jobs=1)


def test_lessons_are_not_written_through_a_link(project: Project, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    project.model_directory.mkdir()
    project.lessons_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="refusing to write through a symbolic link"):
        lessons(project, Distillation(teacher))


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--distill", "missing.npz"), 3, "missing.npz: no such file"),
        (
            ("--distill", "text"),
            3,
            "text: expected a potential written by tio2nn train, got another kind of file",
        ),
        (("--distill", "T", "--from", "T"), 2, "expected either --from or --distill, got both"),
        (("--distill", "T", "--member", 1), 2, "--member takes its settings from the preparation"),
        (("--copies", 2), 2, "--copies: expected --distill as well, got none"),
        (("--truth", 0.5), 2, "--truth: expected --distill as well, got none"),
        (("--distill", "T", "--truth", 1.5), 2, "--truth: expected a number from 0 to 1, got 1.5"),
        (
            ("--distill", "T", "--displacement", 0),
            2,
            "--displacement: expected a number above 0, at most 0.5 (Å; ",
        ),
        (
            ("--distill", "T", "--displacement", "nan"),
            2,
            "--displacement: expected a number above 0, at most 0.5 (Å; ",
        ),
        (
            ("--distill", "T", "--displacement", 50),
            2,
            "--displacement: expected a number above 0, at most 0.5 (Å; with more, atoms come closer than a teacher",
        ),
        (("--distill", "T", "--copies", 5000), 2, "--copies: expected a number from 0 to 1000, got 5000"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    project: Project,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    expected: str,
) -> None:
    monkeypatch.chdir(project.root.parent)
    Path("text").write_text("no potential\n")
    given = [teacher if word == "T" else word for word in words]
    assert refusal("train", "-C", "p", *given, code=code).startswith(expected)


@pytest.mark.slow
def test_a_teacher_that_may_know_the_test_set_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(project, jobs=1)
    Path("before.npz").write_bytes(project.potential_file.read_bytes())
    words = ("train", "-C", "p", "--distill", "before.npz", "--copies", 0, "--epochs", 1, "-j", 1)
    _, err = invoke(*words)
    assert "with another split" not in err
    _, err = invoke(*words, "--new-split")
    assert "warning: before.npz was trained on these structures with another split" in err
    _, err = invoke("train", "-C", "p", "--from", "before.npz", "--epochs", 1, "-j", 1)
    assert "warning: before.npz was trained on these structures with another split" in err


def test_a_single_network_may_teach_and_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = trained_project(tmp_path / "single").potential_file
    monkeypatch.chdir(tmp_path)
    _, err = invoke("train", "-C", "p", "--distill", single, "--copies", 1, "--epochs", 1, "-j", 1)
    assert "warning: the teacher is a single network: the student learns its errors too" in err
    assert "1 copy of each, displaced by 0.05 Å" in err
    assert "beginning with random weights" in err
    metrics = json.loads(project.training_metrics_file.read_text(encoding="utf-8"))
    assert metrics["teacher"]["file"] == str(single)


@pytest.mark.usefixtures("eager")
def test_a_committee_survives_its_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = trained_project(tmp_path / "p", training={"members": 2})
    committee = project.potential_file.read_bytes()
    words = ("train", "-C", "p", "--copies", 0, "--epochs", 1, "--members", 1, "-j", 1, "--distill")
    invoke(*words, "p/model/potential.npz")
    student = project.potential_file.read_bytes()
    assert project.earlier_potential_file.read_bytes() == committee
    assert refusal(*words, "p/model/potential.npz", code=3).startswith(
        "p/model/potential.npz: expected a teacher, got a student of this project; give its teacher: --distill "
        "p/model/potential-earlier.npz"
    )
    assert project.potential_file.read_bytes() == student
    assert project.earlier_potential_file.read_bytes() == committee
    _, err = invoke(*words, "p/model/potential-earlier.npz", "--seed", 1)
    assert "p/model/potential-earlier.npz still holds the committee" in err
    assert project.potential_file.read_bytes() != student
    assert project.earlier_potential_file.read_bytes() == committee


@pytest.mark.usefixtures("eager")
def test_a_student_of_a_teacher_elsewhere_names_it(
    project: Project, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root.parent)
    words = ("train", "-C", "p", "--copies", 0, "--epochs", 1, "-j", 1, "--distill")
    invoke(*words, teacher)
    assert refusal(*words, project.potential_file, code=3).endswith(f"give its teacher: --distill {teacher}")
