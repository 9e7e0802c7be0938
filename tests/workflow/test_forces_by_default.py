"""A new project uses the forces that its structures have, and an old one what it always used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refusal
from projects import PARAMETERS, structures, structures_with_forces, write_files

from tio2nn.cli import evaluate, train
from tio2nn.cli.fit_lines import errors_of
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import open_settings
from tio2nn.potential.potential import Potential
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project
from tio2nn.project.structure_store import read_store
from tio2nn.training.history import Epoch
from tio2nn.workflow import settings
from tio2nn.workflow.status import status

# all is left to the recipe but what makes a fit short
LEFT_OPEN = open_settings(PARAMETERS, "auto").with_overrides(
    network={"hidden_layers": [6, 6]}, training={"epochs": 2}
)
WITHOUT_FORCES = "training on energies alone, as requested; --forces adds the forces of"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with structures of which all but one have forces, and a project that leaves all open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    write_files(tmp_path / "files", structures_with_forces())
    Project.create(tmp_path / "p", LEFT_OPEN)
    return tmp_path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_files(place / "files", structures_with_forces())
        Project.create(place / "p", LEFT_OPEN)
        return place / "p", invoke("run", "files", "-C", "p", "-j", "1")[1]


@pytest.fixture
def trained(here: Path, first_run: tuple[Path, str]) -> Project:
    shutil.rmtree(here / "p")
    return Project(Path(shutil.copytree(first_run[0], here / "p")))


def words(text: str) -> str:
    return " ".join(text.split())


def test_run_uses_forces_says_so_and_what_it_will_cost(first_run: tuple[Path, str], trained: Project) -> None:
    said = words(first_run[1])
    n_train = Potential.load(trained.potential_file).about["n_train"]
    assert (
        f"training on the energies of all {n_train} structures and the forces of the {n_train - 1} that"
        in said
    )
    assert "--energies-only leaves the forces out" in said
    assert "4 networks of 6-6 nodes, 2 epochs, recipe auto: about 7 s of CPU time" in said
    assert "derivatives: 23 structures computed" in said
    recorded = ParameterSet.from_json(json.dumps(Potential.load(trained.potential_file).about["parameters"]))
    assert recorded.undecided == ()
    assert recorded.recipe == "auto"
    assert recorded.training.forces is True
    # what is left open stays open: more structures may need another decision
    assert trained.parameters() == LEFT_OPEN


def test_a_second_run_has_nothing_to_do_and_nothing_is_stale(trained: Project) -> None:
    assert {part.state for part in status(trained).parts} == {"up to date"}
    _, err = invoke("run", "files", "-C", "p")
    assert "training: nothing to do" in words(err)
    assert "derivatives: nothing to do" in words(err)


def test_more_structures_are_another_decision_and_another_training(
    trained: Project, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ParameterSet] = []
    monkeypatch.setattr(train, "perform", lambda _project, parameters, *_a, **_k: asked.append(parameters))
    monkeypatch.setattr(evaluate, "perform", lambda *_, **__: ({}, True))
    write_files(here / "files", [replace(s, name=f"more{s.name}") for s in structures(3, seed=4)])
    invoke("run", "files", "-C", "p")
    assert asked == [trained.parameters()]


@pytest.mark.usefixtures("eager")
def test_energies_only_leaves_the_forces_out_of_every_step(here: Path) -> None:
    _, err = invoke("run", "files", "-C", "p", "--energies-only", "-j", "1")
    assert "derivatives" not in err
    assert f"{WITHOUT_FORCES}" in words(err)
    project = Project(here / "p")
    assert not project.jacobian_table.exists()
    assert "training: nothing to do" in words(invoke("run", "files", "-C", "p", "--energies-only")[1])
    assert {part.state for part in status(project).parts} == {"up to date"}
    project.potential_file.unlink()
    missing = [part.name for part in status(project).parts if part.state == "missing"]
    assert missing == ["derivatives", "model"]
    message = refusal("train", "-C", "p", code=3)
    assert message.endswith('run "tio2nn featurize -C p --forces" first, or train with --energies-only')


def test_featurize_computes_what_will_be_needed(here: Path) -> None:
    invoke("extract", "files", "-C", "p")
    invoke("featurize", "--energies-only", "-C", "p")
    assert not Project(here / "p").jacobian_table.exists()
    _, err = invoke("featurize", "-C", "p")
    assert "derivatives: 23 structures" in words(err)
    assert "of disk" in err
    assert Project(here / "p").jacobian_table.exists()


@pytest.mark.slow
def test_structures_without_forces_are_no_obstacle(here: Path) -> None:
    shutil.rmtree(here / "files")
    write_files(here / "files", structures())
    invoke("extract", "files", "-C", "p")
    assert "derivatives" not in invoke("featurize", "-C", "p")[1]
    _, err = invoke("train", "-C", "p")
    assert "training on the energies of all" in words(err)
    assert "none has forces" in words(err)
    assert (
        "expected structures with forces, got none" in invoke("featurize", "--forces", "-C", "p", code=3)[1]
    )


@pytest.mark.parametrize(("training", "expected"), [({"forces": False}, False), ({"forces": True}, True)])
def test_a_project_of_0_1_0_keeps_its_meaning(here: Path, training: dict[str, Any], expected: bool) -> None:
    old = json.loads(PARAMETERS.with_overrides(training=training).to_json())
    del old["recipe"]
    (here / "p/params.json").write_text(json.dumps(old), encoding="utf-8")
    invoke("extract", "files", "-C", "p")
    invoke("featurize", "-C", "p")
    project = Project(here / "p")
    assert project.jacobian_table.exists() is expected
    assert settings.training_parameters(project).training.forces is expected
    assert len(read_store(project.structures_file)) == 24


def test_epochs_without_a_validation_part_show_no_second_error_of_forces() -> None:
    epoch = Epoch(1, 1e-3, 1.0, None, 3.0, None, None, 0.4, None, None, 1.0)
    assert errors_of(epoch) == "RMSE training 3.00 meV/atom; 0.400 eV/Å"
    validated = replace(epoch, validation_rmse_meV_per_atom=4.0)
    assert errors_of(validated).endswith("; 0.400, unknown eV/Å")
