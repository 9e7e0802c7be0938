"""train --rank: processes that compute the same batches together, against one process."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import end_all, invoke, refusal
from commands import potential_of
from job_arrays import start_part
from projects import PARAMETERS, no_pool, small_project, structures_with_forces, structures_with_stress

from tio2nn.project.preparation import Preparation
from tio2nn.project.project import Project
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain
from tio2nn.workflow.members import fit_member, prepare_members
from tio2nn.workflow.ranks import fit_rank
from tio2nn.workflow.train import train

EPOCHS = 8
LOSS = 3  # column of the history
FIT = {"epochs": EPOCHS, "batch_size": 6, "members": 2, "force_weight": 1.0}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIO2NN_THREADS", "1")


def history_of(project: Project) -> np.ndarray:
    """(n_members * n_epochs, n_columns) of the history without the time; NaN where there is nothing."""
    with project.history_file.open(encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    return np.array([[float(cell or "nan") for cell in row[:-1]] for row in rows])


def start_ranks(project: Project, n: int, *options: object) -> list[subprocess.Popen[str]]:
    """All ranks, as processes of their own."""
    here, name = project.root.parent, project.root.name
    return [start_part(here, "train", "-C", name, "--rank", f"{k}/{n}", *options) for k in range(1, n + 1)]


def fitted_by_ranks(project: Project, n: int) -> list[str]:
    """What each of the ranks says that fit a preparation to the end."""
    ended = end_all(start_ranks(project, n))
    told = [err for _, _, err in ended]
    assert [(code, out) for code, out, _ in ended] == [(0, "")] * n, "\n".join(told)
    assert not project.ranks_file.exists()
    return told


def with_stress(root: Path) -> Project:
    """A project of structures of which some have no forces, and some no stress."""
    parameters = PARAMETERS.with_overrides(training={**FIT, "forces": True, "stress": True})
    project = small_project(root, parameters, structures_with_stress())
    differentiate(project, jobs=1, make_executor=no_pool)
    differentiate_by_strain(project, jobs=1, make_executor=no_pool)
    return project


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose committee two ranks have fitted, on energies, forces and stress."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv("TIO2NN_THREADS", "1")
        project = with_stress(tmp_path_factory.mktemp("two") / "p")
        prepare_members(project)
        first, second = fitted_by_ranks(project, 2)
        assert "member 2, epoch 8/8: RMSE training" in first
        assert "epoch" not in second
        for number, err in enumerate((first, second), start=1):
            assert err.splitlines()[-1].startswith(f"rank {number} of 2: fitted in ")
            assert err.endswith('; members 1 and 2 of 2 fitted; run "tio2nn train -C p"\n')
        _, err = invoke("train", "-C", project.root)
        assert err.splitlines()[0] == "found all 2 members fitted"
    return project


def assert_same_losses(project: Project, one: Project) -> None:
    found, expected = history_of(project), history_of(one)
    np.testing.assert_allclose(found, expected, rtol=2e-4)  # rounding, amplified by the training
    first = expected[:, 1] <= 3
    np.testing.assert_allclose(found[first, LOSS], expected[first, LOSS], rtol=1e-6)
    # those of a validation set of one structure, whose energy has seven digits
    np.testing.assert_allclose(found[first], expected[first], rtol=1e-5)


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one_process(two: Project, tmp_path: Path) -> None:
    one = Project(tmp_path / "one")
    shutil.copytree(two.root, one.root, ignore=shutil.ignore_patterns("model"))
    train(one, jobs=1)
    assert np.isfinite(history_of(one)).all()
    assert_same_losses(two, one)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["1", "2e-6"])  # GB
def test_three_ranks_on_energies_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", memory)
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(training=FIT))
    one = Project(tmp_path / "one")
    shutil.copytree(project.root, one.root)
    train(one, jobs=1)
    preparation = prepare_members(project)
    assert preparation.has_features_file == (memory != "1")
    fitted_by_ranks(project, 3)
    train(project, jobs=1)
    assert_same_losses(project, one)


@pytest.mark.slow
def test_four_ranks_that_read_windows_and_a_last_batch_of_one_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training: dict[str, Any] = {**FIT, "forces": True, "batch_size": 4, "force_fraction": 0.7, "members": 1}
    parameters = PARAMETERS.with_overrides(training=training)
    project = small_project(tmp_path / "p", parameters, structures_with_forces())
    differentiate(project, jobs=1, make_executor=no_pool)
    one = Project(tmp_path / "one")
    shutil.copytree(project.root, one.root)
    monkeypatch.setenv("TIO2NN_MEMORY", "4e-5")  # GB, less than the derivatives
    train(one, jobs=1)
    preparation = prepare_members(project)
    assert preparation.window is not None
    fitted_by_ranks(project, 4)
    summary = train(project, jobs=1)
    assert summary.n_train % 4 == 1
    assert_same_losses(project, one)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_in_a_line_and_all_of_them_resume(
    two: Project, tmp_path: Path
) -> None:
    project = Project(tmp_path / "p")
    shutil.copytree(two.root, project.root, ignore=shutil.ignore_patterns("model"))
    prepare_members(project)
    first = start_part(tmp_path, "train", "-C", "p", "--rank", "1/2")
    second = start_part(tmp_path, "train", "-C", "p", "--rank", "2/2", die_after_epoch=3)
    (code, out, err), (of_second, *_) = end_all([first, second])
    assert of_second == -9
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == (
        "rank 2 of 2 has ended; start all ranks again; they go on from the last checkpoint"
    )
    assert Preparation.read(project.preparation_file).fitted(project) == []
    (told, _) = fitted_by_ranks(project, 2)
    # the second one died while the first one may or may not have ended its fourth epoch
    assert "member 1: resuming after epoch 3\n" in told or "member 1: resuming after epoch 4\n" in told
    invoke("train", "-C", project.root)
    assert potential_of(project) == potential_of(two)


def test_one_rank_is_as_one_process(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(training=FIT))
    prepare_members(project)
    fit_member(project, 1)
    summary = fit_rank(project, (1, 1))
    assert (summary.fitted, summary.members) == ([1, 2], 2)
    train(project, jobs=1)
    other = small_project(tmp_path / "other", PARAMETERS.with_overrides(training=FIT))
    train(other, jobs=1)
    assert potential_of(project) == potential_of(other)


def test_what_is_no_rank_is_refused_in_one_line(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(training=FIT))
    place = ("train", "-C", project.root)
    prepare = f'run "tio2nn train -C {project.root} --prepare" first'
    assert refusal(*place, "--rank", "1/2", code=3) == f"no preparation in {project.root}; {prepare}"
    invoke(*place, "--prepare")
    for text in ("0/2", "3/2", "x/2", "2", ""):
        line = refusal(*place, "--rank", text, code=2)
        assert line == f"--rank: expected K/N with K from 1 to N, such as 3/20, got {text}"
    line = refusal(*place, "--rank", "1/4", code=2)
    assert line == "--rank: expected a number of ranks that divides the batch size 6 (2, 3, 6), got 4"
    for options, expected in (
        (("--epochs", 3), "--rank takes its settings from the preparation; give them to --prepare"),
        (("--prepare",), "--rank takes its settings from the preparation; give them to --prepare"),
        (("--member", 1), "--member cannot be combined with --rank, which fits all members"),
        (("--device", "gpu"), "--rank does not use a GPU; give --device to train --member"),
        (("--json",), "--prepare, --member and --rank cannot be combined with --json or --jobs"),
        (("-j", 2), "--prepare, --member and --rank cannot be combined with --json or --jobs"),
        (
            ("--scheduler", "tcp://127.0.0.1:1"),
            "--prepare, --member and --rank cannot be combined with --scheduler, which distributes the members itself",
        ),
        (("--insecure",), "--insecure: expected --scheduler as well, got none"),
    ):
        assert refusal(*place, "--rank", "1/2", *options, code=2) == expected
    assert not project.ranks_file.exists()


def test_ranks_and_members_do_not_work_beside_each_other(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", PARAMETERS.with_overrides(training=FIT))
    place = ("train", "-C", project.root)
    invoke(*place, "--prepare")
    with project.joined("train --rank 2/2"):
        for options in (("--rank", "2/2"), ("--member", 1), ()):
            line = refusal(*place, *options, code=3)
            assert "cannot start: tio2nn train --rank 2/2 (process " in line
        _, err = invoke(*place, "--rank", "1/2", "--wait", 0.2, code=3)
        assert err.splitlines() == [
            "starting TensorFlow ...",
            "waiting for rank 2 of 2",
            "rank 2 of 2 did not start within 0.2 s; start all ranks at about the same time, or give --wait",
        ]
    with project.joined("train --member 2"):
        line = refusal(*place, "--rank", "1/2", code=3)
        assert "cannot start: tio2nn train --member 2 (process " in line


@pytest.mark.parametrize(
    ("rank", "kind"), [((0, 2), ValueError), ((3, 2), ValueError), ("1/2", TypeError), (None, TypeError)]
)
def test_what_is_no_rank_is_refused_in_python(tmp_path: Path, rank: object, kind: type[Exception]) -> None:
    project = small_project(tmp_path / "p")
    with pytest.raises(kind, match="rank: expected"):
        fit_rank(project, rank)  # type: ignore[arg-type]
