from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ATOMIC_ENERGIES, PARAMETERS, extracted_project, features_bytes, no_pool, structures

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError, MissingInputError
from tio2nn.files.digests import digest_of
from tio2nn.parallel.workers import WorkerDied, kernel_workers
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project import feature_store as features
from tio2nn.project.feature_store import Manifest
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.workflow.featurize import Estimate, FeaturizeSummary, compute_features, csv_names

N_ATOMS = sum(structure.n_atoms for structure in structures())


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 24 structures make about nine shards."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 16)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return extracted_project(tmp_path / "p")


class InThisProcess(Executor):
    """An executor that works at once; `submit` may be told to fail."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.submitted = 0
        self._interrupt_after = interrupt_after

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.submitted == self._interrupt_after:
            raise KeyboardInterrupt
        self.submitted += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run(project: Project, **options: Any) -> FeaturizeSummary:
    return compute_features(project, **{"jobs": 1, "make_executor": no_pool} | options)


def pooled(project: Project, executor: InThisProcess) -> FeaturizeSummary:
    return run(project, jobs=2, jobs_are_fixed=True, make_executor=lambda _jobs: executor)


def shards(project: Project) -> dict[str, int]:
    """File names and times of the shards that are there."""
    return {path.name: path.stat().st_mtime_ns for path in project.features_directory.glob("shard-*.npz")}


def expected(parameters: ParameterSet = PARAMETERS) -> bytes:
    return np.concatenate(list(SymmetryCalculator(parameters).map(structures()))).tobytes()


# --- what is computed ---------------------------------------------------------------------------------------


def test_the_features_are_the_symmetry_functions_of_all_structures_in_order(project: Project) -> None:
    summary = run(project)
    assert features_bytes(project) == expected()
    assert (summary.n_structures, summary.n_computed, summary.csv_files) == (24, 24, 0)
    assert (summary.n_atoms, summary.n_features) == (N_ATOMS, PARAMETERS.n_features)
    assert Manifest.read(project.features_manifest).feature_names == PARAMETERS.feature_names


def test_a_pool_of_processes_computes_the_same_bits(project: Project) -> None:
    used: list[int] = []

    def make_pool(jobs: int) -> Executor:
        used.append(jobs)
        return kernel_workers(jobs)

    summary = run(project, jobs=2, jobs_are_fixed=True, make_executor=make_pool)
    assert used == [2]
    assert summary.n_computed == 24
    assert features_bytes(project) == expected()


def test_no_pool_is_made_where_it_does_not_pay(project: Project) -> None:
    assert run(project, jobs=8, make_executor=no_pool).n_computed == 24


def test_no_more_processes_are_asked_for_than_there_are_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 60)
    project = extracted_project(tmp_path / "p")
    asked: list[int] = []

    def make_executor(jobs: int) -> Executor:
        asked.append(jobs)
        return InThisProcess()

    run(project, jobs=64, jobs_are_fixed=True, make_executor=make_executor)
    assert asked == [len(shards(project))] == [3]


def test_a_second_run_computes_nothing_and_touches_nothing(project: Project) -> None:
    run(project)
    before = shards(project), project.features_manifest.stat().st_mtime_ns

    def unwanted(*_: object) -> Any:
        raise AssertionError("expected no work")

    assert run(project, announce=unwanted, track=unwanted).n_computed == 0
    assert (shards(project), project.features_manifest.stat().st_mtime_ns) == before


def test_the_estimate_is_announced_before_the_work_begins(project: Project) -> None:
    heard: list[Any] = []

    def announce(estimate: Estimate) -> None:
        assert shards(project) == {}
        heard.append(estimate)

    @contextmanager
    def track(_description: str, total: int) -> Iterator[Callable[[int], None]]:
        heard.append(total)
        yield heard.append

    run(project, announce=announce, track=track)
    estimate, total, *steps = heard
    assert (estimate.n_structures, estimate.n_atoms, estimate.jobs) == (24, N_ATOMS, 1)
    assert estimate.n_features == PARAMETERS.n_features
    assert estimate.disk_bytes == 8 * N_ATOMS * PARAMETERS.n_features
    assert 0 < estimate.seconds < 60
    assert estimate.memory_bytes > 0
    assert total == sum(steps) == N_ATOMS


def test_after_an_interruption_only_the_rest_is_announced(project: Project) -> None:
    with pytest.raises(KeyboardInterrupt):
        pooled(project, InThisProcess(interrupt_after=2))
    done = sum(
        int(np.load(project.features_directory / name)["features"].shape[0]) for name in shards(project)
    )
    estimates: list[Estimate] = []
    run(project, announce=estimates.append)
    assert [estimate.n_atoms for estimate in estimates] == [N_ATOMS - done]
    assert 0 < done < N_ATOMS


# --- interruptions ------------------------------------------------------------------------------------------


def interrupted_by_its_executor(project: Project) -> None:
    pooled(project, InThisProcess(interrupt_after=4))


def interrupted_between_two_shards(project: Project) -> None:
    @contextmanager
    def track(_description: str, total: int) -> Iterator[Callable[[int], None]]:
        left = [total]

        def advance(steps: int) -> None:
            left[0] -= steps
            if left[0] < total / 2:
                raise KeyboardInterrupt

        yield advance

    run(project, track=track)


def interrupted_within_a_shard(project: Project) -> None:
    with pytest.MonkeyPatch.context() as patch:
        save, saved = np.savez, []

        def savez(handle: Any, **arrays: Any) -> None:
            save(handle, **arrays)
            saved.append(handle)
            if len(saved) == 4:
                raise KeyboardInterrupt

        patch.setattr(np, "savez", savez)
        run(project)


@pytest.mark.parametrize(
    "interrupted",
    [interrupted_by_its_executor, interrupted_between_two_shards, interrupted_within_a_shard],
)
def test_a_run_that_was_interrupted_goes_on_with_what_is_missing(
    project: Project, interrupted: Callable[[Project], None]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(project)
    done = shards(project)
    assert not project.features_manifest.exists()
    summary = run(project)
    assert 0 < summary.n_computed < 24
    assert {name: time for name, time in shards(project).items() if name in done} == done
    assert len(shards(project)) > len(done) > 0
    assert features_bytes(project) == expected()
    assert run(project).n_computed == 0


def test_the_error_of_a_worker_comes_home_with_the_file_that_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tio2nn.workflow.featurize._SAMPLE_ATOMS", 1
    )  # the estimate does not come upon it before
    at_one_place = np.zeros((2, 3))
    bad = replace(structures()[9], positions=at_one_place, elements=("Ti", "O"), name="bad", file="bad.xsf")
    project = extracted_project(tmp_path / "p", chosen=[*structures()[:20], bad])
    executor = InThisProcess()
    with pytest.raises(InputError, match=r"^bad\.xsf: ") as caught:
        pooled(project, executor)
    assert executor.submitted > 1
    assert caught.value.file == "bad.xsf"
    assert not project.features_manifest.exists()


class DiesOnce(InThisProcess):
    """An executor whose third task takes its process with it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.submitted != 2:
            return super().submit(fn, *args, **kwargs)
        self.submitted += 1
        future: Future[Any] = Future()
        future.set_exception(WorkerDied("the worker process was killed by SIGKILL"))
        return future


def test_a_shard_whose_worker_died_by_chance_is_computed_again(project: Project) -> None:
    executor = DiesOnce()
    assert pooled(project, executor).n_computed == 24
    assert features_bytes(project) == expected()
    assert executor.submitted > len(shards(project)) + 1  # its structures were tried one by one


# --- other inputs -------------------------------------------------------------------------------------------


def test_another_parameter_set_makes_all_features_anew(project: Project) -> None:
    run(project)
    before = shards(project)
    changed = PARAMETERS.with_overrides(cutoff=3.5)
    project.parameters_file.write_text(changed.to_json(), encoding="utf-8")
    assert run(project).n_computed == 24
    assert features_bytes(project) == expected(changed)
    assert set(shards(project)).isdisjoint(before)


def test_settings_of_network_and_training_leave_the_features_as_they_are(project: Project) -> None:
    run(project)
    changed = PARAMETERS.with_overrides(network={"hidden_layers": [3]}, training={"epochs": 7})
    project.parameters_file.write_text(changed.to_json(), encoding="utf-8")
    assert run(project).n_computed == 0


def test_more_structures_behind_the_others_leave_most_shards_as_they_are(project: Project) -> None:
    write_store(project.structures_file, structures()[:20], reference_energies=ATOMIC_ENERGIES)
    run(project)
    before = shards(project)
    write_store(project.structures_file, structures(), reference_energies=ATOMIC_ENERGIES)
    summary = run(project)
    assert 4 <= summary.n_computed < 8
    assert features_bytes(project) == expected()
    kept = set(shards(project)) & set(before)
    assert len(kept) >= len(before) - 1
    assert all(shards(project)[name] == before[name] for name in kept)


def test_fewer_structures_that_need_no_new_shard_make_the_features_fresh(project: Project) -> None:
    run(project)
    n_first = Manifest.read(project.features_manifest).shards[2].last
    write_store(project.structures_file, structures()[:n_first], reference_energies=ATOMIC_ENERGIES)
    assert run(project).n_computed == 0
    manifest = Manifest.read(project.features_manifest)
    hashes = read_store(project.structures_file).geometry_hashes
    assert (len(manifest.shards), manifest.structures) == (3, digest_of(hashes))


def test_tables_of_features_that_are_no_more_are_removed(project: Project) -> None:
    run(project, csv=True)
    (project.features_directory / "notes.csv").write_text("mine\n", encoding="utf-8")
    write_store(project.structures_file, structures()[1:], reference_energies=ATOMIC_ENERGIES)
    run(project)
    assert [path.name for path in project.features_directory.glob("*.csv")] == ["notes.csv"]
    run(project, csv=True)
    run(project)
    assert len(list(project.features_directory.glob("sym*.csv"))) == len(structures()) - 1


def test_other_energies_of_the_same_structures_compute_nothing(project: Project) -> None:
    run(project)
    shifted = [replace(s, energy=s.energy + 1.0) for s in structures() if s.energy is not None]
    write_store(project.structures_file, shifted, reference_energies=ATOMIC_ENERGIES)
    assert run(project).n_computed == 0


def test_a_structure_with_an_element_that_the_parameters_do_not_know_is_refused(tmp_path: Path) -> None:
    nitride = replace(structures()[0], elements=("N", *structures()[0].elements[1:]))
    project = extracted_project(tmp_path / "p", chosen=[nitride, *structures()[1:]])
    with pytest.raises(InputError, match=r"structure0001\.xsf: expected .*Ti, O.*got N"):
        run(project)


def test_without_structures_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    with pytest.raises(
        MissingInputError, match=r'no structures in .*; run "tio2nn extract -C .* SOURCE\.\.\." first'
    ):
        run(project)


# --- symXXXX.csv --------------------------------------------------------------------------------------------


def test_each_structure_has_its_table_with_named_columns_and_all_digits(project: Project) -> None:
    assert run(project, csv=True).csv_files == 24
    calculated = SymmetryCalculator(PARAMETERS).map(structures())
    for number, (structure, values) in enumerate(zip(structures(), calculated, strict=True), start=1):
        path = project.features_directory / f"sym{number:04d}.csv"
        with path.open(encoding="utf-8", newline="") as handle:
            header, *rows = csv.reader(handle)
        assert header == ["atom", "element", *PARAMETERS.feature_names]
        assert [row[0] for row in rows] == [str(k) for k in range(1, structure.n_atoms + 1)]
        assert tuple(row[1] for row in rows) == structure.elements
        assert np.array([[float(cell) for cell in row[2:]] for row in rows]).tobytes() == values.tobytes()


def test_tables_are_named_by_the_number_at_the_end_or_else_by_the_name() -> None:
    names = ["structure0001", "structure1", "Ti-slab", "a/Ti.xsf", "x/s07", "y/s07", "2020-cell", "9"]
    assert csv_names(names) == [
        "sym0001.csv",
        "sym1.csv",
        "sym_Ti-slab.csv",
        "sym_a_Ti.xsf.csv",
        "sym_x_s07.csv",
        "sym_y_s07.csv",
        "sym_2020-cell.csv",
        "sym9.csv",
    ]


@given(st.lists(st.text("ab/01-.", min_size=1, max_size=6), unique=True, max_size=12))
def test_no_two_structures_share_a_table(names: list[str]) -> None:
    assert len(set(csv_names(names))) == len(names)


def test_a_shard_that_is_not_what_it_was_is_named_and_computed_again(project: Project) -> None:
    run(project)
    first, *_, other = sorted(project.features_directory.glob("shard-*.npz"))
    # damaged, and whole but of other structures
    for content in (first.read_bytes()[:-700], other.read_bytes()):
        first.write_bytes(content)
        with pytest.raises(InputError, match="expected features, got a damaged file") as caught:
            features_bytes(project)
        assert caught.value.file == str(first)
        assert run(project).n_computed == Manifest.read(project.features_manifest).shards[0].last
        assert features_bytes(project) == expected()
