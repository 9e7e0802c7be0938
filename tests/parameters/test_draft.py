"""The preset auto from the side of a user: what init leaves open, extract completes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke, refusal, without_training
from projects import PARAMETERS, structures, write_files

from tio2nn.errors import InputError, ParameterError
from tio2nn.parameters.draft import Draft, load_parameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.structure import Structure


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a folder of structures of copper, and no project named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    write_files(tmp_path / "copper", copper())
    return tmp_path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[ParameterSet]:
    """The settings of each training that is asked for; none is done."""
    return without_training(monkeypatch, "bulk1")


def copper(*others: str) -> list[Structure]:
    """Shaken crystals; the first atom of the k-th one is of the k-th other element."""
    rng = np.random.default_rng(0)
    sites = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    made = []
    for k in range(4):
        cell = 3.6 * (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3)))
        elements = (others[k] if k < len(others) else "Cu", "Cu", "Cu", "Cu")
        made.append(
            Structure(f"bulk{k}", elements, sites @ cell, cell, energy=-15.0 + 0.1 * k, file=f"bulk{k}.xsf")
        )
    return made


def content(path: str = "p/params.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def edit(change: Callable[[dict[str, Any]], object], path: str = "p/params.json") -> None:
    document = content(path)
    change(document)
    Path(path).write_text(json.dumps(document), encoding="utf-8")


# --- the file -----------------------------------------------------------------------------------------------


def test_init_writes_the_settings_and_leaves_the_functions_open() -> None:
    _, err = invoke("init", "p")
    assert err.splitlines() == [
        (
            'created p/params.json; next: "tio2nn extract -C p SOURCE...", which chooses symmetry functions for the '
            "structures"
        )
    ]
    document = content()
    assert document["preset"] == "auto"
    assert {"network", "training", "tuning"} < document.keys()
    assert document.keys().isdisjoint({"elements", "cutoff", "radial", "angular"})
    default = preset("artrith-urban-2016")
    sections = json.loads(default.to_json())
    assert all(document[name] == sections[name] for name in ("network", "training", "tuning"))


@pytest.mark.parametrize("flags", [("--elements", "Cu,Au"), ("--elements", "Cu,Au", "--preset", "auto")])
def test_elements_that_are_given_stand_in_the_file(flags: tuple[str, ...]) -> None:
    invoke("init", "p", *flags)
    assert content()["elements"] == ["Cu", "Au"]
    assert Project(Path("p")).parameters_or_draft() == Draft.new(["Cu", "Au"])


def test_a_draft_that_is_written_reads_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    for elements in (None, ("Cu",), ("Au", "Cu")):
        draft = replace(Draft.new(elements), schema="schema.json")
        path.write_text(draft.to_json(), encoding="utf-8")
        assert load_parameters(path) == draft
    path.write_text(PARAMETERS.to_json(), encoding="utf-8")
    assert load_parameters(path) == PARAMETERS


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"preset": "extended"},
            'preset: expected "auto", got "extended"; for another preset, run',
        ),
        (
            {"preset": "auto", "cutoff": 5.0, "radial": []},
            'chooses the cutoff and functions: remove "preset" or "cutoff" and "radial"',
        ),
        ({"preset": "auto", "trainning": {}}, 'trainning: unknown key, did you mean "training"?'),
        ({"preset": "auto", "elements": ["Cux"]}, 'elements[0]: expected a chemical symbol, got "Cux"'),
        ({"preset": "auto", "training": {"epochs": -1}}, "training.epochs: expected "),
        (
            {"preset": "auto", "elements": ["Cu"], "reference_energies": {"Au": 0.0}},
            "reference_energies: expected the keys",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Path, document: dict[str, Any], expected: str) -> None:
    (here / "params.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        load_parameters(here / "params.json")
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(here / "params.json"))
    for command in (["extract", "copper"], ["status"], ["featurize"], ["run", "copper"]):
        assert expected in refusal(*command, code=3)


def test_a_key_that_is_written_twice_is_refused(here: Path) -> None:
    text = '{"preset": "auto", "elements": ["Cu"], "elements": ["Au"]}'
    (here / "params.json").write_text(text, encoding="utf-8")
    assert "elements: expected the key once" in refusal("extract", "copper", code=3)


# --- other commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["featurize", "train", "tune", "evaluate", "predict"])
def test_every_other_command_says_what_is_to_be_done_first(command: str) -> None:
    invoke("init", "my p")
    sources = ["copper"] if command == "predict" else []
    assert refusal(command, *sources, "-C", "my p", code=3) == (
        "no symmetry functions in my p/params.json yet; extract chooses them; "
        "run \"tio2nn extract -C 'my p' SOURCE...\" first"
    )


def test_status_knows_a_draft() -> None:
    invoke("init", "p", "--elements", "Cu")
    out, _ = invoke("status", "-C", "p", "--json")
    found = json.loads(out)
    assert {part["state"] for part in found["parts"]} == {"missing"}
    assert found["parts"][0]["what"] == '"preset": "auto": extract chooses the functions for Cu'
    assert found["advice"] == "next: tio2nn extract -C p SOURCE..."


# --- extract ------------------------------------------------------------------------------------------------


def test_extract_takes_the_elements_of_the_structures_chooses_functions_and_says_why() -> None:
    invoke("init", "p")
    _, err = invoke("extract", "copper", "-C", "p")
    project = Project(Path("p"))
    parameters = project.parameters()
    assert parameters.elements == ("Cu",)
    assert parameters.n_features == 48
    assert "preset" not in content()
    assert f"cutoff     {parameters.cutoff:g} Å, about" in err
    assert "functions  48 for Cu: 8 radial, 40 angular" in err
    assert err.splitlines()[-1] == (
        "wrote elements, cutoff and symmetry functions to p/params.json; edit that file to change them"
    )
    assert invoke("status", "-C", "p")[0].splitlines()[-1] == "next: tio2nn featurize -C p"


def test_ti_and_o_get_what_was_published_for_them(here: Path) -> None:
    write_files(here / "oxide", structures())
    invoke("init", "p")
    _, err = invoke("extract", "oxide", "-C", "p")
    assert Project(Path("p")).parameters() == preset("artrith-urban-2016", ("Ti", "O"))
    assert "those of artrith-urban-2016" in err


def test_elements_keep_the_order_in_which_they_are_given() -> None:
    invoke("init", "p", "--elements", "Cu,Au")
    invoke("extract", "copper", "-C", "p")
    assert Project(Path("p")).parameters().elements == ("Cu", "Au")
    assert Project(Path("p")).parameters().n_features == 70


def test_edits_of_the_draft_are_kept() -> None:
    invoke("init", "p")
    edit(lambda d: d["training"].update(epochs=7))
    edit(
        lambda d: d.update(
            {"$schema": "schema.json", "radial_elements": "blind", "reference_energies": {"Cu": -3.0}}
        )
    )
    edit(lambda d: d.pop("tuning"))
    invoke("extract", "copper", "-C", "p")
    parameters = Project(Path("p")).parameters()
    assert (parameters.training.epochs, parameters.radial_elements) == (7, "blind")
    assert parameters.reference_energies == {"Cu": -3.0}
    document = content()
    assert document["$schema"] == "schema.json"
    assert "tuning" in document


def test_a_completed_file_is_left_alone(here: Path) -> None:
    invoke("init", "p")
    invoke("extract", "copper", "-C", "p")
    edit(lambda d: d.update(cutoff=4.25))
    before = (here / "p/params.json").read_bytes()
    _, err = invoke("extract", "copper", "-C", "p", "--limit", "2")
    assert (here / "p/params.json").read_bytes() == before
    assert "functions" not in err


def test_structures_that_cannot_be_used_leave_the_draft_as_it_is(here: Path) -> None:
    invoke("init", "p")
    before = (here / "p/params.json").read_bytes()
    assert "no such file" in invoke("extract", "gone", "-C", "p", code=3)[1]
    assert (here / "p/params.json").read_bytes() == before


def test_one_atom_alone_is_enough_to_choose(here: Path) -> None:
    free = (False, False, False)
    alone = Structure("atom", ("He",), np.zeros((1, 3)), np.zeros((3, 3)), free, energy=-1.0)
    write_files(here / "atom", [alone])
    invoke("init", "p")
    _, err = invoke("extract", "atom", "-C", "p")
    assert "no two atoms are close to each other" in err
    assert Project(Path("p")).parameters().elements == ("He",)


# --- other elements than those of the file ------------------------------------------------------------------


@pytest.mark.parametrize("flags", [("--preset", "extended"), ("--elements", "Ti,O")])
def test_structures_of_other_elements_end_with_the_reason_and_the_remedy(flags: tuple[str, ...]) -> None:
    invoke("init", "p", *flags)
    _, err = invoke("extract", "copper", "-C", "p", code=3)
    assert err.splitlines()[-1] == (
        "4 structures rejected for elements (Cu) that are not in p/params.json (Ti, O); add them there and extract "
        'again, or make a new project with "tio2nn init DIR", which takes the elements from the structures'
    )
    if "extended" in flags:
        edit(lambda d: d.update(elements=["Ti", "O", "Cu"]))
        invoke("extract", "copper", "-C", "p")


def test_elements_that_come_later_are_named_and_the_others_taken(here: Path) -> None:
    invoke("init", "p")
    invoke("extract", "copper", "-C", "p")
    write_files(here / "alloy", copper("Au", "Ag"))
    _, err = invoke("extract", "alloy", "-C", "p", code=3)
    (line,) = [line for line in err.splitlines() if "rejected for elements" in line]
    assert line.startswith(
        "warning: 2 structures rejected for elements (Ag, Au) that are not in p/params.json (Cu)"
    )
    assert len(read_store(Path("p/structures/structures.npz"))) == 2


# --- run ----------------------------------------------------------------------------------------------------


def test_run_chooses_the_functions_as_extract_does(trainings: list[ParameterSet]) -> None:
    _, err = invoke("run", "copper")
    invoke("init", "p")
    invoke("extract", "copper", "-C", "p")
    assert trainings == [Project(Path("p")).parameters()]
    assert Project(Path("tio2nn-project")).parameters() == trainings[0]
    assert "functions  48 for Cu" in err


def test_run_goes_on_with_a_draft_and_its_edits(trainings: list[ParameterSet]) -> None:
    invoke("init", "p")
    edit(lambda d: d["training"].update(epochs=7))
    write_files(Path("copper"), copper("Au")[:1])
    invoke("run", "copper", "-C", "p", "--elements", "Cu,Au")
    (parameters,) = trainings
    assert (parameters.elements, parameters.training.epochs) == (("Cu", "Au"), 7)
    # and with what became of it
    invoke("run", "copper", "-C", "p", "--preset", "auto")
    assert trainings[1] == parameters


@pytest.mark.parametrize(
    ("made", "flags"),
    [
        (("--elements", "Cu"), ("--elements", "Cu,Au")),
        ((), ("--preset", "extended")),
        (("--elements", "Cu"), ("--preset", "extended", "--elements", "Cu")),
    ],
)
def test_run_refuses_other_names_than_those_of_the_draft(
    made: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    invoke("init", "p", *made)
    message = refusal("run", "copper", "-C", "p", *flags, code=2)
    assert message.startswith("p/params.json: expected the parameter set of --preset and --elements")


def test_a_run_that_finds_nothing_leaves_no_draft(here: Path) -> None:
    invoke("run", "gone", code=3)
    assert not (here / "tio2nn-project/params.json").exists()


def test_run_takes_a_preset_that_is_named_for_the_elements_of_the_structures(
    trainings: list[ParameterSet],
) -> None:
    invoke("run", "copper", "--preset", "extended")
    assert trainings == [preset("extended", ("Cu",))]


def test_a_draft_that_is_broken_is_an_input_error(here: Path) -> None:
    (here / "params.json").write_text('{"preset": "auto"', encoding="utf-8")
    with pytest.raises(InputError, match="expected valid JSON"):
        Project(here).parameters()
