"""One object knows what a project holds, and every refusal names a command that can be pasted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    project_with_derivatives,
    small_project,
    structures,
    trained_project,
    write_files,
)
from searches import Here

from tio2nn.errors import InputError, MissingInputError, StaleError
from tio2nn.files import lock
from tio2nn.parameters.draft import load_parameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project import freshness
from tio2nn.project.feature_store import Manifest
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import (
    BROKEN,
    DERIVATIVES,
    FEATURES,
    FRESH,
    IN_PROGRESS,
    MISSING,
    MODEL,
    PARTS,
    SPLIT,
    STALE,
    STRUCTURES,
    Part,
)
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore, read_store, write_store
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.status import status
from tio2nn.workflow.train import train
from tio2nn.workflow.tune import tune


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_parameters(project: Project, parameters: ParameterSet) -> Snapshot:
    project.parameters_file.write_text(parameters.to_json(), encoding="utf-8")
    return Snapshot(project)


def message(snapshot: Snapshot, part: Part, kind: type[InputError]) -> str:
    with pytest.raises(kind) as caught:
        snapshot.require(part)
    assert type(caught.value) is kind
    return str(caught.value)


# --- the table of parts -------------------------------------------------------------------------------------


def test_parts_are_made_of_earlier_ones() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    for k, part in enumerate(PARTS):
        assert set(part.depends_on) <= set(PARTS[:k])


# --- refusals -----------------------------------------------------------------------------------------------

OTHER_FUNCTIONS = PARAMETERS.with_overrides(cutoff=3.5)


def test_features_of_these_parameters_and_structures_are_enough() -> None:
    snapshot = Snapshot(small_project(Path("p")))
    snapshot.require(FEATURES)
    assert snapshot.features() == Manifest.read(snapshot.project.features_manifest)


@pytest.mark.parametrize("functions", [False, True])
@pytest.mark.parametrize("geometries", [False, True])
def test_stale_features_are_refused_with_what_differs(functions: bool, geometries: bool) -> None:
    project = small_project(Path("my p"))
    if geometries:
        write_store(project.structures_file, structures()[:20], reference_energies=ATOMIC_ENERGIES)
    snapshot = with_parameters(project, OTHER_FUNCTIONS if functions else PARAMETERS)
    made = [
        *(["with another parameter set (elements, cutoff or functions)"] if functions else []),
        *(["from other structures"] if geometries else []),
    ]
    if not made:
        snapshot.require(FEATURES)
        return
    assert message(snapshot, FEATURES, StaleError) == (
        f"the features in my p were made {' and '.join(made)}; run \"tio2nn featurize -C 'my p'\" again"
    )


def test_missing_parts_are_refused_with_the_command_that_makes_them() -> None:
    project = Project.create(Path("p"), PARAMETERS)
    snapshot = Snapshot(project)
    for part in (FEATURES, DERIVATIVES, MODEL):
        assert message(snapshot, part, MissingInputError) == (
            'no structures in p; run "tio2nn extract -C p SOURCE..." first'
        )
    snapshot = Snapshot(small_project(Path("q")))
    assert message(snapshot, DERIVATIVES, MissingInputError) == (
        'no derivatives in q; run "tio2nn featurize -C q --forces" first'
    )
    with pytest.raises(MissingInputError, match=r'run "tio2nn train -C q" first, or stay$'):
        snapshot.require(MODEL, otherwise=", or stay")


def test_broken_parts_are_refused_with_the_reason() -> None:
    project = small_project(Path("p"))
    for shard in project.features_directory.glob("shard-*.npz"):
        shard.unlink()
    assert message(Snapshot(project), FEATURES, InputError) == (
        'the features in p are broken: 1 of 1 shard is missing; run "tio2nn featurize -C p" again'
    )


def test_derivatives_of_other_structures_are_stale() -> None:
    project = project_with_derivatives(Path("p"))
    assert Snapshot(project).state(DERIVATIVES).kind == FRESH
    write_store(project.structures_file, structures(), reference_energies=ATOMIC_ENERGIES)
    assert Snapshot(project).state(DERIVATIVES).kind == STALE
    assert 'run "tio2nn featurize -C p --forces" again' in message(Snapshot(project), DERIVATIVES, StaleError)


def test_commands_name_the_project_as_it_can_be_pasted() -> None:
    assert Project(Path("my p")).command("featurize --forces") == "tio2nn featurize -C 'my p' --forces"
    assert Project(Path("my p")).command("init") == "tio2nn init 'my p'"
    assert Project(Path()).command("train") == "tio2nn train"


# --- the split and the model --------------------------------------------------------------------------------


def test_the_split_has_a_state_of_its_own(here: Path) -> None:
    project = trained_project(here / "p")
    assert Snapshot(project).state(SPLIT).kind == FRESH
    assert Snapshot(project).state(SPLIT).what.endswith(" test")
    text = project.split_file.read_text(encoding="utf-8")
    project.split_file.write_text(text.replace("structure0007", "another"), encoding="utf-8")
    assert Snapshot(project).state(SPLIT)[:2] == (STALE, "made for other structures")
    project.split_file.write_bytes(b"\xff")
    assert Snapshot(project).state(SPLIT).kind == BROKEN
    project.split_file.unlink()
    assert Snapshot(project).state(SPLIT).kind == MISSING


def test_settings_make_a_model_stale_only_for_a_fit_that_asks(here: Path) -> None:
    project = trained_project(here / "p")
    snapshot = Snapshot(project)
    made = ParameterSet.from_json(
        json.dumps(json.loads(project.training_metrics_file.read_text(encoding="utf-8"))["parameters"])
    )
    assert snapshot.model(made).kind == FRESH
    other = made.with_overrides(training={"seed": 5})
    assert snapshot.model(other).of == ("settings",)
    assert snapshot.model().kind == FRESH
    assert snapshot.changed_since({}) == ("features", "energies", "forces", "split")


# --- who is at work -----------------------------------------------------------------------------------------


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process holds counts as held by another."""
    real = lock.holder
    monkeypatch.setattr(
        freshness,
        "holder",
        lambda directory: None if (found := real(directory)) is None else found._replace(process=1),
    )


@pytest.mark.usefixtures("another_process")
def test_what_another_command_makes_is_in_progress() -> None:
    project = small_project(Path("p"))
    with project.locked("train"):
        assert Snapshot(project).state(FEATURES).kind == FRESH
        found = Snapshot(project).state(MODEL)
        assert found.kind == IN_PROGRESS
        assert found.what.startswith("tio2nn train (process 1 on ")
        shown = status(project)
        assert {part.name: part.state for part in shown.parts}["model"] == IN_PROGRESS
        assert shown.advice.endswith("is running; wait until it ends")
    assert Snapshot(project).state(MODEL).kind == MISSING
    with project.locked("tune"):
        assert Snapshot(project).state(MODEL).kind == MISSING
    with project.locked("run"):
        assert Snapshot(project).state(MODEL).kind == IN_PROGRESS
        assert Snapshot(project).state(FEATURES).kind == FRESH
    with project.locked("featurize"):
        # what is there is made again
        assert Snapshot(project).state(FEATURES).kind == IN_PROGRESS


def test_a_command_is_no_other_than_itself() -> None:
    project = small_project(Path("p"))
    with project.locked("train"):
        assert Snapshot(project).state(MODEL).kind == MISSING


# --- one read -----------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time the structure store is read in this process."""
    heard: list[str] = []

    def count(path: Any) -> StructureStore:
        heard.append(str(path))
        return read_store(path)

    for place in ("tio2nn.project.freshness", "tio2nn.workflow.extract"):
        monkeypatch.setattr(f"{place}.read_store", count)
    return heard


@pytest.mark.parametrize(
    "arguments", [("--preset", "artrith-urban-2016"), pytest.param((), marks=pytest.mark.slow)]
)
def test_a_run_reads_the_structures_at_most_twice(
    here: Path, reads: list[str], arguments: tuple[str, ...]
) -> None:
    write_files(here / "files", structures())
    invoke("run", "files", "-C", "p", "-j", "1", "--epochs", "3", *arguments)
    assert 1 <= len(reads) <= 2
    reads.clear()
    _, err = invoke("run", "files", "-C", "p", "-j", "1", "--epochs", "3", *arguments)
    assert "training: nothing to do" in " ".join(err.split())
    assert 1 <= len(reads) <= 2


@pytest.mark.parametrize(
    "verb", [featurize, differentiate, train, tune, evaluate, status], ids=lambda v: v.__name__
)
def test_a_verb_reads_parameters_and_structures_once(
    here: Path, reads: list[str], verb: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = PARAMETERS.with_overrides(
        training={"epochs": 1}, tuning={"layers": [1], "nodes": [2], "max_trials": 1, "epochs": 1}
    )
    make = trained_project if verb is evaluate else project_with_derivatives
    project = make(here / "p")
    project.parameters_file.write_text(brief.to_json(), encoding="utf-8")
    loaded: list[object] = []

    def load(path: Path) -> object:
        loaded.append(path)
        return load_parameters(path)

    monkeypatch.setattr("tio2nn.project.project.load_parameters", load)
    reads.clear()
    options: dict[str, Any] = {} if verb in (evaluate, status) else {"jobs": 1}
    if verb is tune:
        options["make_executor"] = lambda _: Here()
    verb(project, **options)
    assert (len(reads), len(loaded)) == (1, 1)


def test_no_other_module_reads_the_structures() -> None:
    package = Path(freshness.__file__).parents[1]
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "read_store(" in path.read_text(encoding="utf-8")
    }
    assert readers == {"project/structure_store.py", "project/freshness.py", "workflow/extract.py"}


def test_parameters_and_structures_are_read_once_by_a_snapshot(reads: list[str]) -> None:
    snapshot = Snapshot(small_project(Path("p")))
    reads.clear()
    for part in PARTS:
        snapshot.state(part)
    assert len(reads) == 1
    assert snapshot.state(STRUCTURES).kind == FRESH
    assert len(reads) == 1
