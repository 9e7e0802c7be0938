"""--for PROGRAM: kept in params.json, and obeyed by what follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke, refusal
from projects import PARAMETERS, small_project, structures, write_files

from tio2nn.errors import InputError
from tio2nn.potential.potential import Potential
from tio2nn.project.project import Project
from tio2nn.workflow.train import train


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parameters_in(directory: str) -> Any:
    return json.loads(Path(directory, "params.json").read_text(encoding="utf-8"))


def test_init_and_featurize_keep_the_target() -> None:
    write_files(Path("files"), structures()[:6])
    invoke("init", "p", "--for", "cp2k")
    invoke("extract", "-C", "p", "files")
    assert parameters_in("p")["target"] == "cp2k"
    assert parameters_in("p")["radial"]
    invoke("featurize", "-C", "p", "-j", 1, "--energies-only", "--for", "aenet")
    assert parameters_in("p")["target"] == "aenet"


def test_train_makes_a_potential_that_the_program_reads(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    document = parameters_in("p")
    Path("p/params.json").write_text(json.dumps({"$schema": "schema.json", **document}))
    assert document["network"]["activation"] == "silu"
    assert "no activation" in refusal_of_train_with("lammps", "silu")
    invoke("train", "-C", "p", "-j", 1, "--for", "cp2k")
    changed = parameters_in("p")
    assert changed["$schema"] == "schema.json"
    assert (changed["target"], changed["network"]["activation"]) == ("cp2k", None)
    trained = Potential.load(project.potential_file)
    assert trained.members[0][0][0].activation == "tanh"
    assert trained.parameters.target == "cp2k"
    # a folder for CP2K without further options
    invoke("export", "-C", "p", "nnp")
    assert "# units: atomic" in Path("nnp/input.nn").read_text(encoding="utf-8")


def refusal_of_train_with(target: str, activation: str) -> str:
    document = parameters_in("p")
    changed = {**document, "target": target, "network": {**document["network"], "activation": activation}}
    Path("p/params.json").write_text(json.dumps(changed))
    message = refusal("train", "-C", "p", code=3)
    assert f'run "tio2nn train -C p --for {target}"' in message
    with pytest.raises(InputError, match="no activation"):
        train(Project("p"))
    return message


def test_train_warns_of_what_the_program_computes_wrong() -> None:
    Project.create("p", PARAMETERS.with_overrides(target="cp2k", network={"activation": "softplus"}))
    small = small_project(Path("q"), Project("p").parameters())
    _, err = invoke("train", "-C", small.root, "-j", 1)
    assert "warning: CP2K computes right energies but wrong forces from softplus" in err


@pytest.mark.parametrize("preset", [pytest.param("auto", marks=pytest.mark.slow), "rili-2024"])
def test_run_makes_a_project_for_the_program(preset: str) -> None:
    write_files(Path("files"), structures())
    options = ["--energies-only", "--no-tune", "--epochs", 2, "--members", 1, "-j", 1, "--preset", preset]
    invoke("run", "files", "-C", "p", "--for", "aenet", *options)
    assert parameters_in("p")["target"] == "aenet"
    invoke("export", "-C", "p", "nn")
    assert Path("nn/Ti.nn").is_file()
    # an existing project is changed
    invoke("run", "files", "-C", "p", "--for", "lammps", *options)
    assert parameters_in("p")["target"] == "lammps"


def test_a_program_that_is_not_known_is_refused() -> None:
    assert refusal("init", "p", "--for", "gromacs", code=2).startswith(
        "--for: expected one of lammps, cp2k, aenet"
    )
    assert not Path("p").exists()
