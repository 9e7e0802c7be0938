"""Commands that begin from a potential: what they find up to date, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import invoke, refusal
from projects import structures_with_forces, trained_project, write_files
from workflow.origins import COMMITTEE, STANDSTILL, other_project, with_lithium

from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FRESH, STALE
from tio2nn.project.project import Project
from tio2nn.workflow.fine_tune import read_origin, resolved_from
from tio2nn.workflow.inputs import own_split
from tio2nn.workflow.lessons import FineTuning
from tio2nn.workflow.train import train


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two networks, trained on 24 structures of titanium and oxygen."""
    return trained_project(tmp_path_factory.mktemp("origin") / "p", **COMMITTEE).potential_file


# --- freshness --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_a_model_is_stale_for_a_fit_with_another_origin(tmp_path: Path, potential: Path) -> None:
    project = other_project(tmp_path / "p", **STANDSTILL)
    train(project, lesson=FineTuning(potential), jobs=1)
    snapshot, origin = Snapshot.of(project), read_origin(potential)
    fitted = resolved_from(snapshot.parameters, snapshot.structures, own_split(snapshot), None, origin)
    assert snapshot.model().kind == FRESH
    assert snapshot.model(fitted, None, origin.digest).kind == FRESH
    state = snapshot.model(fitted)
    assert (state.kind, state.of) == (STALE, ("origin",))


@pytest.mark.slow
def test_run_makes_a_project_with_the_functions_of_the_potential_and_begins_from_it(
    tmp_path: Path, potential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "new", with_lithium())
    words = ("run", "new", "-C", "p", "--from", potential, "--epochs", 2, "--no-test", "-j", 1)
    _, err = invoke(*words)
    assert f"beginning from {potential} (RMSE" in err
    assert "new networks for Li" in err
    project = Project(tmp_path / "p")
    parameters, before = project.parameters(), Potential.load(potential).parameters
    assert parameters.elements == ("Ti", "O", "Li")
    assert (parameters.cutoff, parameters.radial, parameters.recipe) == (before.cutoff, before.radial, "auto")
    _, err = invoke(*words)
    assert "nothing to do, the model is up to date" in err
    _, err = invoke("run", "new", "-C", "p", "--epochs", 2, "-j", 1)
    assert "beginning from" not in err
    assert "trained 4 networks" in err


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_refuses_in_one_line(
    tmp_path: Path, potential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other_project(tmp_path / "p", cutoff=4.0)
    other_project(tmp_path / "q", cutoff=4.2)
    (tmp_path / "text").write_text("no potential\n")
    own = ("-C", "p", "--from")
    assert refusal("train", *own, "missing.npz", code=3) == "missing.npz: no such file"
    assert "expected a potential written by tio2nn train" in refusal("train", *own, "text", code=3)
    assert "got a directory" in refusal("train", *own, "p", code=3)
    assert "cutoff 4.2 Å" in refusal("train", "-C", "q", "--from", potential, code=3)
    assert "--members: expected at most 2" in refusal("train", *own, potential, "--members", 3, code=2)
    message = refusal("train", *own, potential, "--member", 1, code=2)
    assert message == "--member takes its settings from the preparation; give them to --prepare"
    message = refusal("run", "p", "-C", "new", "--from", potential, "--preset", "auto", code=2)
    assert "expected no --preset or --elements" in message
    assert "expected no --tune" in refusal("run", "p", "-C", "p", "--from", potential, "--tune", code=2)
    message = refusal("train", *own, potential, "--tuned", code=2)
    assert message.startswith("--tuned cannot be combined with --from")
    invoke("init", "draft")
    assert "tio2nn init --from FILE" in refusal("run", "p", "-C", "draft", "--from", potential, code=2)


def test_run_refuses_structures_without_an_element_of_the_potential_before_it_computes(
    tmp_path: Path, potential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    titanium = [
        replace(s, elements=("Ti",) * s.n_atoms, name=f"ti{k}")
        for k, s in enumerate(structures_with_forces())
    ]
    write_files(tmp_path / "titanium", titanium)
    expected = (
        "expected structures with all elements of the potential to begin from (Ti, O), got none with O; add some that "
        "it was trained on"
    )
    for place in ("new", "there"):
        if place == "there":
            invoke("init", "there", "--from", potential)
        _, err = invoke("run", "titanium", "-C", place, "--from", potential, code=3)
        assert err.splitlines()[-1] == f"{potential}: {expected}"
        assert "symmetry functions" not in err
        assert not Path(place, "features").exists()
    assert not Path("new/params.json").exists()
    _, err = invoke("run", "titanium", "-C", "there", code=3)
    assert err.splitlines()[-1] == (
        "there/params.json: expected structures with all elements (Ti, O), got none with O; add structures, or take "
        "the elements out of it"
    )
    assert not Path("there/features").exists()


def test_init_takes_the_functions_of_a_potential(
    tmp_path: Path, potential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("init", "p", "--from", potential)
    found, before = Project(Path("p")).parameters(), Potential.load(potential).parameters
    assert found.fingerprint == before.fingerprint
    assert found.recipe == "auto"
    assert found.network.hidden_layers is None


def test_init_says_of_a_damaged_potential_what_train_says(
    tmp_path: Path, potential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other_project(tmp_path / "p", cutoff=4.0)
    content = potential.read_bytes()
    for damaged in (content[: len(content) // 2], b"\x00\xff" * 100, b""):
        Path("damaged.npz").write_bytes(damaged)
        line = refusal("init", "q", "--from", "damaged.npz", code=3)
        assert line.startswith("damaged.npz: expected a potential written by tio2nn train, got")
        assert line == refusal("train", "-C", "p", "--from", "damaged.npz", code=3)
    assert refusal("init", "q", "--from", "missing.npz", code=3) == "missing.npz: no such file"
    assert not Path("q").exists()
