"""Learning curves of fits to energies, forces and stresses, with weights and with forces that are zero."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    no_pool,
    small_project,
    structures,
    structures_with_stress,
)
from searches import Here

from tio2nn.cli.learning_curve import _line
from tio2nn.evaluation.power_law import fit_curve
from tio2nn.project.project import Project
from tio2nn.project.structure_store import write_store
from tio2nn.structures.structure import Structure
from tio2nn.training.dataset import FitData
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import Outcome
from tio2nn.workflow import learning_curve as verb
from tio2nn.workflow.curve_settings import CurveSettings
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.learning_curve import CurvePlan, CurveSummary, learning_curve

AUTO = PARAMETERS.with_overrides(training={"forces": "auto", "stress": "auto", "epochs": 2})


def invented(task: TrialTask) -> Outcome:
    data = FitData.load(task.data, task.derivatives, task.strains)
    n = len(data.train.counts)
    return Outcome(
        status="completed",
        validation_rmse_meV_per_atom=80.0 / n,
        validation_mae_meV_per_atom=40.0 / n,
        validation_force_rmse_eV_per_A=None if data.train_forces is None else n**-0.5,
        validation_stress_rmse_meV_per_A3=None if data.train_stress is None else 9.0 / n,
        seconds=1.0,
    )


def project_of(root: Path, chosen: Sequence[Structure], **training: Any) -> Project:
    project = small_project(root, AUTO.with_overrides(training=training), chosen)
    featurize(project, jobs=1, make_executor=no_pool)
    return project


def write(project: Project, chosen: Sequence[Structure]) -> None:
    write_store(project.structures_file, chosen, reference_energies=ATOMIC_ENERGIES)


def curve(
    project: Project, run: Callable[[TrialTask], Outcome] = invented, **training: Any
) -> tuple[CurveSummary, list[TrialTask], CurvePlan]:
    """A curve of one fit to each size, the fits that it made, and its plan."""
    here, plans = Here(run), []
    summary = learning_curve(
        project,
        project.parameters().with_overrides(training=training),
        CurveSettings((25.0, 50.0, 100.0), 1),
        jobs=1,
        make_executor=lambda _: here,
        on_plan=plans.append,
    )
    return summary, here.tasks, plans[0]


def test_fits_learn_and_report_the_stress_where_train_would(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", structures_with_stress())
    summary, tasks, _ = curve(project)
    assert all(task.strains is not None and task.derivatives is not None for task in tasks)
    law = summary.curves["stress_rmse_meV_per_A3"]
    assert law is not None
    assert law.law.exponent == pytest.approx(1.0)
    assert "stress_rmse_meV_per_A3" in (project.curve_directory / "curve.csv").read_text().splitlines()[0]
    known, tasks, _ = curve(project)
    assert (known.fits, tasks) == (summary.fits, [])
    without, tasks, _ = curve(project, stress=False)
    assert [task.strains for task in tasks] == [None] * 3
    assert "stress_rmse_meV_per_A3" not in without.curves


def test_the_loss_of_the_stress_is_compiled_before_workers_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    compile_loops = verb.compile_loops

    def noted(data: FitData) -> None:
        order.append("forces and stress" if data.train_stress is not None else "forces")
        compile_loops(data)

    def run(task: TrialTask) -> Outcome:
        order.append("fit")
        return invented(task)

    monkeypatch.setattr(verb, "compile_loops", noted)
    curve(project_of(tmp_path / "p", structures_with_stress()), run)
    assert order == ["forces and stress", "fit"] * 3


@pytest.mark.slow
def test_a_real_fit_has_an_error_of_the_stress(tmp_path: Path) -> None:
    summary, _, _ = curve(project_of(tmp_path / "p", structures_with_stress()), run_trial)
    assert all(fit.stress_rmse_meV_per_A3 for fit in summary.fits)


def test_fits_to_other_stresses_or_with_other_weights_are_not_reused(tmp_path: Path) -> None:
    chosen = structures_with_stress()
    project = project_of(tmp_path / "p", chosen)
    curve(project)
    write(project, [s if s.stress is None else replace(s, stress=2.0 * s.stress) for s in chosen])
    assert len(curve(project)[1]) == 3
    assert len(curve(project)[1]) == 0
    for weight in (2.0, 3.0):
        write(project, [replace(s, weight=weight if k % 2 else 1.0) for k, s in enumerate(chosen)])
        assert len(curve(project)[1]) == 3
        assert len(curve(project)[1]) == 0
    write(project, chosen)
    assert len(curve(project)[1]) == 0


def test_stresses_that_are_not_used_change_no_fit(tmp_path: Path) -> None:
    chosen = structures_with_stress()
    project = project_of(tmp_path / "p", chosen, stress=False)
    curve(project)
    write(project, [s if s.stress is None else replace(s, stress=2.0 * s.stress) for s in chosen])
    assert len(curve(project)[1]) == 0


def test_forces_that_are_zero_get_no_law(tmp_path: Path) -> None:
    def run(task: TrialTask) -> Outcome:
        return replace(invented(task), validation_force_rmse_eV_per_A=0.0)

    chosen = [replace(s, forces=np.full((s.n_atoms, 3), 1e-9)) for s in structures()]
    project = project_of(tmp_path / "p", chosen)
    summary, tasks, plan = curve(project, run)
    assert plan.forces_are_zero
    assert all(task.derivatives is not None for task in tasks)
    assert set(summary.curves) == {"energy_rmse_meV_per_atom", "energy_mae_meV_per_atom"}
    document = json.loads((project.curve_directory / "curve.json").read_text(encoding="utf-8"))
    assert "force_rmse_eV_per_A" not in document["laws"]
    assert not curve(project, forces=False)[2].forces_are_zero


@pytest.mark.parametrize(
    ("options", "labels", "is_told"),
    [
        ((), "energies, forces and stresses", True),
        (("--no-stress",), "energies and forces", False),
        (("--energies-only", "--stress"), "energies and stresses", True),
        (("--energies-only",), "energies alone", False),
    ],
)
def test_the_command_names_what_is_learned(
    options: tuple[str, ...], labels: str, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tio2nn.parallel import workers

    monkeypatch.setattr(workers, "trial_workers", lambda _: Here(invented))
    project = project_of(tmp_path / "p", structures_with_stress())
    _, err = invoke("learning-curve", "-C", str(project.root), "--repeats", "1", "-j", "1", *options)
    assert f"fits of one network each to {labels} of " in err
    assert (" meV/Å³, exponent " in err) is is_told
    assert "as by symmetry" not in err


def test_the_command_says_that_forces_are_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tio2nn.parallel import workers

    monkeypatch.setattr(workers, "trial_workers", lambda _: Here(invented))
    chosen = [replace(s, forces=np.zeros((s.n_atoms, 3))) for s in structures()]
    project = project_of(tmp_path / "p", chosen)
    _, err = invoke("learning-curve", "-C", str(project.root), "-j", "1")
    assert (
        "the forces of the test set are zero, as by symmetry: their errors say nothing about more data" in err
    )
    assert "force RMSE:" not in err


@pytest.mark.parametrize(
    ("exponent", "end"), [(1.0, "50 % less"), (-0.2265, "17 % more"), (0.0, "the same"), (0.005, "the same")]
)
def test_errors_that_rise_are_told_as_such(exponent: float, end: str) -> None:
    sizes = [10, 20, 40]
    found = fit_curve(sizes, [n**-exponent for n in sizes])
    assert _line("energy RMSE", "meV/atom", found, 40).endswith(f", {end}")
