"""Training, and a search, on derivatives that exceed the memory given for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from projects import PARAMETERS, no_pool, small_project, structures_with_forces
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.project.project import Project
from tio2nn.training.data import TrainingData
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.members import fit_member, prepare_members
from tio2nn.workflow.train import TrainListener, train
from tio2nn.workflow.tune import tune

FORCES = PARAMETERS.with_overrides(training={"forces": True, "epochs": 3, "batch_size": 2, "members": 2})
SMALL = 2e-5  # GB, a third of the derivatives


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = small_project(tmp_path / "p", FORCES, structures_with_forces())
    differentiate(made, jobs=1, make_executor=no_pool)
    return made


def trained(project: Project, **changes: object) -> tuple[TrainingData, str]:
    heard: list[TrainingData] = []
    train(project, FORCES.with_overrides(training=changes), listener=TrainListener(on_data=heard.append))
    return heard[0], history_of(project)


def history_of(project: Project) -> str:
    """All columns but the time."""
    lines = project.history_file.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.rpartition(",")[0] for line in lines)


def test_windows_are_used_beyond_the_memory_and_are_part_of_the_fit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for memory in (str(SMALL), str(SMALL), "1", ""):
        monkeypatch.setenv("TIO2NN_MEMORY", memory)
        found.append(trained(project, members=1))
    windows = []
    for data, _ in found:
        assert data.train_forces is not None
        windows.append(data.train_forces.window)
    assert windows[0] is not None
    assert windows[0].capacity == int(SMALL * 1e9 / 16)
    assert windows[2:] == [None, None]
    fingerprints = [data.fingerprint for data, _ in found]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] == fingerprints[3]
    histories = [history for _, history in found]
    assert histories[0] == histories[1] != histories[2] == histories[3]


def test_train_says_what_it_reads(project: Project) -> None:
    def output(memory: str) -> str:
        environment = {"TIO2NN_MEMORY": memory}
        command = ("train", "-C", str(project.root), "-j", "1")
        result = CliRunner().invoke(app, [*command, "--epochs", "1", "--members", "1"], env=environment)
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    line = r"derivatives of \S+ \S+ exceed the memory for them: on the CPU, each epoch reads them from disk, "
    line += r"in windows of \S+ \S+;"
    assert re.search(line, output(str(SMALL)))
    assert "exceed the memory" not in output("")


@pytest.mark.slow
def test_a_search_shares_the_memory_among_its_trials(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", str(SMALL))
    heard: list[TrainingData] = []
    parameters = FORCES.with_overrides(
        tuning={"layers": [1], "nodes": [4], "learning_rate": [0.01], "epochs": 1}
    )
    summary = tune(project, parameters, jobs=2, on_data=lambda data, _: heard.append(data))
    assert summary.ranked[0].status == "completed"
    labels = heard[0].train_forces
    assert labels is not None
    assert labels.window is not None
    assert labels.window.capacity == int(SMALL * 1e9 / 32)


def test_members_of_an_array_use_the_windows_of_their_preparation(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", str(SMALL))
    _, whole = trained(project)
    prepare_members(project)
    # on machines with more memory
    monkeypatch.setenv("TIO2NN_MEMORY", "1")
    for member in (1, 2):
        fit_member(project, member)
    heard: list[int] = []
    train(project, listener=TrainListener(on_epoch=lambda member, _: heard.append(member)))
    assert heard == []  # all were fitted
    assert history_of(project) == whole
