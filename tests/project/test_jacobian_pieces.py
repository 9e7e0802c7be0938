from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import jacobian_of
from full_disk import largest_file
from projects import extracted_project, project_with_derivatives, structures_with_forces
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.errors import InputError
from tio2nn.project import derivative_budget, jacobian_pieces
from tio2nn.project import feature_store as features
from tio2nn.project.derivative_budget import Budget
from tio2nn.project.jacobian_store import JacobianLayout, ShardLedger, size_on_disk
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.workflow.differentiate import JacobianEstimate, differentiate
from tio2nn.workflow.featurize import compute_features
from tio2nn.workflow.status import status


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards for a few structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 8)


@pytest.fixture
def one(tmp_path: Path) -> Project:
    return project_with_derivatives(tmp_path / "one")


@pytest.fixture
def array(tmp_path: Path) -> Project:
    project = extracted_project(tmp_path / "array", chosen=structures_with_forces())
    compute_features(project, jobs=1)
    return project


def pieces(project: Project) -> list[Path]:
    return sorted(project.features_directory.glob("*.piece"))


def test_a_damaged_piece_is_computed_again(one: Project, array: Project) -> None:
    for number in (1, 2):
        differentiate(array, part=(number, 2), jobs=1)
    flipped, cut, *_ = pieces(array)
    content = bytearray(flipped.read_bytes())
    content[40] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1])
    told: list[JacobianEstimate] = []
    summary = differentiate(array, jobs=1, announce=told.append)
    assert 2 <= summary.n_computed < 10
    assert "did not finish" in told[0].undone_parts
    assert jacobian_of(array) == jacobian_of(one)


@pytest.mark.parametrize("before", [True, False])
def test_a_command_killed_as_it_collects_pieces_goes_on(
    one: Project, array: Project, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    for number in (1, 2):
        differentiate(array, part=(number, 2), jobs=1)
    append = ShardLedger.append

    def dying(self: ShardLedger, *arguments: object) -> None:
        if len(self.checksums) == 3 and before:
            raise KeyboardInterrupt
        append(self, *arguments)  # type: ignore[arg-type]
        if len(self.checksums) == 3:
            raise KeyboardInterrupt  # the piece is recorded, and still there

    with monkeypatch.context() as patch:
        patch.setattr(ShardLedger, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            differentiate(array, jobs=1)
    # a part that runs again computes nothing
    assert differentiate(array, part=(1, 2), jobs=1).n_computed == 0
    assert differentiate(array, jobs=1).n_computed == 0
    assert jacobian_of(array) == jacobian_of(one)


def test_collecting_takes_no_more_disk_than_the_file_and_one_piece(
    array: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        differentiate(array, part=(number, 3), jobs=1)
    largest = max(path.stat().st_size for path in pieces(array))
    n_pieces = len(pieces(array))
    seen = []
    copied = jacobian_pieces._copied

    def watched(piece: Path, *arguments: object) -> int | None:
        checksum = copied(piece, *arguments)  # type: ignore[arg-type]
        sizes = [path.stat().st_size for path in pieces(array)]
        (file,) = array.features_directory.glob("jacobian-*.f32")
        seen.append(sum(sizes) + file.stat().st_size)
        return checksum

    monkeypatch.setattr(jacobian_pieces, "_copied", watched)
    differentiate(array, jobs=1)
    assert len(seen) == n_pieces
    assert max(seen) <= JacobianLayout.read(array.jacobian_table).n_bytes + largest + 4 * n_pieces


def test_the_first_part_decides_which_structures_fit(array: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the memory of the machines that the others run on."""
    for number, n_bytes in ((1, 60_000), (2, 10_000), (3, 10**9)):
        monkeypatch.setattr(
            derivative_budget, "budget_of", lambda *_, n_bytes=n_bytes: Budget(n_bytes, "memory")
        )
        differentiate(array, part=(number, 3), jobs=1)
    summary = differentiate(array, jobs=1)
    assert summary.n_computed == 0
    assert summary.n_left_out > 0
    layout = JacobianLayout.read(array.jacobian_table)
    assert layout.selection is not None
    assert layout.selection.budget_bytes == 60_000
    assert not list(array.features_directory.glob("*.plan*"))


def test_of_two_that_decide_at_once_the_first_to_write_decides(
    array: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one sees the decision only when it writes its own."""
    store, parameters = read_store(array.structures_file), array.parameters()
    path = derivative_budget.plan_file(array, parameters, store)
    found = []
    for n_bytes in (60_000, 30_000):
        monkeypatch.setattr(
            derivative_budget, "budget_of", lambda *_, n_bytes=n_bytes: Budget(n_bytes, "memory")
        )
        with monkeypatch.context() as patch:
            patch.setattr(derivative_budget, "recorded_layout", lambda *_: None)
            selection = derivative_budget.select_derivatives(array, parameters, store, insist=False)
        layout = derivative_budget.planned_layout(parameters, store, selection)
        found.append(derivative_budget.settle_plan(path, layout, parameters, store))
    assert found[0] == found[1]
    assert found[0].selection is not None
    assert found[0].selection.budget_bytes == 60_000
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="delete this file"):
        differentiate(array, part=(1, 2), jobs=1)


def test_a_part_on_a_full_disk_ends_in_a_line_and_goes_on(one: Project, array: Project) -> None:
    features_before = {path.name for path in array.features_directory.iterdir()}
    with largest_file(3_000):
        ended = CliRunner().invoke(
            app, ["featurize", "--forces", "-j", "1", "-C", str(array.root), "--part", "1/2"]
        )
    assert ended.exit_code == 3
    assert ended.stderr.splitlines()[-1].endswith(".piece: File too large")
    assert not [path for path in array.features_directory.iterdir() if ".part" in path.name]
    assert features_before <= {path.name for path in array.features_directory.iterdir()}
    for number in (1, 2):
        differentiate(array, part=(number, 2), insist=True, jobs=1)
    with largest_file(3_000):
        ended = CliRunner().invoke(app, ["featurize", "--forces", "-C", str(array.root)])
    assert ended.exit_code == 3
    assert ended.stderr.splitlines()[-1].endswith(".f32: File too large")
    assert differentiate(array, insist=True, jobs=1).n_computed == 0
    assert jacobian_of(array) == jacobian_of(one)


def test_status_says_which_parts_are_done_and_changes_nothing(array: Project) -> None:
    text = json.loads(array.parameters_file.read_text(encoding="utf-8"))
    text["training"]["forces"] = True
    array.parameters_file.write_text(json.dumps(text), encoding="utf-8")
    for number in (1, 3):
        differentiate(array, part=(number, 3), jobs=1)
    before = {path: path.stat().st_mtime_ns for path in array.root.rglob("*")}
    (row,) = (row for row in status(array).parts if row.name == "derivatives")
    assert (row.state, row.what) == ("missing", "parts 1 and 3 of 3 done")
    assert before == {path: path.stat().st_mtime_ns for path in array.root.rglob("*")}
    assert size_on_disk(array.features_directory) > 0
