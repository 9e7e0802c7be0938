"""Structures that take a worker process down with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from commands import derivatives_of
from deadly import DeadlyWorkers
from projects import extracted_project, features_bytes, no_pool, structures_with_forces

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parallel import shards as parallel
from tio2nn.parallel.shards import ShardWork, work_through
from tio2nn.parallel.workers import WorkerDied
from tio2nn.project import feature_store as features
from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import compute_features

Verb = Callable[..., Any]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some five shards of about five structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 30)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return extracted_project(tmp_path / "p", chosen=structures_with_forces())


def run(verb: Verb, project: Project, *deadly: str, **options: Any) -> Any:
    return verb(
        project,
        jobs=2,
        jobs_are_fixed=True,
        make_executor=lambda workers: DeadlyWorkers(workers, deadly, **options),
    )


@pytest.mark.parametrize(
    ("verb", "content"),
    [
        (compute_features, features_bytes),
        pytest.param(differentiate, derivatives_of, marks=pytest.mark.slow),
    ],
)
def test_a_structure_that_kills_its_worker_is_named_and_all_other_shards_are_computed(
    project: Project, verb: Verb, content: Callable[[Project], bytes]
) -> None:
    with pytest.raises(InputError) as caught:
        run(verb, project, "structure0007")
    n_atoms = structures_with_forces()[6].n_atoms
    assert str(caught.value).startswith(
        f"structure0007.xsf: cannot compute structure0007 ({n_atoms} atoms): "
        "the worker process was killed by SIGKILL, even with no other structure; "
    )
    summary = verb(project, jobs=1, make_executor=no_pool)
    assert 1 < summary.n_computed < 8  # its shard
    whole = extracted_project(project.root.with_name("whole"), chosen=structures_with_forces())
    verb(whole, jobs=1, make_executor=no_pool)
    assert content(project) == content(whole)


@pytest.mark.slow
def test_of_several_such_structures_the_first_of_each_shard_is_named(project: Project) -> None:
    with pytest.raises(
        InputError,
        match=r"cannot compute structure0004 .*; the same holds for structure0011, structure0024; all",
    ):
        run(compute_features, project, "structure0024", "structure0004", "structure0011")


@pytest.mark.slow
def test_structures_that_kill_only_together_are_named_as_a_range(project: Project) -> None:
    expected = r"cannot compute structure\d+ to structure\d+: .* by SIGKILL, twice, though each of them can"
    with pytest.raises(InputError, match=expected):
        run(compute_features, project, "structure0007", "structure0008", together=2)


@pytest.mark.slow
def test_the_command_ends_in_one_line_and_exit_code_3(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tio2nn.parallel.workers.kernel_workers", lambda workers: DeadlyWorkers(workers, ["structure0007"])
    )
    out, err = invoke("featurize", "-j", 2, "-C", project.root, code=3)
    announced, said = err.splitlines()
    assert out == ""
    assert announced.startswith("symmetry functions: 24 structures")
    assert said.startswith("structure0007.xsf: cannot compute structure0007 ")


def test_a_structure_for_which_memory_is_short_is_named_where_no_pool_was_at_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tio2nn.workflow.featurize._SAMPLE_ATOMS", 1
    )  # the estimate does not come upon it before
    search = SymmetryCalculator._search

    def short_of_memory(
        calculator: SymmetryCalculator, structures: Sequence[Structure], threads: int = 1
    ) -> Any:
        if any(structure.name == "structure0007" for structure in structures):
            raise MemoryError
        return search(calculator, structures, threads)

    monkeypatch.setattr(SymmetryCalculator, "_search", short_of_memory)
    with pytest.raises(InputError, match=r"cannot compute structure0007 .*: out of memory, even with"):
        compute_features(project, jobs=1, make_executor=lambda _: Dying())


class Dying(Executor):
    """Works in this process; dies of certain arguments, and lists all it was asked for."""

    def __init__(self, *deadly: object) -> None:
        self.deadly = deadly
        self.asked: list[object] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked.append(args[0])
        future: Future[Any] = Future()
        try:
            if args[0] in self.deadly:
                raise WorkerDied("the worker process was killed by SIGKILL")
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_an_item_whose_structures_all_survive_has_a_second_chance() -> None:
    executors = [Dying(2), Dying()]
    done: list[tuple[int, int]] = []
    all_structures = structures_with_forces()
    work: ShardWork[int, int] = ShardWork(
        title="squares",
        run=pow,
        task=lambda item: (item, 2),
        structures=lambda item: all_structures[item : item + 2],
        n_atoms=lambda item: item,
        compute=iter,
        on_done=lambda item, result: done.append((item, result)),
    )
    work_through(work, range(4), jobs=2, make_executor=lambda _: executors.pop(0))
    assert sorted(done) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert executors == []


def test_where_everything_dies_only_so_many_structures_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "_MOST_NAMED", 3)
    all_structures = structures_with_forces()
    second = Dying(*all_structures)
    executors = [Dying(*range(9)), second]
    work: ShardWork[int, int] = ShardWork(
        title="squares",
        run=pow,
        task=lambda item: (item, 2),
        structures=lambda item: [all_structures[item]],
        n_atoms=lambda item: item,
        compute=iter,
        on_done=lambda *_: None,
    )
    with pytest.raises(
        InputError, match=r"structure0001 .*structure0002, structure0003; 6 more shards were not"
    ):
        work_through(work, range(9), jobs=2, make_executor=lambda _: executors.pop(0))
    assert second.asked == list(all_structures[:3])
