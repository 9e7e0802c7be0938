"""Derivatives of as many structures as fit: every later command follows the decision."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ATOMIC_ENERGIES, PARAMETERS, no_pool, small_project, structures_with_forces
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.cli.plans import without_derivatives_line
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project import derivative_budget
from tio2nn.project import feature_store as features
from tio2nn.project.derivative_budget import budget_of
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_store import JacobianLayout, Selection, jacobian_sizes, open_jacobian
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.split import Split
from tio2nn.training.data import TrainingData, prepare
from tio2nn.workflow import differentiate as verb
from tio2nn.workflow.differentiate import JacobianEstimate, JacobianSummary, differentiate
from tio2nn.workflow.inputs import read_inputs
from tio2nn.workflow.status import status
from tio2nn.workflow.train import TrainListener, train

FORCES = PARAMETERS.with_overrides(training={"forces": True, "epochs": 2})
# of the sizes that `structures_with_forces` have with ten functions: about half of all 67 kB
HALF = 3.5e-5  # GB
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards for a few structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 20)


def bounded(limit: float | None = HALF, **training: object) -> ParameterSet:
    return FORCES.with_overrides(training={"derivatives_limit": limit, **training})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return small_project(tmp_path / "p", bounded(), structures_with_forces())


def run(project: Project, *, insist: bool = False) -> JacobianSummary:
    return differentiate(project, jobs=1, make_executor=no_pool, insist=insist)


def chosen_in(project: Project) -> list[int]:
    """Indices of the structures with derivatives."""
    layout = JacobianLayout.read(project.jacobian_table)
    return np.flatnonzero(layout.has_derivatives(read_store(project.structures_file).has_forces)).tolist()


# --- what bounds it -----------------------------------------------------------------------------------------


def set_machine(monkeypatch: pytest.MonkeyPatch, *, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 10**13, int(free)))


@pytest.mark.parametrize(
    ("limit", "free", "expected"),
    [
        (None, 1e12, (900_000_000_000, "disk")),
        (None, 8e9, (7_200_000_000, "disk")),
        (None, 5e8, (400_000_000, "disk")),
        (None, 1e7, (0, "disk")),
        (50.0, 1e12, (50_000_000_000, "limit")),
        (50.0, 1e10, (9_000_000_000, "disk")),
    ],
)
def test_most_of_the_disk_and_the_limit_are_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    limit: float | None,
    free: float,
    expected: tuple[int, str],
) -> None:
    set_machine(monkeypatch, free=free)
    assert budget_of(tmp_path, limit) == expected


def test_what_lies_there_counts_as_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_machine(monkeypatch, free=1e10)
    (tmp_path / "jacobian-1.f32").write_bytes(bytes(1_000_000))
    n_bytes, _ = budget_of(tmp_path, None)
    assert 9_000_000_000 + 900_000 <= n_bytes < 9_000_000_000 + 1_000_000


# --- a project ----------------------------------------------------------------------------------------------


def test_derivatives_are_those_of_the_structures_chosen(project: Project) -> None:
    summary = run(project)
    store, chosen = read_store(project.structures_file), chosen_in(project)
    assert (summary.n_structures, summary.n_left_out) == (len(chosen), 23 - len(chosen))
    assert 5 < len(chosen) < 18
    assert summary.disk_bytes <= 1e9 * HALF
    layout = JacobianLayout.read(project.jacobian_table)
    flat = open_jacobian(project.features_directory, layout)
    calculator = SymmetryCalculator(PARAMETERS)
    expected = [calculator.jacobian(store[k]).astype(np.float32).ravel() for k in chosen]
    np.testing.assert_array_equal(flat, np.concatenate(expected))


def test_forces_of_the_others_are_no_labels_but_their_energies_are(project: Project) -> None:
    run(project)
    parameters, store = project.parameters(), read_store(project.structures_file)
    inputs = read_inputs(Snapshot(project), parameters)
    parts = ("validation", "validation", *["train"] * 22)
    data = prepare(inputs, parameters, Split(store.names, parts))
    chosen = chosen_in(project)
    assert data.train_forces is not None
    assert np.flatnonzero(data.train_forces.has_forces).tolist() == [k - 2 for k in chosen if k > 1]
    assert len(data.train_labels.energies) == 22
    flat = open_jacobian(project.features_directory, JacobianLayout.read(project.jacobian_table))
    sizes = jacobian_sizes(store.n_atoms, PARAMETERS.n_features, np.isin(np.arange(24), chosen))
    last = chosen[-1]
    own = flat[data.train_forces.offsets[last - 2] :][: sizes[last]]
    expected = SymmetryCalculator(PARAMETERS).jacobian(store[last]).astype(np.float32)
    np.testing.assert_array_equal(own.reshape(expected.shape), expected)


def test_a_fit_to_other_forces_is_another_fit(project: Project) -> None:
    split = Split(read_store(project.structures_file).names, ("validation", *["train"] * 23))

    def fingerprint() -> str:
        parameters = project.parameters()
        return prepare(read_inputs(Snapshot(project), parameters), parameters, split).fingerprint

    run(project)
    some = fingerprint()
    run(project, insist=True)
    assert fingerprint() != some


def test_a_training_uses_them(project: Project) -> None:
    run(project)
    heard: list[TrainingData] = []
    summary = train(project, project.parameters(), listener=TrainListener(on_data=heard.append))
    [data] = heard
    assert data.train_forces is not None
    n_trained = int(data.train_forces.has_forces.sum())
    assert data.facts.n_structures_with_forces == n_trained < data.facts.n_structures
    has_forces = read_store(project.structures_file).has_forces[data.split.indices("train")]
    assert data.n_without_derivatives == has_forces.sum() - n_trained
    assert data.selection is not None
    line = without_derivatives_line(data.n_without_derivatives, data.selection, project)
    assert line.startswith(
        f"{data.n_without_derivatives} structures with forces train on their energies alone"
    )
    assert summary.validation_force_rmse is not None
    assert status(project).parts[4].state == "up to date"


def test_the_decision_is_followed_where_the_machine_is_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.parameters_file.write_text(bounded(None).to_json(), encoding="utf-8")
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: derivative_budget.Budget(35_000, "disk"))
    run(project)
    before = chosen_in(project)
    assert len(before) < 23
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: derivative_budget.Budget(10**9, "disk"))
    assert run(project).n_computed == 0
    assert chosen_in(project) == before


def test_all_that_is_there_stays_where_the_machine_became_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = small_project(tmp_path / "p", FORCES, structures_with_forces())
    run(project)
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: derivative_budget.Budget(35_000, "disk"))
    assert run(project).n_computed == 0
    assert len(chosen_in(project)) == 23


@pytest.mark.parametrize(
    ("bound", "words"), [("disk", "computes all, where they fit"), ("limit", "computes all")]
)
def test_all_are_promised_where_they_fit(project: Project, bound: str, words: str) -> None:
    selection = Selection.of(np.ones(3, dtype=np.bool_), bound, 1_000_000_000, None)
    assert without_derivatives_line(2, selection, project).endswith(f'--forces" {words}')


def test_another_limit_is_another_decision(project: Project) -> None:
    run(project)
    few = len(chosen_in(project))
    project.parameters_file.write_text(bounded(0.9 * HALF).to_json(), encoding="utf-8")
    run(project)
    assert 0 < len(chosen_in(project)) < few
    project.parameters_file.write_text(bounded(None).to_json(), encoding="utf-8")
    assert run(project).n_left_out == 0


def test_who_insists_gets_all(project: Project, tmp_path: Path) -> None:
    run(project)
    assert run(project, insist=True).n_left_out == 0
    whole = small_project(tmp_path / "whole", FORCES, structures_with_forces())
    run(whole)
    assert JacobianLayout.read(project.jacobian_table) == JacobianLayout.read(whole.jacobian_table)
    # and keeps them
    assert run(project).n_computed == 0


def test_all_that_do_not_fit_replace_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project)
    before = sorted(project.features_directory.iterdir())
    set_machine(monkeypatch, free=1e6)
    with pytest.raises(InputError, match="of free disk for the derivatives"):
        run(project, insist=True)
    assert sorted(project.features_directory.iterdir()) == before
    assert run(project).n_computed == 0


def test_other_structures_are_a_new_decision(project: Project) -> None:
    run(project)
    write_store(project.structures_file, structures_with_forces()[:9], reference_energies=ATOMIC_ENERGIES)
    summary = run(project)
    assert summary.n_structures + summary.n_left_out == 8
    assert summary.n_structures == len(chosen_in(project)) >= 5


def test_forces_that_vanish_from_a_chosen_structure_make_the_derivatives_stale(project: Project) -> None:
    run(project)
    k = chosen_in(project)[0]
    changed = [replace(s, forces=None) if i == k else s for i, s in enumerate(structures_with_forces())]
    write_store(project.structures_file, changed, reference_energies=ATOMIC_ENERGIES)
    assert next(part.state for part in status(project).parts if part.name == "derivatives") == "stale"
    run(project)
    assert k not in chosen_in(project)


def test_a_computation_that_was_killed_goes_on_with_what_it_had_chosen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.parameters_file.write_text(bounded(None).to_json(), encoding="utf-8")
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: derivative_budget.Budget(35_000, "disk"))
    write = verb.write_jacobian_shard
    written: list[int] = []

    def dying(path: Path, shard: object, blocks: object) -> int:
        if written:
            raise KeyboardInterrupt
        written.append(1)
        return write(path, shard, blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(verb, "write_jacobian_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        run(project)
    monkeypatch.setattr(verb, "write_jacobian_shard", write)
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: derivative_budget.Budget(20_000, "disk"))
    summary = run(project)
    assert summary.n_computed < summary.n_structures
    assert 20_000 < summary.disk_bytes <= 35_000
    assert not list(project.features_directory.glob("*.plan"))


def test_room_for_no_structure_is_refused(project: Project) -> None:
    project.parameters_file.write_text(bounded(1e-9).to_json(), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"cannot store derivatives: those of the smallest structure take .* GB, more than"
    ):
        run(project)


@pytest.mark.parametrize(
    "selection", [{"structures": "zz"}, {"bound": "\x1b[31m"}, {"budget_bytes": "1"}, {"more": 1}]
)
def test_a_selection_that_is_none_is_refused(project: Project, selection: dict[str, object]) -> None:
    run(project)
    table = json.loads(project.jacobian_table.read_text(encoding="utf-8"))
    table["selection"].update(selection)
    project.jacobian_table.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(InputError, match="expected a table of derivatives"):
        JacobianLayout.read(project.jacobian_table)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_selection_tells_its_structures(chosen: list[bool]) -> None:
    selection = Selection.of(np.array(chosen), "disk", 10, None)
    assert selection.mask(len(chosen)).tolist() == chosen


def test_number_and_reason_are_told_before_the_work_and_after_it(project: Project) -> None:
    heard: list[JacobianEstimate] = []
    differentiate(project, jobs=1, make_executor=no_pool, announce=heard.append)
    n_left_out = 23 - len(chosen_in(project))
    assert heard[0].n_left_out == n_left_out
    assert heard[0].bound == "derivatives_limit in params.json, 3.5e-05 GB"
    project.parameters_file.write_text(
        project.parameters().with_overrides(training={"forces": "auto"}).to_json(), encoding="utf-8"
    )
    done = CliRunner().invoke(app, ["featurize", "-C", str(project.root)])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert (
        f"{n_left_out} structures with forces have no derivatives and train on their energies alone" in words
    )
    derivatives = next(part.what for part in status(project).parts if part.name == "derivatives")
    assert derivatives.startswith(f"{23 - n_left_out} of 23 structures with forces")
    # whoever insists gets all
    assert CliRunner().invoke(app, ["featurize", "--forces", "-C", str(project.root)]).exit_code == 0
    derivatives = next(part.what for part in status(project).parts if part.name == "derivatives")
    assert derivatives.startswith("23 structures, ")
