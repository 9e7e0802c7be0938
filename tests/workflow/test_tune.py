"""Searches on two dozen structures, most of them in this process; one is killed, as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, start
from projects import ATOMIC_ENERGIES, PARAMETERS, structures
from searches import GRID, Here, copied, invented, project_to_search, search, table

from tio2nn.errors import InputError
from tio2nn.parallel.workers import WorkerDied
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.project import Project
from tio2nn.project.structure_store import write_store
from tio2nn.structures.split import LEFT_OUT, Split
from tio2nn.training.data import TrainingData
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import Candidate, Outcome, read_best
from tio2nn.workflow.tune import own_candidate, subset, tune


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_to_search(tmp_path_factory.mktemp("tune") / "project")


@pytest.fixture
def project(featurized: Path, tmp_path: Path) -> Project:
    """A project of its own for each test."""
    return copied(featurized, tmp_path / "p")


# --- what is tried ------------------------------------------------------------------------------------------


def test_a_trial_is_the_candidate_with_the_rest_of_the_parameter_set(project: Project) -> None:
    _, tasks = search(project, max_trials=3, dropout=[0.2], seed=9)
    task = tasks[2]
    assert (task.network.hidden_layers, task.network.dropout) == ((3, 3), 0.2)
    assert (task.training.epochs, task.training.batch_size, task.training.learning_rate) == (2, 20, 0.01)
    assert task.training.warmup_epochs == PARAMETERS.training.warmup_epochs
    assert (task.seed, task.elements, task.n_features) == (9, ("Ti", "O"), PARAMETERS.n_features)


def test_what_the_fit_would_have_anyway_is_among_the_trials_and_stays_unless_another_is_clearly_better(
    project: Project,
) -> None:
    parameters = PARAMETERS.with_overrides(
        recipe="auto",
        network={"hidden_layers": [4, 4]},
        tuning=dict.fromkeys(("layers", "nodes", "learning_rate", "dropout", "epochs")),
    )
    own = Candidate(layers=2, nodes=4, learning_rate=0.01, dropout=0.0, epochs=1)

    def judge(advantage: float) -> dict[str, Any]:
        def run(task: TrialTask) -> Outcome:
            rmse = 100.0 if task.network.hidden_layers == (6, 6) else 100.0 * advantage
            return replace(invented(task), validation_rmse_meV_per_atom=rmse)

        project.trial_ledger_file.unlink(missing_ok=True)
        here = Here(run)
        summary = tune(project, parameters, jobs=1, make_executor=lambda _: here)
        assert len(here.tasks) == 12
        tried = [(t.network.hidden_layers, t.training.learning_rate, t.training.epochs) for t in here.tasks]
        assert ((4, 4), own.learning_rate, own.epochs) in tried
        return summary.best["network"] | summary.best["training"]

    assert judge(1.0)["hidden_layers"] == [4, 4]
    n_validation = sum(row["part"] == "validation" for row in table(project.split_file))
    margin = 2.838 / (2.0 * n_validation) ** 0.5  # the best of eleven others
    assert judge(0.99 + margin)["hidden_layers"] == [4, 4]
    assert judge(1.01 + margin)["hidden_layers"] == [6, 6]
    assert own_candidate(parameters.with_overrides(tuning={"epochs": 1})) == own
    assert own_candidate(PARAMETERS.with_overrides(network={"hidden_layers": [4, 5]})) is None


# --- going on -----------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_computed(project: Project) -> None:
    search(project, nodes=[4])
    summary, tasks = search(project)
    assert summary.n_known == 2
    assert [task.network.hidden_layers for task in tasks] == [(3,), (3, 3)]
    # the trials that were known have the numbers of this search
    rows = table(project.trials_file)
    assert [(row["trial"], row["layers"], row["nodes"]) for row in rows] == [
        ("1", "1", "3"),
        ("2", "1", "4"),
        ("3", "2", "3"),
        ("4", "2", "4"),
    ]
    assert search(project)[1] == []
    assert table(project.trials_file) == rows


def test_the_order_of_the_ledger_does_not_matter(project: Project) -> None:
    search(project)
    expected = project.trials_file.read_bytes()
    header, *rows = project.trial_ledger_file.read_text(encoding="utf-8").splitlines()
    project.trial_ledger_file.write_text("\n".join([header, *rows[::-1]]) + "\n", encoding="utf-8")
    summary, tasks = search(project)
    assert (summary.n_known, tasks) == (4, [])
    assert project.trials_file.read_bytes() == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"tuning": {"epochs": 3}},
        {"tuning": {"seed": 1}},
        {"tuning": {"batch_size": 7}},
        {"tuning": {"structures": 12}},
        {"training": {"loss": "mae"}},
        {"network": {"activation": "tanh"}},
        {"reference_energies": {"Ti": -1600.0, "O": -430.0}},
    ],
    ids=str,
)
def test_what_an_outcome_depends_on_is_not_taken_from_another_search(
    project: Project, changes: dict[str, Any]
) -> None:
    search(project, max_trials=1)
    here = Here(invented)
    parameters = PARAMETERS.with_overrides(tuning={**GRID, "max_trials": 1})
    tune(project, parameters.with_overrides(**changes), jobs=1, make_executor=lambda _: here)
    assert len(here.tasks) == 1
    # and what it does not depend on is
    same = parameters.with_overrides(
        training={"learning_rate": 0.5, "epochs": 77, "members": 3}, network={"hidden_layers": [9]}
    )
    assert tune(project, same, jobs=1, make_executor=lambda _: here).n_known == 1


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    project: Project, tmp_path: Path
) -> None:
    undisturbed = Project(Path(shutil.copytree(project.root, tmp_path / "undisturbed")))
    command = ("tune", "-C", "p", "-j", "1", "--max-trials", 3, "--json")
    process = start(tmp_path, *command, start_new_session=True)
    deadline = time.monotonic() + 300
    while not project.trial_ledger_file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = table(project.trial_ledger_file, "settings")
    assert 1 <= len(kept) < 3
    assert not project.best_trial_file.exists()

    process = start(tmp_path, *command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"{len(kept)} of 3 trials from an earlier run" in err
    # with their times, so they were not computed again
    trials = table(project.trials_file)
    kept = [{name: row[name] for name in trials[0]} for row in kept]
    assert [row for row in trials if row in kept] == kept
    assert not project.trial_data_file.exists()
    search(undisturbed, run_trial, max_trials=3)
    assert table(project.trials_file, "seconds") == table(undisturbed.trials_file, "seconds")
    assert json.loads(out) == json.loads(project.best_trial_file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda rows: [*rows[:2], rows[2].replace(",completed,", ",completed,x"), *rows[3:]], ":3"),
        (lambda rows: [*rows[:3], rows[3][: len(rows[3]) // 2], *rows[3:]], ":4"),
        (lambda rows: ["trial,status", *rows[1:]], ":1"),
    ],
    ids=["a cell", "cut off", "other columns"],
)
def test_a_damaged_ledger_is_named_with_its_line(
    project: Project, damage: Callable[[list[str]], list[str]], line: str
) -> None:
    search(project)
    rows = damage(project.trial_ledger_file.read_text(encoding="utf-8").splitlines())
    project.trial_ledger_file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    before = project.trial_ledger_file.read_bytes()
    with pytest.raises(InputError, match=r'; delete it and run "tio2nn tune -C .*" again') as caught:
        search(project)
    assert str(caught.value).startswith(f"{project.trial_ledger_file}{line}: expected ")
    assert "\n" not in str(caught.value)
    assert project.trial_ledger_file.read_bytes() == before


# --- what can go wrong --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_a_diverged_trial_is_recorded_and_not_fatal(project: Project) -> None:
    changes = {"layers": [1], "nodes": [3], "learning_rate": [1e30, 0.01]}
    summary, tasks = search(project, run_trial, **changes)
    assert [trial.status for trial in summary.ranked] == ["completed", "diverged"]
    assert len(tasks) == 2
    first, second = table(project.trials_file)
    assert (first["learning_rate"], first["status"], first["validation_rmse_meV_per_atom"]) == (
        "1e+30",
        "diverged",
        "",
    )
    assert "loss of epoch" in first["message"]
    assert (second["status"], second["message"]) == ("completed", "")
    assert summary.best["training"] == {"learning_rate": 0.01}
    assert (
        summary.ranked[1]
        .describe()
        .startswith("1: 1 × 3 nodes, learning rate 1e+30, dropout 0, 2 epochs: div")
    )
    # a trial that diverged would diverge again
    assert search(project, run_trial, **changes)[1] == []


def test_if_nothing_completes_the_search_ends_in_one_line(project: Project) -> None:
    def diverges(_task: TrialTask) -> Outcome:
        return Outcome(status="diverged", message="the loss of epoch 1 is nan")

    with pytest.raises(InputError, match=r"^none of 4 trials completed: diverged, the loss") as e:
        search(project, diverges)
    assert "\n" not in str(e.value)
    assert str(project.trials_file) in str(e.value)
    assert len(table(project.trials_file)) == 4
    assert not project.best_trial_file.exists()


@pytest.mark.parametrize("strategy", ["grid", "bayesian", "hyperband"])
def test_a_trial_whose_process_dies_is_tried_again_by_the_next_search(
    project: Project, strategy: str
) -> None:
    def dies(task: TrialTask) -> Outcome:
        if task.network.hidden_layers == (3, 3):
            raise WorkerDied("the worker process was killed by SIGKILL")
        return invented(task)

    changes = {"strategy": strategy, "max_trials": 4 if strategy != "hyperband" else None, "epochs": 4}
    summary, _ = search(project, dies, **changes)
    lost = [trial for trial in summary.ranked if trial.status == "failed"]
    assert len(lost) >= 1
    assert {(trial.layers, trial.nodes, trial.message) for trial in lost} == {
        (2, 3, "the worker process was killed by SIGKILL")
    }
    _, tasks = search(project, **changes)
    assert (3, 3) in [task.network.hidden_layers for task in tasks]


def test_a_bug_in_a_trial_ends_the_search_and_keeps_what_was_finished(project: Project) -> None:
    def fails(task: TrialTask) -> Outcome:
        if task.network.hidden_layers == (3, 3):
            raise ZeroDivisionError
        return invented(task)

    with pytest.raises(ZeroDivisionError):
        search(project, fails)
    assert len(table(project.trial_ledger_file)) >= 1
    assert not project.trial_data_file.exists()


# --- strategies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("strategy", ["random", "bayesian", "hyperband"])
def test_a_strategy_is_reproducible_and_resumes(project: Project, strategy: str, jobs: int) -> None:
    changes: dict[str, Any] = {"strategy": strategy, "learning_rate": [0.1, 0.01, 0.001], "epochs": 4}
    if strategy != "hyperband":
        changes["max_trials"] = 6
    summary, tasks = search(project, jobs=jobs, **changes)
    trials = project.trials_file.read_bytes()
    assert [int(row["trial"]) for row in table(project.trials_file)] == list(range(1, len(tasks) + 1))
    assert summary.ranked[0].score == min(
        invented(task).validation_rmse_meV_per_atom or 0.0 for task in tasks
    )
    if strategy == "hyperband":
        assert {task.training.epochs for task in tasks} == {2, 4}
        assert summary.best["epochs"] == 4
    else:
        assert len(tasks) == 6
    # half of the ledger is lost: as after a kill
    rows = project.trial_ledger_file.read_text(encoding="utf-8").splitlines(keepends=True)
    project.trial_ledger_file.write_text("".join(rows[: 1 + len(rows) // 2]), encoding="utf-8")
    again, computed = search(project, jobs=jobs, **changes)
    assert 0 < len(computed) < len(tasks)
    assert again.n_known == len(tasks) - len(computed)
    assert project.trials_file.read_bytes() == trials


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_fits_of_a_bayesian_search_are_reproducible(project: Project, tmp_path: Path) -> None:
    changes = {"strategy": "bayesian", "max_trials": 2, "dropout": [0.3]}
    copy = Project(Path(shutil.copytree(project.root, tmp_path / "copy")))
    for own in (project, copy):
        search(own, run_trial, **changes)
    rows = table(project.trials_file, "seconds")
    assert rows == table(copy.trials_file, "seconds")
    assert len({row["validation_rmse_meV_per_atom"] for row in rows}) == 2


# --- structures and the result ------------------------------------------------------------------------------


def test_a_search_on_some_structures_takes_so_many_of_both_parts(project: Project) -> None:
    heard: list[tuple[int, int]] = []

    def listen(data: TrainingData, _undone: str) -> None:
        heard.append((len(data.train.counts), len(data.validation.counts)))

    for n_structures in (None, 8):
        parameters = PARAMETERS.with_overrides(
            training={"validation_fraction": 0.25, "test_fraction": 0.25},
            tuning={**GRID, "max_trials": 1, "structures": n_structures},
        )
        tune(project, parameters, jobs=1, make_executor=lambda _: Here(invented), on_data=listen)
    # 24 structures, of which the test set is not touched
    assert heard == [(12, 6), (5, 3)]
    parts = [row["part"] for row in table(project.split_file)]
    assert [parts.count(part) for part in ("train", "validation", "test")] == [12, 6, 6]


def test_a_subset_keeps_parts_and_follows_from_its_seed() -> None:
    parts = ("train",) * 60 + ("validation",) * 30 + ("test",) * 10
    whole = Split(tuple(f"s{k}" for k in range(100)), parts)
    chosen = subset(whole, 30, 0)
    assert [chosen.parts.count(part) for part in ("train", "validation", "test")] == [20, 10, 0]
    assert all(own in (part, LEFT_OUT) for own, part in zip(chosen.parts, parts, strict=True))
    assert subset(whole, 30, 0) == chosen != subset(whole, 30, 1)
    assert subset(whole, 90, 0) == whole
    assert sorted(set(subset(whole, 2, 0).parts)) == [LEFT_OUT, "train", "validation"]


def test_the_best_trial_changes_a_parameter_set(project: Project) -> None:
    summary, _ = search(project, learning_rate=[0.1, 0.02], dropout=[0.2])
    overrides = read_best(project.best_trial_file, "tio2nn tune")
    changed = PARAMETERS.with_overrides(**overrides)
    assert changed.network.hidden_layers == (4, 4)
    assert (changed.network.dropout, changed.training.learning_rate) == (0.2, 0.02)
    # nothing else is changed, not the length of a trial above all
    restored: ParameterSet = changed.with_overrides(
        network={"hidden_layers": [8, 8], "dropout": 0.0}, training={"learning_rate": 0.01}
    )
    assert restored == PARAMETERS
    best = json.loads(project.best_trial_file.read_text(encoding="utf-8"))
    assert best == summary.best
    assert best["validation_rmse_meV_per_atom"] == summary.ranked[0].score
    assert (best["strategy"], best["trial"]) == ("grid", summary.ranked[0].trial)


def test_settings_of_a_search_among_other_data_are_used_with_a_warning(
    project: Project,
) -> None:
    search(project, learning_rate=[0.1], dropout=[0.0], layers=[1], nodes=[4])
    _, err = invoke("train", "--tuned", "--epochs", 1, "-C", project.root)
    assert "warning" not in err
    changed = [replace(s, energy=(s.energy or 0.0) + 0.1 * s.n_atoms) for s in structures()]
    write_store(project.structures_file, changed, reference_energies=ATOMIC_ENERGIES)
    _, err = invoke("train", "--tuned", "--epochs", 1, "-C", project.root)
    assert "warning: using the settings of an outdated search (1 trial; made with other energies);" in err
