"""Projects that earlier versions made: a later version reads them, or says with which command to make them again.

`old_projects/VERSION` is a project as that version left it, never to be changed. A version that changes a file format
keeps them all and adds its own:

    python tests/test_old_projects.py tests/old_projects/VERSION
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, rows
from places import OLD_PROJECTS
from projects import PARAMETERS, structures_with_forces, write_files

from tio2nn.io.read import read_structures
from tio2nn.potential.potential import Potential
from tio2nn.project.project import Project

VERSIONS = sorted(path.name for path in OLD_PROJECTS.iterdir())


def make(root: Path) -> None:
    """A project of all commands; its structures in `files`."""
    Project.create(root, PARAMETERS.with_overrides(training={"forces": True, "members": 2}))
    write_files(root / "files", structures_with_forces())
    for command in (["extract", root / "files"], ["featurize", "--forces"], ["train"], ["evaluate"]):
        invoke(*command, "-C", root)
    for picture in [*root.rglob("*.png"), *root.rglob("*.keras")]:
        picture.unlink()  # nothing reads them


@pytest.fixture(params=VERSIONS)
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(OLD_PROJECTS / request.param, tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path / "p")


def _states() -> dict[str, str]:
    out, _ = invoke("status", "--json", "-C", "p")
    return {part["name"]: part["state"] for part in json.loads(out)["parts"]}


def test_features_of_earlier_kernels_are_made_again_and_never_mixed_with_those_of_today(
    project: Project,
) -> None:
    stale = ("features", "derivatives", "model", "evaluation")
    expected = {"parameters": "up to date", "structures": "up to date", **dict.fromkeys(stale, "stale")}
    assert {name: _states()[name] for name in expected} == expected
    for command in (["train", "--forces"], ["evaluate"]):
        _, err = invoke(*command, "-C", "p", code=3)
        assert "made by an earlier version of tio2nn" in err
        assert 'run "tio2nn featurize' in err
    before = {path.name for path in project.features_directory.iterdir()}
    invoke("featurize", "--forces", "-C", "p")
    shards = {path.name for path in project.features_directory.iterdir() if path.suffix in (".npz", ".f32")}
    assert shards
    assert not shards & before
    assert _states()["features"] == _states()["derivatives"] == "up to date"
    # the model is of the features of before
    assert _states()["model"] == "stale"
    invoke("train", "--forces", "--epochs", 1, "-C", "p")
    assert _states()["model"] == "up to date"


def test_an_old_potential_predicts_what_it_did(project: Project) -> None:
    with project.residuals_file.open(encoding="utf-8", newline="") as handle:
        recorded = {row["structure"]: row for row in csv.DictReader(handle)}
    assert recorded
    out, _ = invoke("predict", "-C", "p", *(f"p/files/{name}.xsf" for name in recorded))
    for (_, _, energy, *_), row in zip(rows(out)[1:], recorded.values(), strict=True):
        assert float(energy) == pytest.approx(float(row["predicted_eV"]), rel=1e-12)


def test_an_old_potential_makes_the_errors_that_it_did(project: Project) -> None:
    recorded = json.loads(project.evaluation_metrics_file.read_text(encoding="utf-8"))
    before = _residuals(project.residuals_file)
    files = [f"p/files/{name}.xsf" for name in before]
    out, _ = invoke("evaluate", "-C", "p", "--json", *files)
    found = json.loads(out)
    assert found["n_structures"] == recorded["n_structures"] == len(before)
    for name in ("energy", "by_size", "by_energy", "by_composition"):
        _check_alike(found[name], recorded[name], name)
    for name in ("rmse_eV_per_A", "mae_eV_per_A", "max_eV_per_A"):
        assert found["forces"][name] == pytest.approx(recorded["forces"][name], rel=1e-6)
    after = _residuals(project.other_evaluation_directory / project.residuals_file.name)
    columns = ("residual_eV", "residual_meV_per_atom", "force_rmse_eV_per_A", "force_max_eV_per_A")
    for name, row in before.items():
        for column in columns:
            assert float(after[name][column]) == pytest.approx(float(row[column]), rel=1e-4), (name, column)


def _residuals(file: Path) -> dict[str, dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as handle:
        return {row["structure"]: row for row in csv.DictReader(handle)}


def _check_alike(found: Any, recorded: Any, where: str) -> None:
    """Numbers to the digits that stand in the file, everything else exactly."""
    if isinstance(recorded, dict):
        for name, value in recorded.items():
            _check_alike(found[name], value, f"{where}.{name}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for k, value in enumerate(recorded):
            _check_alike(found[k], value, f"{where}.{k}")
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, rel=1e-6), where
    else:
        assert found == recorded, where


def test_an_old_potential_measures_the_distances_that_it_did(project: Project, tmp_path: Path) -> None:
    potential = Potential.load(project.potential_file)
    potential.save(tmp_path / "again.npz")
    with project.residuals_file.open(encoding="utf-8", newline="") as handle:
        recorded = {row["structure"]: float(row["largest_distance"]) for row in csv.DictReader(handle)}
    files = [project.root / "files" / f"{name}.xsf" for name in recorded]
    structures = list(read_structures(files))
    for opened in (potential, Potential.load(tmp_path / "again.npz")):
        found = [prediction.distances.max() for prediction in opened.predict(structures)]
        assert found == pytest.approx(list(recorded.values()), rel=1e-3)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
