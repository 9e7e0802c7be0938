"""Learning curves of two dozen structures, most of them with invented errors; one is killed, as a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refusal, start
from projects import (
    PARAMETERS,
    extracted_project,
    project_with_derivatives,
    small_project,
    structures,
    trained_project,
)
from searches import Here, table

from tio2nn.errors import InputError, UsageError
from tio2nn.parallel.workers import WorkerDied
from tio2nn.parameters import auto_recipe
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.structures.split import LEFT_OUT
from tio2nn.training.subsets import Subsets
from tio2nn.tuning.curve_ledger import CurveFit
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import DIVERGED, Outcome
from tio2nn.workflow.curve_settings import CurveSettings
from tio2nn.workflow.inputs import SplitRequest, choose_split
from tio2nn.workflow.learning_curve import CurvePlan, CurveSummary, learning_curve

PERCENTS = (25.0, 50.0, 100.0)


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("curve") / "project").root


@pytest.fixture
def project(featurized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(featurized, tmp_path / "p")
    return Project("p")


def invented(task: TrialTask) -> Outcome:
    """Errors that follow a law exactly."""
    from tio2nn.training.dataset import FitData

    n = len(FitData.load(task.data, task.derivatives).train.counts)
    return Outcome(
        status="completed",
        validation_rmse_meV_per_atom=80.0 / n,
        validation_mae_meV_per_atom=40.0 / n,
        validation_force_rmse_eV_per_A=None if task.derivatives is None else n**-0.5,
        seconds=1.0,
    )


def curve(
    project: Project, run: Callable[[TrialTask], Outcome] = invented, **changes: Any
) -> tuple[CurveSummary, list[TrialTask], list[CurvePlan]]:
    """A curve, the fits that it made, and its plan."""
    here, plans = Here(run), []
    settings = CurveSettings(**({"percents": PERCENTS} | changes.pop("settings", {})))
    summary = learning_curve(
        project,
        settings=settings,
        **({"jobs": 1, "make_executor": lambda _: here, "on_plan": plans.append} | changes),
    )
    return summary, here.tasks, plans


def files_of(project: Project) -> dict[str, bytes]:
    found = (path for path in project.root.rglob("*") if path.is_file())
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in found
        if project.curve_directory not in path.parents
    }


# --- which fits ---------------------------------------------------------------------------------------------


def subsets_of(project: Project, split: str = "random") -> Subsets:
    parameters = PARAMETERS.with_overrides(training={"split": split})
    snapshot = Snapshot(project)
    request = SplitRequest(new=True)
    return Subsets(
        parameters, snapshot.structures, choose_split(snapshot.seen_by(parameters), parameters, request)
    )


def test_smaller_sets_lie_within_larger_ones_and_the_same_structures_judge(project: Project) -> None:
    subsets = subsets_of(project)
    splits = [subsets.split(percent, 1) for percent in (10, 25, 50, 100)]
    trains = [set(split.indices("train").tolist()) for split in splits]
    assert [len(train) for train in trains] == [subsets.size(p) for p in (10, 25, 50, 100)]
    assert all(one < other for one, other in pairwise(trains))
    judging = {tuple(split.indices("validation").tolist()) for split in splits}
    assert len(judging) == 1
    assert not trains[-1] & set(*judging)
    assert subsets.judge == "test"
    assert len(*judging) == subsets.n_judging
    assert splits[0].parts.count(LEFT_OUT) == 24 - len(trains[0]) - subsets.n_judging
    assert trains[1] != set(subsets.split(25, 2).indices("train").tolist())
    assert trains[3] == set(subsets.split(100, 2).indices("train").tolist())


def test_groups_stay_together_if_the_split_is_grouped(tmp_path: Path) -> None:
    groups = [f"g{k // 3}" for k in range(24)]
    project = extracted_project(tmp_path / "p", groups=groups)
    subsets = subsets_of(project, "grouped")
    for percent in (20, 50):
        train = subsets.split(percent, 1).indices("train").tolist()
        assert len(train) % 3 == 0
        assert sum(groups.count(name) for name in {groups[k] for k in train}) == len(train)


def test_the_first_structures_have_every_element(tmp_path: Path) -> None:
    chosen = [
        replace(s, elements=("O",) * s.n_atoms) if k > 2 else replace(s, elements=("Ti",) * s.n_atoms)
        for k, s in enumerate(structures())
    ]
    subsets = subsets_of(extracted_project(tmp_path / "p", chosen=chosen))
    store = Snapshot(Project(tmp_path / "p")).structures
    for repeat in range(1, 9):
        train = subsets.split(10, repeat).indices("train")
        assert len(train) == 2
        assert (store.compositions(("Ti", "O"))[train].sum(axis=0) > 0).all()


def test_each_fit_is_what_train_makes_of_so_many_structures(tmp_path: Path) -> None:
    changes = {"epochs": None, "batch_size": None, "members": None, "forces": "auto", "early_stopping": 3}
    parameters = PARAMETERS.with_overrides(recipe="auto", training=changes)
    project = project_with_derivatives(tmp_path / "p", parameters)
    _, tasks, (plan,) = curve(project)
    assert sorted(task.training.epochs for task in tasks) == sorted(
        fit.parameters.training.epochs for fit in plan.fits
    )
    assert len({task.training.epochs for task in tasks}) == 3
    # which epoch is best is not for those to say that judge
    assert {task.training.early_stopping for task in tasks} == {0}
    assert {task.training.seed for task in tasks} == {PARAMETERS.training.seed, PARAMETERS.training.seed + 1}


def test_single_networks_keep_the_epochs_that_a_committee_would_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if four networks took too long for all epochs, but not for some
    monkeypatch.setattr(auto_recipe, "_MOST_SECONDS_TOGETHER", 1.0)
    length = auto_recipe.LENGTHS["adam"]._replace(fewest_epochs_of_four=1)
    monkeypatch.setitem(auto_recipe.LENGTHS, "adam", length)
    changes = {"epochs": None, "batch_size": None, "members": None, "forces": "auto"}
    parameters = PARAMETERS.with_overrides(recipe="auto", training=changes)
    _, tasks, _ = curve(project_with_derivatives(tmp_path / "p", parameters))
    assert min(task.training.epochs for task in tasks) >= 300


def test_all_fits_have_the_optimizer_of_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"epochs": 1, "batch_size": None, "members": None, "forces": "auto", "optimizer": None}
    parameters = PARAMETERS.with_overrides(recipe="auto", training=changes)
    project = project_with_derivatives(tmp_path / "p", parameters)
    assert {task.training.optimizer for task in curve(project)[1]} == {"adam"}
    # as if half of the training set were large enough
    _, _, (plan,) = curve(project)
    sizes = sorted({fit.n_train for fit in plan.fits})
    assert sizes[0] < sizes[-1] // 2
    monkeypatch.setattr(auto_recipe, "_FEWEST_STRUCTURES_FOR_MUON", sizes[-1] // 2)
    project = project_with_derivatives(tmp_path / "q", parameters)
    assert {task.training.optimizer for task in curve(project)[1]} == {"muon"}


def test_forces_are_used_where_train_would(tmp_path: Path) -> None:
    parameters = PARAMETERS.with_overrides(training={"forces": "auto"})
    summary, tasks, _ = curve(project_with_derivatives(tmp_path / "p", parameters))
    assert all(task.derivatives is not None for task in tasks)
    assert set(summary.curves) == {
        "energy_rmse_meV_per_atom",
        "energy_mae_meV_per_atom",
        "force_rmse_eV_per_A",
    }
    law = summary.curves["force_rmse_eV_per_A"]
    assert law is not None
    assert law.law.exponent == pytest.approx(0.5)


def test_a_real_fit_is_judged_by_the_held_out_structures(project: Project) -> None:
    """As the validation error of a fit whose validation set they are."""
    from tio2nn.workflow.train import train

    summary, _, _ = curve(project, run_trial, settings={"repeats": 1})
    split = choose_split(Snapshot(project), PARAMETERS)
    parts = [{"test": "validation", "train": "train"}.get(part, "") for part in split.parts]
    rows = [f"{name},{part}" for name, part in zip(split.names, parts, strict=True)]
    Path("same.csv").write_text("\n".join(["structure,part", *rows]) + "\n", encoding="utf-8")
    expected = train(project, PARAMETERS, split="same.csv", jobs=1)
    (whole,) = (fit for fit in summary.fits if fit.percent == 100)
    assert whole.energy_rmse_meV_per_atom == pytest.approx(expected.validation_rmse)


# --- what comes out -----------------------------------------------------------------------------------------


def test_table_document_and_figure(project: Project) -> None:
    summary, tasks, (plan,) = curve(project)
    assert len(tasks) == len(plan.missing) == 6
    assert plan.cpu_seconds > plan.wall_seconds / 2 > 0
    rows = table(project.curve_directory / "curve.csv")
    assert [(row["percent"], row["repeat"]) for row in rows] == [
        (f"{percent}", f"{repeat}") for percent in PERCENTS for repeat in (1, 2)
    ]
    document = json.loads((project.curve_directory / "curve.json").read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(summary.document))
    law = document["laws"]["energy_rmse_meV_per_atom"]
    n = max(fit.n_train for fit in summary.fits)
    assert (law["factor"], law["exponent"]) == (pytest.approx(80.0), pytest.approx(1.0))
    assert law["twice"]["n_train"] == 2 * n
    assert law["twice"]["value"] == pytest.approx(40.0 / n)
    png = (project.curve_directory / "curve.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert sorted(path.name for path in project.curve_directory.iterdir()) == [
        "curve.csv",
        "curve.json",
        "curve.png",
        "fits.csv",
    ]


def test_nothing_else_of_the_project_is_touched(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    before = files_of(project)
    curve(project, split=SplitRequest(new=True))
    curve(project)
    assert files_of(project) == before


def test_finished_fits_are_not_repeated_and_others_are_added(project: Project) -> None:
    one, tasks, _ = curve(project, settings={"repeats": 1})
    assert len(tasks) == 3
    seen: list[CurveFit] = []
    other, tasks, (plan,) = curve(project, settings={"percents": (*PERCENTS, 75.0)}, on_fit=seen.append)
    assert (len(plan.fits), len(tasks), other.n_known) == (8, 5, 3)
    assert set(one.fits) <= set(other.fits)
    assert len(seen) == 8
    _, tasks, _ = curve(project, settings={"percents": (*PERCENTS, 75.0)})
    assert tasks == []


def test_other_settings_or_data_are_other_fits(project: Project) -> None:
    curve(project)
    changed = PARAMETERS.with_overrides(training={"epochs": 5})
    assert len(curve(project, parameters=changed)[1]) == 6


def test_a_fit_that_diverges_counts_for_nothing(project: Project) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("validation_rmse_meV_per_atom", "validation_mae_meV_per_atom"))

    def run(task: TrialTask) -> Outcome:
        found = invented(task)
        return replace(found, status=DIVERGED, **nothing) if task.seed == PARAMETERS.training.seed else found

    summary, _, _ = curve(project, run)
    assert sum(fit.status == DIVERGED for fit in summary.fits) == 3
    law = summary.curves["energy_rmse_meV_per_atom"]
    assert law is not None
    assert law.law.exponent == pytest.approx(1.0)


def test_a_worker_that_dies_ends_the_curve_and_what_is_done_is_kept(project: Project) -> None:
    def run(task: TrialTask) -> Outcome:
        if len(done) == 2:
            raise WorkerDied("the worker process was killed by SIGKILL")
        done.append(task)
        return invented(task)

    done: list[TrialTask] = []
    with pytest.raises(InputError, match="was killed by SIGKILL; finished fits are kept; to use less memory"):
        curve(project, run)
    assert not list(project.curve_directory.glob("*.npz"))
    _, tasks, _ = curve(project)
    assert len(tasks) == 4


# --- as a command -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_the_command_says_what_it_will_do_and_what_more_would_buy(monkeypatch: pytest.MonkeyPatch) -> None:
    from tio2nn.parallel import workers

    monkeypatch.setattr(workers, "trial_workers", lambda _: Here(invented))
    out, err = invoke("learning-curve", "-C", "p", "--fractions", "2,25,50,100", "-j", "1", "--json")
    lines = err.splitlines()
    assert "warning: 2 % of the training set is too small for a fit; left out" in lines
    plan = next(
        line for line in lines if line.startswith("6 fits of one network each to energies alone of 5, ")
    )
    assert plan.endswith("of the test set")
    assert any("of CPU time, 1 at a time: about" in line for line in lines)
    assert sum(line.startswith("fit ") for line in lines) == 6
    bought = next(line for line in lines if line.startswith("energy RMSE: 80 N^-1 meV/atom, exponent 1.00 ("))
    assert "twice the data (" in bought
    assert bought.endswith("50 % less")
    assert json.loads(out)["judged_by"]["set"] == "test"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--fractions", "10,x"], 2, "--fractions: expected numbers such as 5,10,100, got '10,x'"),
        (["--fractions", "10,120,50"], 2, "--fractions: expected numbers above 0 and up to 100, got 120"),
        (["--fractions", "50,100"], 2, "--fractions: expected at least 3 different numbers, got 2"),
        (["--split", "a.csv", "--split-by", "grouped"], 2, "--split cannot be combined with --split-by"),
        (["--split-by", "groups"], 2, "--split-by"),
    ],
)
@pytest.mark.usefixtures("project")
def test_wrong_options_end_with_one_line(words: list[str], code: int, expected: str) -> None:
    _, err = invoke("learning-curve", "-C", "p", *words, code=code)
    # at once: TensorFlow is not started, which would be told
    (line,) = err.splitlines()
    assert expected in line


def test_without_features_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    line = refusal("learning-curve", "-C", project.root, code=3)
    assert line.startswith("no features in ")
    assert 'run "tio2nn featurize' in line


def test_too_few_structures_are_refused(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", chosen=structures()[:6])
    with pytest.raises(
        InputError, match="expected training sets of at least 3 sizes for a curve, got 2, as there are"
    ):
        curve(project, settings={"percents": (10.0, 50.0, 100.0)})
    tiny = small_project(tmp_path / "tiny", chosen=structures()[:4])
    with pytest.raises(InputError, match="expected structures that are held out to judge the fits, got none"):
        curve(tiny)


def test_a_damaged_ledger_is_told(project: Project) -> None:
    curve(project)
    ledger = project.curve_directory / "fits.csv"
    ledger.write_text(
        ledger.read_text(encoding="utf-8").replace("completed,", "completed,x", 1), encoding="utf-8"
    )
    with pytest.raises(
        InputError, match=r'expected a table of fits, got: .*; delete it and run "tio2nn learning-curve'
    ):
        curve(project)


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="--repeats: expected at least 1, got 0"):
        CurveSettings(repeats=0)


@pytest.mark.slow
def test_a_curve_that_was_killed_goes_on(project: Project, tmp_path: Path) -> None:
    command = ("learning-curve", "-C", "p", "-j", "2", "--fractions", "25,50,100", "--repeats", "1")
    process = start(tmp_path, *command, start_new_session=True)
    ledger, deadline = project.curve_directory / "fits.csv", time.monotonic() + 300
    while not ledger.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = table(ledger)
    assert 1 <= len(kept) <= 3
    process = start(tmp_path, *command)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"{len(kept)} of 3 fits from an earlier run" in err
    rows = table(project.curve_directory / "curve.csv")
    # with their times, so they were not computed again
    assert [row for row in rows if row in kept] == sorted(kept, key=lambda row: float(row["percent"]))
    undisturbed, _, _ = curve(Project(shutil.copytree("p", "q")), run_trial, settings={"repeats": 1})
    assert [float(row["energy_rmse_meV_per_atom"]) for row in rows] == pytest.approx(
        [fit.energy_rmse_meV_per_atom for fit in undisturbed.fits]
    )
    assert np.isfinite([fit.seconds for fit in undisturbed.fits]).all()
