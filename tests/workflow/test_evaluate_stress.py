"""Errors of stresses, and errors for each kind of structure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from projects import structures, with_forces
from workflow.evaluated import (
    TEST,
    install,
    make_potential,
    named,
    project_to_evaluate,
    relabel,
    residuals,
)

from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.project import feature_store as features
from tio2nn.project.project import Project
from tio2nn.structures.stress import from_voigt, to_voigt
from tio2nn.structures.structure import Structure
from tio2nn.workflow.evaluate import evaluate


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """24 structures in several shards, four of them in the test set, and a potential."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 16)
    return project_to_evaluate(tmp_path / "project")


@pytest.fixture
def potential_file(tmp_path: Path) -> Path:
    make_potential().save(tmp_path / "potential.npz")
    return tmp_path / "potential.npz"


def labeled(path: Path, chosen: Sequence[Structure]) -> Path:
    path.write_text("".join(exact_extxyz(structure, {}) for structure in chosen), encoding="utf-8")
    return path


def with_stress(structure: Structure, error: np.ndarray) -> Structure:
    """With the stress that the potential predicts, but for an error, eV/Å³."""
    (prediction,) = make_potential().predict([structure], forces=True)
    assert prediction.stress is not None
    return replace(structure, stress=prediction.stress - error)


def test_stresses_are_compared_where_there_are_any(potential_file: Path, tmp_path: Path) -> None:
    error = np.array([[0.003, 0.001, 0.0], [0.001, 0.0, 0.0], [0.0, 0.0, 0.0]])
    first, second, third, fourth = named(*TEST)
    chosen = [with_stress(first, error), with_stress(second, 2 * error), third, fourth]
    summary = evaluate(
        None,
        [labeled(tmp_path / "x.xyz", chosen)],
        potential_file=potential_file,
        directory=tmp_path / "results",
    )
    stress = summary.metrics["stress"]
    # each of six components counts once
    rmse = np.sqrt((3.0**2 + 1.0 + 6.0**2 + 2.0**2) / 12)
    assert stress["n_structures"] == 2
    assert stress["rmse_meV_per_A3"] == pytest.approx(rmse, rel=1e-6)
    assert stress["mae_meV_per_A3"] == pytest.approx(1.0, rel=1e-6)
    assert stress["max_meV_per_A3"] == pytest.approx(6.0, rel=1e-6)
    for key in ("rmse", "mae", "max"):
        assert stress[f"{key}_GPa"] == pytest.approx(0.16021766208 * stress[f"{key}_meV_per_A3"], rel=1e-6)
    rows = residuals(tmp_path / "results")
    assert [row["stress_max_meV_per_A3"] for row in rows] == ["3.00000", "6.00000", "", ""]
    assert float(rows[0]["stress_rmse_meV_per_A3"]) == pytest.approx(np.sqrt(10 / 6), abs=1e-5)
    assert (tmp_path / "results/stress.png").exists()
    assert not (tmp_path / "results/config_types.csv").exists()
    _, err = invoke("evaluate", tmp_path / "x.xyz", "--potential", potential_file)
    words = " ".join(err.split())
    assert "stress component, meV/Å³ 2.04 1.00 6.00" in words
    assert "stress component, GPa 0.327 0.160 0.961" in words
    assert "2 structures have a stress to compare with" in words


def test_shears_in_another_order_are_told(potential_file: Path, tmp_path: Path) -> None:
    chosen = [with_stress(s, np.zeros((3, 3))) for s in structures()[:10]]
    source = labeled(tmp_path / "x.xyz", chosen)
    _, err = invoke("evaluate", source, "--potential", potential_file)
    assert "shear stresses" not in err
    other = [from_voigt(to_voigt(s.stress)[[0, 1, 2, 4, 3, 5]]) for s in chosen if s.stress is not None]
    labeled(source, [replace(s, stress=stress) for s, stress in zip(chosen, other, strict=True)])
    _, err = invoke("evaluate", source, "--potential", potential_file)
    (line,) = [line for line in err.splitlines() if "shear stresses" in line]
    assert line.startswith(
        "warning: shear stresses of 10 structures seem to be in the order xx yy zz xz yz xy: "
    )


def test_the_test_part_is_compared_in_its_stresses_even_without_forces(project: Project) -> None:
    relabel(project, lambda s: replace(s, forces=None, stress=np.eye(3) * 0.01))
    install(project)
    assert evaluate(project).metrics["stress"]["n_structures"] == 4
    assert project.stress_figure.exists()
    relabel(project, lambda s: replace(s, forces=None))
    install(project)
    assert "stress" not in evaluate(project).metrics
    assert not project.stress_figure.exists()


def test_errors_are_told_for_each_kind_of_structure(potential_file: Path, tmp_path: Path) -> None:
    error = 0.001 * np.eye(3)
    first, second, third, fourth = named(*TEST)
    chosen = [
        replace(with_stress(first, error), config_type="bulk"),
        replace(with_forces(second), config_type="bulk"),
        replace(third, config_type="surface", forces=None),
        replace(fourth, forces=None),
    ]
    source = labeled(tmp_path / "x.xyz", chosen)
    directory = tmp_path / "results"
    summary = evaluate(None, [source], potential_file=potential_file, directory=directory)
    bulk, none, surface = summary.metrics["by_config_type"]
    assert [entry["config_type"] for entry in (bulk, none, surface)] == ["bulk", "", "surface"]
    assert [entry["n_structures"] for entry in (bulk, none, surface)] == [2, 1, 1]
    per_atom = [float(row["residual_meV_per_atom"]) for row in residuals(directory)]
    assert bulk["rmse_meV_per_atom"] == pytest.approx(np.sqrt(np.mean(np.square(per_atom[:2]))), rel=1e-5)
    assert surface["mae_meV_per_atom"] == pytest.approx(abs(per_atom[2]), rel=1e-5)
    assert bulk["force_rmse_eV_per_A"] == summary.metrics["forces"]["rmse_eV_per_A"]
    assert bulk["stress_rmse_meV_per_A3"] == pytest.approx(np.sqrt(0.5))
    assert surface["force_rmse_eV_per_A"] is None
    assert surface["stress_rmse_GPa"] is None
    with (directory / "config_types.csv").open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [row["config_type"] for row in table] == ["bulk", "", "surface"]
    assert table[2]["stress_rmse_GPa"] == ""
    assert float(table[0]["mae_meV_per_atom"]) == bulk["mae_meV_per_atom"]
    assert [row["config_type"] for row in residuals(directory)] == ["bulk", "bulk", "surface", ""]
    _, err = invoke("evaluate", source, "--potential", potential_file)
    assert "by config_type" in err
    assert "(none)" in err
    evaluate(None, [labeled(source, named(*TEST))], potential_file=potential_file, directory=directory)
    assert not (directory / "config_types.csv").exists()
