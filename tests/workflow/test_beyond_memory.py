"""Training, and a search, on derivatives and features that exceed the memory given for them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from projects import PARAMETERS, no_pool, small_project, structures_with_forces
from searches import Here
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.errors import InputError
from tio2nn.parallel.workers import member_workers
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.training.data import TrainingData
from tio2nn.workflow.curve_settings import CurveSettings
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.learning_curve import learning_curve
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
    parameters = Snapshot(project).parameters.with_overrides(training=changes)
    train(project, parameters, listener=TrainListener(on_data=heard.append))
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
    windows = [data.window for data, _ in found]
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
    window = heard[0].window
    assert window is not None
    assert window.capacity == int(SMALL * 1e9 / 32)


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


# --- features -----------------------------------------------------------------------------------------------

ENERGIES = PARAMETERS.with_overrides(training={"epochs": 3, "batch_size": 2, "members": 2})
TINY = "2e-6"  # GB


@pytest.fixture
def energies(tmp_path: Path) -> Project:
    return small_project(tmp_path / "e", ENERGIES)


def potential_of(project: Project) -> Potential:
    return Potential.load(project.potential_file)


def left_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in (".f32", ".part"))


@pytest.mark.parametrize(
    "network",
    [
        {},
        pytest.param({"shared_subnet": True}, marks=pytest.mark.slow),
        pytest.param({"whitening": False}, marks=pytest.mark.slow),
    ],
)
def test_features_beyond_the_memory_are_whitened_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: dict[str, bool]
) -> None:
    project = small_project(tmp_path / "e", ENERGIES.with_overrides(network=network))
    found = []
    for memory in ("1", TINY):
        monkeypatch.setenv("TIO2NN_MEMORY", memory)
        data, history = trained(project)
        found.append((data, history, potential_of(project)))
    (in_memory, _, one), (in_file, _, other) = found
    assert in_memory.window is None
    assert in_file.window is not None
    assert in_file.window.has_features
    assert in_file.fingerprint != in_memory.fingerprint
    for own, same in zip(one.whitenings, other.whitenings, strict=True):
        for name, array in vars(own).items():
            np.testing.assert_array_equal(array, getattr(same, name))
    for atoms, same_atoms in zip(one.training_atoms, other.training_atoms, strict=True):
        assert atoms.unit == same_atoms.unit
        for name in ("low", "high", "references"):
            np.testing.assert_array_equal(getattr(atoms, name), getattr(same_atoms, name))
    assert left_in(project.root) == []


def test_members_of_an_array_read_the_features_of_their_preparation(
    energies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", TINY)
    _, whole = trained(energies)
    preparation = prepare_members(energies)
    assert preparation.has_features_file
    assert left_in(energies.root) == [str(preparation.features_file(energies).relative_to(energies.root))]
    monkeypatch.setenv("TIO2NN_MEMORY", "1")
    for member in (1, 2):
        fit_member(energies, member)
    heard: list[int] = []
    train(energies, listener=TrainListener(on_epoch=lambda member, _: heard.append(member)))
    assert heard == []
    assert history_of(energies) == whole
    assert left_in(energies.root) == []


@pytest.mark.slow
def test_members_side_by_side_have_the_bits_of_members_in_company(
    energies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", "1e-6")  # half of it for each of two
    train(energies, jobs=1)
    monkeypatch.setenv("TIO2NN_MEMORY", "2e-6")
    whole = history_of(energies)
    train(energies, jobs=2, make_executor=member_workers)
    assert history_of(energies) == whole
    assert left_in(energies.root) == []


def test_a_preparation_without_its_features_is_refused(
    energies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", TINY)
    preparation = prepare_members(energies)
    preparation.features_file(energies).unlink()
    with pytest.raises(InputError, match=r"\.f32: expected the data of the preparation, got no file; run "):
        fit_member(energies, 1)


def test_a_fit_that_diverges_leaves_no_features(energies: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", TINY)
    parameters = ENERGIES.with_overrides(training={"learning_rate": 1e30, "gradient_clip": None})
    with pytest.raises(InputError, match="the fit diverged"):
        train(energies, parameters)
    assert left_in(energies.root) == []


def test_a_training_that_is_interrupted_before_its_first_epoch_leaves_no_features(
    energies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(data: TrainingData) -> None:
        assert data.features_file is not None
        assert data.features_file.exists()
        raise KeyboardInterrupt

    monkeypatch.setenv("TIO2NN_MEMORY", TINY)
    with pytest.raises(KeyboardInterrupt):
        train(energies, listener=TrainListener(on_data=interrupt))
    assert left_in(energies.root) == []


def test_a_search_and_a_curve_read_features_in_windows(
    energies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", TINY)
    parameters = ENERGIES.with_overrides(
        tuning={"layers": [1], "nodes": [4], "learning_rate": [0.01], "epochs": 1}
    )
    summary = tune(energies, parameters, jobs=1, make_executor=lambda _: Here())
    assert summary.ranked[0].status == "completed"
    settings = CurveSettings((50.0, 75.0, 100.0), 1)
    found = learning_curve(energies, settings=settings, jobs=1, make_executor=lambda _: Here())
    assert [fit.status for fit in found.fits] == ["completed"] * 3
    assert left_in(energies.root) == []


def test_train_says_that_it_reads_features(energies: Project) -> None:
    result = CliRunner().invoke(
        app, ["train", "-C", str(energies.root), "-j", "1"], env={"TIO2NN_MEMORY": TINY}
    )
    assert result.exit_code == 0, result.output
    line = r"features of \S+ \S+ exceed the memory for them: on the CPU, each epoch reads them from disk, "
    assert re.search(line + r"in windows of \S+ \S+;", " ".join(result.output.split()))
