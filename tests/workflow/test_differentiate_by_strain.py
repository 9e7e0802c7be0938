"""Derivatives with respect to strain on disk, beside those with respect to positions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal
from projects import (
    PARAMETERS,
    no_pool,
    small_project,
    structures,
    structures_with_forces,
    structures_with_stress,
    with_stress,
)
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project import derivative_budget
from tio2nn.project import feature_store as features
from tio2nn.project import jacobian_store as jacobians
from tio2nn.project.derivative_budget import Budget
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_store import JacobianLayout, StrainLayout, open_jacobian, strain_sizes
from tio2nn.project.parts import BROKEN, FRESH, MISSING, STALE, STRAINS
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.structure import Structure
from tio2nn.workflow import differentiate as engine
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.inputs import read_inputs
from tio2nn.workflow.status import status

AUTO = PARAMETERS.with_overrides(training={"forces": "auto", "stress": "auto"})


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards for a few structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return small_project(tmp_path / "p", AUTO, structures_with_stress())


def run(project: Project, **others: object) -> engine.JacobianSummary:
    return differentiate_by_strain(project, jobs=1, make_executor=no_pool, **others)  # type: ignore[arg-type]


def content(project: Project) -> bytes:
    return (project.features_directory / StrainLayout.read(project.strain_table).file).read_bytes()


def present(project: Project) -> dict[str, tuple[int, bytes]]:
    """When each file of the features was changed, and its content."""
    files = project.features_directory.iterdir()
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_stress_of_the_test_potential_is_its_derivative() -> None:
    from projects import pair_energy

    structure = with_stress(structures()[0])
    assert structure.stress is not None
    for a, b in ((0, 0), (1, 2)):
        energies = []
        for amount in (1e-5, -1e-5):
            stretch = np.eye(3)
            stretch[a, b] += amount / 2
            stretch[b, a] += amount / 2
            energies.append(
                pair_energy(
                    replace(structure, positions=structure.positions @ stretch, cell=structure.cell @ stretch)
                )
            )
        slope = (energies[0] - energies[1]) / 2e-5 / abs(np.linalg.det(structure.cell))
        assert structure.stress[a, b] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_the_file_holds_the_derivatives_of_all_structures_with_a_stress_in_order(project: Project) -> None:
    summary = run(project)
    assert (summary.n_structures, summary.n_computed, summary.n_without_labels) == (19, 19, 5)
    store = read_store(project.structures_file)
    layout = StrainLayout.read(project.strain_table)
    assert len(layout.shards) > 3
    flat = open_jacobian(project.features_directory, layout)
    sizes = strain_sizes(store.n_atoms, PARAMETERS.n_features, store.has_bulk_stress)
    assert sizes[2]  # no forces, but a stress
    assert sizes.sum() == len(flat) == summary.disk_bytes / 4
    calculator = SymmetryCalculator(PARAMETERS)
    for k, (offset, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        if size:
            expected = calculator.strain_derivatives(store[k]).astype(np.float32)
            np.testing.assert_array_equal(flat[offset : offset + size].reshape(expected.shape), expected)


def test_a_project_with_derivatives_gains_these_without_the_others_being_touched(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", AUTO, structures_with_forces())
    differentiate(project, jobs=1, make_executor=no_pool)
    before = present(project)
    # the same structures, extracted anew by a version that reads stresses
    write_store(project.structures_file, structures_with_stress())
    assert featurize(project, jobs=1, make_executor=no_pool).n_computed == 0
    after = present(project)
    assert {name: after[name] for name in before} == before
    assert sorted(name.split("-")[0] for name in after.keys() - before.keys()) == ["strain", "strain.json"]
    assert run(project).n_computed == 0
    assert present(project) == after


def test_a_set_without_stress_gains_nothing(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p", AUTO, structures_with_forces())
    summary = featurize(project, jobs=1, make_executor=no_pool)
    assert summary.derivatives is not None
    assert summary.by_strain is None
    assert not list(project.features_directory.glob("strain*"))
    assert STRAINS.name not in [name for name, *_ in status(project).rows()]
    with pytest.raises(
        InputError, match="expected structures with a stress, periodic along all axes, got none"
    ):
        run(project)


def test_slabs_and_labels_that_are_not_finite_take_no_part(tmp_path: Path) -> None:
    chosen = list(structures_with_stress())
    chosen[0] = replace(chosen[0], periodic=(True, True, False))
    chosen[1] = replace(chosen[1], stress=np.full((3, 3), np.inf))
    project = small_project(tmp_path / "p", AUTO, chosen)
    done = CliRunner().invoke(app, ["featurize", "-C", str(project.root)])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "derivatives by strain: 17 structures computed, 17 in all" in words
    assert "7 structures have no stress that can be learned" in words


@pytest.mark.parametrize("flag", ["--no-stress", "--energies-only"])
def test_a_flag_leaves_them_out(project: Project, flag: str) -> None:
    done = CliRunner().invoke(app, ["featurize", flag, "-C", str(project.root)])
    assert done.exit_code == 0, done.output
    assert not project.strain_table.exists()
    assert project.jacobian_table.exists() is (flag == "--no-stress")


def test_a_pool_and_parts_write_the_same_bytes_as_one_process(project: Project, tmp_path: Path) -> None:
    run(project)
    pooled = small_project(tmp_path / "pooled", AUTO, structures_with_stress())
    differentiate_by_strain(pooled, jobs=3, make_executor=ThreadPoolExecutor, jobs_are_fixed=True)
    assert content(pooled) == content(project)
    parted = small_project(tmp_path / "parted", AUTO, structures_with_stress())
    for number in (1, 2):
        assert run(parted, part=(number, 3)).n_computed
    assert "parts 1 and 2 of 3 done" in Snapshot(parted).state(STRAINS).what
    told: list[engine.JacobianEstimate] = []
    run(parted, announce=told.append)
    assert "part 3 of 3" in told[0].undone_parts
    assert content(parted) == content(project)
    assert not list(parted.features_directory.glob("*.piece"))
    assert not list(parted.features_directory.glob("strain*-part-*"))


@pytest.mark.parametrize("done", [0, 2])
def test_a_run_that_was_killed_goes_on_with_what_is_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: int
) -> None:
    run(whole := small_project(tmp_path / "whole", AUTO, structures_with_stress()))
    write, written = engine.write_jacobian_shard, []

    def dying(path: Path, shard: jacobians.JacobianShard, blocks: Sequence[np.ndarray]) -> int:
        checksum = write(path, shard, blocks)
        if len(written) == done:
            raise KeyboardInterrupt
        written.append(shard.offset)
        return checksum

    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_jacobian_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            run(project)
    assert not project.strain_table.exists()
    n = len(StrainLayout.read(whole.strain_table).shards)
    calls: list[int] = []
    monkeypatch.setattr(
        engine, "write_jacobian_shard", lambda *given: (calls.append(given[1].offset), write(*given))[1]
    )
    run(project)
    assert len(calls) == n - done
    assert content(project) == content(whole)


def test_where_not_all_derivatives_fit_those_with_them_get_these(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = read_store(project.structures_file)
    both = 4 * jacobians.jacobian_sizes(store.n_atoms, PARAMETERS.n_features, store.has_forces)
    both += 4 * strain_sizes(store.n_atoms, PARAMETERS.n_features, store.has_bulk_stress & store.has_forces)
    budget = int(both.sum()) // 2
    monkeypatch.setattr(derivative_budget, "budget_of", lambda *_: Budget(budget, "limit"))
    featurize(project, jobs=1, make_executor=no_pool)
    layouts = JacobianLayout.read(project.jacobian_table), StrainLayout.read(project.strain_table)
    assert layouts[0].selection == layouts[1].selection is not None
    assert sum(layout.n_bytes for layout in layouts) <= budget
    assert layouts[1].has_derivatives(store.has_bulk_stress).any()


def test_what_is_stale_or_broken_is_told_and_made_again(project: Project) -> None:
    assert Snapshot(project).state(STRAINS).kind == MISSING
    assert {row[0]: row[1] for row in status(project).rows()}[STRAINS.name] == MISSING
    run(project)
    assert Snapshot(project).state(STRAINS).kind == FRESH
    file = project.features_directory / StrainLayout.read(project.strain_table).file
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    assert Snapshot(project).state(STRAINS).kind == BROKEN
    with pytest.raises(InputError, match=r"the derivatives by strain in .* are broken: "):
        Snapshot(project).require(STRAINS)
    run(project)
    damaged = bytearray(whole)
    damaged[9] ^= 1
    file.write_bytes(damaged)
    differentiate(project, jobs=1)
    with pytest.raises(
        InputError, match=r"derivatives by strain of structures 1 to .* delete this file and run"
    ):
        read_inputs(Snapshot(project), AUTO)
    file.unlink()
    run(project)
    assert file.read_bytes() == whole
    fewer = [replace(s, stress=None) if k == 1 else s for k, s in enumerate(structures_with_stress())]
    write_store(project.structures_file, fewer)
    found = Snapshot(project).state(STRAINS)
    assert (found.kind, "other structures with stress" in found.what) == (STALE, True)
    assert run(project).n_computed == 18


@pytest.mark.parametrize(
    ("parameters", "needs"),
    [
        (AUTO, True),
        (AUTO.with_overrides(training={"stress": False}), False),
        (AUTO.with_overrides(training={"forces": False}), False),
        (AUTO.with_overrides(training={"forces": False, "stress": True}), True),
        (AUTO.with_overrides(recipe="rili-2024"), False),
    ],
)
def test_which_fits_need_them(project: Project, parameters: ParameterSet, needs: bool) -> None:
    assert Snapshot(project).needs_strains(parameters) is needs


def test_a_training_without_them_says_what_to_run(project: Project) -> None:
    differentiate(project, jobs=1)
    refused = CliRunner().invoke(app, ["train", "-C", str(project.root)])
    assert refused.exit_code == 3
    words = " ".join(refused.output.split())
    command = f'run "tio2nn featurize -C {project.root} --stress" first'
    assert f"no derivatives by strain in {project.root}; {command}, or train with --no-stress" in words


def test_stress_that_nothing_has_is_refused_in_one_line(tmp_path: Path) -> None:
    chosen: Sequence[Structure] = structures_with_forces()
    project = small_project(tmp_path / "p", AUTO, chosen)
    before = {path: path.stat().st_mtime_ns for path in project.features_directory.iterdir()}
    for words in (["featurize"], ["featurize", "--part", "1/2"], ["tune"], ["train"], ["train", "--prepare"]):
        line = refusal(*words, "--stress", "-C", project.root, code=3)
        assert line == (
            f"{project.structures_file}: expected structures with a stress, periodic along all axes, got none: use "
            '--no-stress, or set training.stress to "auto" in params.json'
        )
    with pytest.raises(InputError, match="expected structures with a stress"):
        featurize(project, stress=True, jobs=1, make_executor=no_pool)
    assert before == {path: path.stat().st_mtime_ns for path in project.features_directory.iterdir()}
