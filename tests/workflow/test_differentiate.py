from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from projects import (
    PARAMETERS,
    extracted_project,
    no_pool,
    pair_energy,
    small_project,
    structures,
    structures_with_forces,
)
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.project import feature_store as features
from tio2nn.project import jacobian_store as jacobians
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_store import JacobianLayout, damaged_shards, jacobian_sizes, open_jacobian
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.workflow import differentiate as verb
from tio2nn.workflow.differentiate import JacobianEstimate, differentiate
from tio2nn.workflow.inputs import read_inputs


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards for a few structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return small_project(tmp_path / "p", chosen=structures_with_forces())


def layout_of(project: Project) -> JacobianLayout:
    return JacobianLayout.read(project.jacobian_table)


def content(project: Project) -> bytes:
    return (project.features_directory / layout_of(project).file).read_bytes()


def run(project: Project, jobs: int = 1) -> verb.JacobianSummary:
    return differentiate(project, jobs=jobs, make_executor=ThreadPoolExecutor, jobs_are_fixed=jobs > 1)


def test_the_file_holds_the_derivatives_of_all_structures_with_forces_in_order(project: Project) -> None:
    summary = run(project)
    assert (summary.n_structures, summary.n_computed, summary.n_without_labels) == (23, 23, 1)
    store = read_store(project.structures_file)
    flat = open_jacobian(project.features_directory, layout_of(project))
    sizes = jacobian_sizes(store.n_atoms, PARAMETERS.n_features, store.has_forces)
    assert sizes[2] == 0
    assert sizes.sum() == len(flat) == summary.disk_bytes / 4
    calculator = SymmetryCalculator(PARAMETERS)
    for k, (offset, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        if size:
            expected = calculator.jacobian(store[k]).astype(np.float32)
            np.testing.assert_array_equal(flat[offset : offset + size].reshape(expected.shape), expected)


def test_shards_of_today_are_those_of_yesterday() -> None:
    """Another name or other boundaries would make all users compute their derivatives anew."""
    n_atoms = np.array([9, 50, 12, 19, 30, 20, 8, 70])
    has_forces = np.array([True, False, True, True, False, True, False, False])
    layout = JacobianLayout.plan("f", [str(k) for k in range(8)], 2, n_atoms, has_forces)
    # structures without forces fill no shard, and one of them alone is none
    assert layout.shards == (
        jacobians.JacobianShard(0, 3, 0, 6 * (81 + 144)),
        jacobians.JacobianShard(3, 6, 1350, 6 * (361 + 400)),
    )
    assert layout.file == "jacobian-597a92ad9c105a96c0ca33de.f32"


def test_the_forces_of_the_test_potential_are_its_gradient() -> None:
    structure = structures_with_forces()[0]
    moved = structure.positions.copy()
    step = 1e-5
    moved[1, 2] += step
    up = pair_energy(structure.__class__("up", structure.elements, moved, structure.cell))
    moved[1, 2] -= 2 * step
    down = pair_energy(structure.__class__("down", structure.elements, moved, structure.cell))
    assert structure.forces is not None
    assert structure.forces[1, 2] == pytest.approx(-(up - down) / (2 * step), rel=5e-5)


def test_a_pool_writes_the_same_bytes_as_one_process(project: Project, tmp_path: Path) -> None:
    run(project)
    other = small_project(tmp_path / "other", chosen=structures_with_forces())
    run(other, jobs=3)
    assert content(other) == content(project)
    assert layout_of(other) == layout_of(project)


def test_a_second_run_does_nothing(project: Project) -> None:
    run(project)
    before = (project.features_directory / layout_of(project).file).stat().st_mtime_ns
    assert differentiate(project, jobs=2, make_executor=no_pool).n_computed == 0
    assert (project.features_directory / layout_of(project).file).stat().st_mtime_ns == before


@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_run_that_was_killed_goes_on_with_what_is_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: int
) -> None:
    run(whole := small_project(tmp_path / "whole", chosen=structures_with_forces()))
    write = verb.write_jacobian_shard
    written: list[int] = []

    def dying(path: Path, shard: jacobians.JacobianShard, blocks: Sequence[np.ndarray]) -> int:
        if len(written) == done:
            # the file is longer than what the ledger knows of
            write(path, shard, blocks)
            raise KeyboardInterrupt
        written.append(shard.offset)
        return write(path, shard, blocks)

    monkeypatch.setattr(verb, "write_jacobian_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        run(project)
    assert not project.jacobian_table.exists()
    monkeypatch.setattr(verb, "write_jacobian_shard", write)
    summary = run(project)
    n_shards = len(layout_of(project).shards)
    assert n_shards > 3
    assert summary.n_computed == sum(
        int(read_store(project.structures_file).has_forces[s.first : s.last].sum())
        for s in layout_of(project).shards[done:]
    )
    assert content(project) == content(whole)
    assert layout_of(project) == layout_of(whole)
    assert not list(project.features_directory.glob("*.done"))


def test_a_ledger_whose_last_line_was_cut_off_is_believed_up_to_there(project: Project) -> None:
    run(project)
    layout = layout_of(project)
    project.jacobian_table.unlink()
    lines = [f"{shard.offset} {shard.checksum} .\n" for shard in layout.shards]
    ledger = project.features_directory / f"{layout.file}.done"
    ledger.write_text("".join(lines[:2]) + lines[2][:-2], encoding="utf-8")
    store = read_store(project.structures_file)
    assert run(project).n_computed == int(store.has_forces[layout.shards[1].last :].sum())
    assert layout_of(project) == layout


def test_a_line_of_the_ledger_that_a_full_disk_cut_off_spoils_not_the_next(project: Project) -> None:
    run(project)
    first, second, *_ = layout_of(project).shards
    path = project.features_directory / layout_of(project).file
    path.with_name(f"{path.name}.done").write_text(
        f"{first.offset} 7 .\n{str(second.offset)[:1]}", encoding="utf-8"
    )
    jacobians.ShardLedger(path, layout_of(project)).append(second, 8)
    assert jacobians.ShardLedger(path, layout_of(project)).checksums == {first.offset: 7, second.offset: 8}


def test_a_ledger_without_its_file_counts_for_nothing(project: Project) -> None:
    run(project)
    layout = layout_of(project)
    project.jacobian_table.unlink()
    file = project.features_directory / layout.file
    file.with_name(f"{file.name}.done").write_text(f"0 {layout.shards[0].checksum} .\n", encoding="utf-8")
    file.unlink()
    assert run(project).n_computed == 23
    assert layout_of(project) == layout


def test_other_structures_replace_the_file(project: Project) -> None:
    run(project)
    old = layout_of(project).file
    write_store(project.structures_file, structures_with_forces()[:9])
    assert run(project).n_computed == 8
    assert layout_of(project).file != old
    assert not (project.features_directory / old).exists()


def test_a_damaged_shard_is_found(project: Project) -> None:
    run(project)
    layout = layout_of(project)
    assert list(damaged_shards(project.features_directory, layout)) == []
    with (project.features_directory / layout.file).open("r+b") as handle:
        handle.seek(4 * layout.shards[1].offset + 5)
        byte = handle.read(1)
        handle.seek(-1, 1)
        handle.write(bytes([byte[0] ^ 1]))
    assert list(damaged_shards(project.features_directory, layout)) == [layout.shards[1]]
    parameters = PARAMETERS.with_overrides(training={"forces": True})
    with pytest.raises(
        InputError,
        match=f"derivatives of structures {layout.shards[1].first + 1} to .* delete this file and run",
    ):
        read_inputs(Snapshot(project), parameters)


def test_a_file_that_was_cut_off_is_refused_and_made_again(project: Project) -> None:
    run(project)
    layout, whole = layout_of(project), content(project)
    (project.features_directory / layout.file).write_bytes(whole[:-4])
    with pytest.raises(InputError, match=f"expected {len(whole)} bytes, got {len(whole) - 4}; run"):
        open_jacobian(project.features_directory, layout)
    assert run(project).n_computed == 23
    assert content(project) == whole


def test_a_file_that_is_too_long_is_made_again(project: Project) -> None:
    run(project)
    layout, whole = layout_of(project), content(project)
    (project.features_directory / layout.file).write_bytes(whole + b"....")
    assert run(project).n_computed == 23
    assert content(project) == whole


def test_size_and_time_are_announced_before_the_work(project: Project) -> None:
    heard: list[JacobianEstimate] = []

    def announce(estimate: JacobianEstimate) -> None:
        assert not project.jacobian_table.exists()
        heard.append(estimate)

    differentiate(project, jobs=1, make_executor=no_pool, announce=announce)
    (estimate,) = heard
    assert estimate.disk_bytes == len(content(project))
    assert estimate.n_structures == 23
    assert estimate.seconds > 0


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match=r"expected 0\.1 GB of free disk for the derivatives, got 0\.0 GB"):
        differentiate(project, jobs=1, make_executor=no_pool, insist=True)


def test_structures_without_forces_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected structures with forces, got none"):
        run(extracted_project(tmp_path / "p", chosen=structures()))


def test_the_command_says_what_it_will_write_and_a_training_on_forces_without_it_says_what_to_run(
    tmp_path: Path,
) -> None:
    project = small_project(tmp_path / "p", chosen=structures_with_forces())
    refused = CliRunner().invoke(app, ["train", "--forces", "-C", str(project.root)])
    assert refused.exit_code == 3
    assert f'run "tio2nn featurize -C {project.root} --forces" first' in refused.output
    done = CliRunner().invoke(app, ["featurize", "--forces", "-C", str(project.root)])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "derivatives: 23 structures" in words
    assert "kB of disk" in words or "MB of disk" in words
    assert "1 structure has no forces" in words
