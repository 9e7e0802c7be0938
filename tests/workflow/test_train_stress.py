"""Training on the stress, from a project with stresses to a potential."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import PARAMETERS, no_pool, small_project, structures_with_stress
from searches import Here
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.errors import StaleError
from tio2nn.parallel.workers import member_workers
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FRESH, MODEL, STALE
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import read_parts
from tio2nn.structures.stress import to_voigt
from tio2nn.training.data import TrainingData
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.lessons import Distillation
from tio2nn.workflow.members import fit_member, prepare_members
from tio2nn.workflow.train import TrainListener, train
from tio2nn.workflow.tune import tune

AUTO = PARAMETERS.with_overrides(
    training={"forces": "auto", "stress": "auto", "epochs": 6, "members": 2, "weight_averaging": 0.9}
)


BRIEF = ("--epochs", "1", "--members", "1")


def featurized(root: Path, **training: object) -> Project:
    parameters = AUTO.with_overrides(training=training)
    project = small_project(root, parameters, structures_with_stress())
    featurize(project, jobs=1, make_executor=no_pool)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return featurized(tmp_path / "p")


def stress_errors(project: Project, part: str) -> np.ndarray:
    """Errors of all stress components that the potential makes, eV/Å³, by the kernels that predict."""
    parts = read_parts(project.split_file)
    chosen = [
        s for s in read_store(project.structures_file) if parts[s.name] == part and s.stress is not None
    ]
    found = Potential.load(project.potential_file).predict(chosen, forces=True)
    return np.concatenate([to_voigt(p.stress - s.stress) for p, s in zip(found, chosen, strict=True)])


def bits(project: Project) -> list[np.ndarray]:
    """All arrays of the potential."""
    with np.load(project.potential_file) as arrays:
        return [arrays[name] for name in sorted(arrays.files) if name != "header"]


def test_errors_of_the_fit_are_those_of_the_potential(tmp_path: Path) -> None:
    project = featurized(tmp_path / "p", members=1, validation_fraction=0.2)
    summary = train(project)
    errors = 1000 * stress_errors(project, "validation")
    assert len(errors) >= 6
    assert summary.validation_stress_rmse == pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=1e-4)
    history = pd.read_csv(project.history_file)
    assert list(history)[-1] == "seconds"
    assert history["validation_stress_mae_meV_per_A3"].iloc[-1] == pytest.approx(
        np.abs(errors).mean(), rel=1e-4
    )
    metrics = json.loads(project.training_metrics_file.read_text())
    assert metrics["validation_stress_rmse_meV_per_A3"] == summary.validation_stress_rmse
    assert metrics["parameters"]["training"]["stress"] is True


@pytest.mark.slow
def test_members_have_the_same_bits_in_company_and_in_workers(project: Project, tmp_path: Path) -> None:
    train(project, jobs=2)
    apart = featurized(tmp_path / "apart")
    train(apart, jobs=2, make_executor=member_workers)
    for own, expected in zip(bits(apart), bits(project), strict=True):
        np.testing.assert_array_equal(own, expected)


@pytest.mark.slow
def test_stress_becomes_better_than_that_of_a_fit_without(tmp_path: Path) -> None:
    rmse = {}
    for stress in (False, True):
        own = featurized(
            tmp_path / str(stress),
            members=1,
            stress=stress,
            stress_weight=2.0,
            epochs=60,
            test_fraction=0.4,
        )
        train(own)
        rmse[stress] = float(np.sqrt(np.mean(stress_errors(own, "test") ** 2)))
    assert rmse[True] < 0.8 * rmse[False]


@pytest.mark.slow
def test_beyond_the_memory_it_is_read_in_windows_alone_and_in_company(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIO2NN_MEMORY", "2e-5")
    heard: list[TrainingData] = []
    train(project, listener=TrainListener(on_data=heard.append))
    assert heard[0].window is not None
    assert heard[0].train_stress is not None
    other = featurized(tmp_path / "other")
    prepare_members(other)
    monkeypatch.setenv("TIO2NN_MEMORY", "1")
    for member in (1, 2):
        fit_member(other, member)
    train(other)
    for own, expected in zip(bits(other), bits(project), strict=True):
        np.testing.assert_array_equal(own, expected)


@pytest.mark.usefixtures("eager")
def test_a_search_fits_with_stress_and_shows_its_errors(project: Project) -> None:
    parameters = AUTO.with_overrides(
        tuning={"layers": [1], "nodes": [4], "learning_rate": [0.01], "epochs": 1}
    )
    project.parameters_file.write_text(parameters.to_json(), encoding="utf-8")
    heard: list[TrainingData] = []
    search = tune(project, jobs=1, make_executor=lambda _: Here(), on_data=lambda data, _: heard.append(data))
    best = search.ranked[0]
    assert best.status == "completed"
    assert heard[0].train_stress is not None
    stress = best.validation_stress_rmse_meV_per_A3
    assert stress is not None
    assert best.score < replace(best, validation_stress_rmse_meV_per_A3=2.0 * stress).score
    assert stress in list(pd.read_csv(project.trials_file)["validation_stress_rmse_meV_per_A3"])
    result = CliRunner().invoke(app, ["tune", "-C", str(project.root), "-j", "1"])
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "meV/Å³" in told
    assert f" {stress:.2f} " in told


@pytest.mark.slow
def test_a_search_on_structures_without_stress_does_without(tmp_path: Path) -> None:
    chosen = [replace(s, stress=s.stress if k < 2 else None) for k, s in enumerate(structures_with_stress())]
    project = small_project(tmp_path / "p", AUTO, chosen)
    featurize(project, jobs=1, make_executor=no_pool)
    split = tmp_path / "split.csv"
    parts = [f"{s.name},{'validation' if k in (5, 6) else 'train'}" for k, s in enumerate(chosen)]
    split.write_text("\n".join(["structure,part", *parts]) + "\n", encoding="utf-8")
    tuning = {"layers": [1], "nodes": [4], "learning_rate": [0.01], "epochs": 1, "structures": 3}
    heard: list[TrainingData] = []
    for seed in range(2):
        tune(
            project,
            AUTO.with_overrides(tuning={**tuning, "seed": seed}),
            split_file=split,
            jobs=1,
            on_data=lambda data, _: heard.append(data),
        )
    assert None in [data.train_stress for data in heard]


@pytest.mark.usefixtures("eager")
def test_a_student_learns_the_stress_of_its_teacher(project: Project, tmp_path: Path) -> None:
    train(project, AUTO.with_overrides(training={"epochs": 1, "members": 1}))
    teacher = tmp_path / "teacher.npz"
    teacher.write_bytes(project.potential_file.read_bytes())
    student = featurized(tmp_path / "student", members=1, epochs=1)
    heard: list[TrainingData] = []
    train(
        student,
        lesson=Distillation(teacher=teacher, copies=1),
        listener=TrainListener(on_data=heard.append),
    )
    labels = heard[0].train_stress
    assert labels is not None
    assert len(labels.has_stress) == len(heard[0].train.counts) > 30
    assert labels.has_stress.sum() > 20
    assert heard[0].window is None


@pytest.mark.usefixtures("eager")
def test_train_says_what_it_uses_and_shows_the_errors(project: Project) -> None:
    def output(*words: str) -> str:
        result = CliRunner().invoke(app, ["train", "-C", str(project.root), "-j", "1", *BRIEF, *words])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    told = output()
    assert re.search(r"also training on the stress of 1\d of 21 structures; --no-stress leaves it out", told)
    assert "meV/Å³" in told
    told = output("--no-stress")
    assert re.search(r"training without the stress of 1\d of 21 structures; --stress adds it", told)
    assert "meV/Å³" not in told


@pytest.mark.usefixtures("eager")
def test_other_stresses_make_a_model_stale_and_a_fit_without_is_no_older_one(project: Project) -> None:
    train(project, AUTO.with_overrides(training={"stress": False, "epochs": 1, "members": 1}))
    assert Snapshot(project).state(MODEL).kind == FRESH
    assert evaluate(project).metrics["n_structures"]
    train(project, AUTO.with_overrides(training={"epochs": 1, "members": 1}))
    assert Snapshot(project).state(MODEL).kind == FRESH
    chosen = [
        replace(s, stress=None if s.stress is None else 1.1 * s.stress) for s in structures_with_stress()
    ]
    write_store(project.structures_file, chosen)
    found = Snapshot(project).state(MODEL)
    assert found.kind == STALE
    assert "other stresses" in found.what


def test_a_preparation_of_other_stresses_is_refused(project: Project) -> None:
    prepare_members(project)
    chosen = [
        replace(s, stress=None if s.stress is None else 1.1 * s.stress) for s in structures_with_stress()
    ]
    write_store(project.structures_file, chosen)
    with pytest.raises(StaleError, match="was made with other stresses"):
        fit_member(project, 1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"stress": "yes"}, 'training.stress: expected "auto", true, false or "diagonal", got "yes"'),
        ({"stress_weight": -1}, "training.stress_weight: expected a number > 0 or null, got -1"),
        ({"stress_huber_scale": 0}, "training.stress_huber_scale: expected a number > 0 or null, got 0"),
    ],
)
def test_wrong_settings_are_told_in_one_line(
    tmp_path: Path, settings: dict[str, object], complaint: str
) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    document = json.loads(project.parameters_file.read_text(encoding="utf-8"))
    document["training"] |= settings
    project.parameters_file.write_text(json.dumps(document), encoding="utf-8")
    refused = CliRunner().invoke(app, ["status", "-C", str(project.root)])
    assert refused.exit_code == 3
    assert complaint in " ".join(refused.output.split())


def test_a_training_set_without_stress_is_refused_where_it_is_requested(tmp_path: Path) -> None:
    project = featurized(tmp_path / "p", members=1, stress=True)
    with_stress = [s.name for s in structures_with_stress() if s.stress is not None]
    rows = [f"{s.name},{'test' if s.name in with_stress else 'train'}" for s in structures_with_stress()]
    split = tmp_path / "split.csv"
    split.write_text("\n".join(["structure,part", *rows]) + "\n", encoding="utf-8")
    run = partial(CliRunner().invoke, app)
    refused = run(["train", "-C", str(project.root), "--split", str(split), "--stress", "-j", "1"])
    assert refused.exit_code == 3
    assert "expected structures with a stress in the training set, got none" in " ".join(
        refused.output.split()
    )
