"""Work on a real Dask cluster gives the bits of work on this machine, and ends as cleanly."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed", reason="needs the extra cluster: distributed and cryptography")
pytest.importorskip("cryptography", reason="needs the extra cluster: distributed and cryptography")

from command_line import invoke
from commands import derivatives_of, evaluation_of, jacobian_of, potential_of, trials_of, weights_of
from dask_cluster import DaskCluster, dask_cluster, wait_until
from parallel.tasks import (
    DeadlyPool,
    copy,
    count,
    executor_of,
    fill,
    kill_parent,
    of_worker,
    refuse,
    sleep,
    times_of_a_nap,
)
from projects import (
    PARAMETERS,
    extracted_project,
    features_bytes,
    no_pool,
    structures_with_forces,
    structures_with_stress,
    trained_project,
    write_files,
)

from tio2nn.errors import InputError
from tio2nn.parallel.cluster import Cluster, connected
from tio2nn.parallel.remote_executor import RemoteFuture
from tio2nn.parallel.scheduler import Scheduler
from tio2nn.parallel.workers import WorkerDied
from tio2nn.project import feature_store as features
from tio2nn.project.project import Project
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import compute_features

# a scheduler and workers of their own, which import and compile everything once more
pytestmark = pytest.mark.slow

_LIMIT = 1_500_000_000  # bytes of memory of a worker


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Two workers, of one thread and of two, with TLS."""
    directory = tmp_path_factory.mktemp("dask")
    limit = ("--memory-limit", str(_LIMIT))
    with dask_cluster(directory, (1, 2), encrypted=True, worker=limit) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(running: DaskCluster) -> Iterator[Cluster]:
    with connected(Scheduler(str(running.file), running.tls, wait=120)) as found:
        wait_until(lambda: found.n_workers == 3)
        found.look()
        yield found


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some five shards of about five structures."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 30)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return extracted_project(tmp_path / "p", chosen=structures_with_forces())


def whole_of(project: Project, verb: Callable[..., Any]) -> Project:
    """The same project, by this process alone."""
    whole = extracted_project(project.root.with_name("whole"), chosen=structures_with_forces())
    verb(whole, jobs=1, make_executor=no_pool)
    return whole


# --- the same bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "content", "is_shared"),
    [
        (compute_features, features_bytes, True),
        (differentiate, derivatives_of, False),
        (compute_features, features_bytes, False),
    ],
)
def test_a_worker_killed_in_the_middle_changes_no_bit(
    cluster: Cluster,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    verb: Callable[..., Any],
    content: Callable[[Project], bytes],
    is_shared: bool,
) -> None:
    monkeypatch.setattr(Cluster, "sees", lambda *_: is_shared)
    victims = of_worker(cluster, os.getpid)

    @contextmanager
    def killing(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
        def advance(_steps: int) -> None:
            if victims:
                os.kill(victims.pop(0), signal.SIGKILL)
                victims.clear()

        yield advance

    summary = verb(
        project,
        jobs=cluster.n_workers,
        make_executor=cluster.kernel_workers(project.root, derivatives=True),
        track=killing,
    )
    assert summary.n_computed == summary.n_structures
    assert content(project) == content(whole_of(project, verb))


def test_files_travel_where_workers_do_not_see_the_folder(cluster: Cluster, project: Project) -> None:
    """Were a worker to write into the folder itself, this would see it."""
    places: list[Path] = []
    executor = executor_of(cluster, project.root, shared=False)
    (project.root / "in.txt").write_text("brought", encoding="utf-8")
    large = project.root / "large.txt"
    large.write_text("large " * 200_000, encoding="utf-8")
    with executor:
        for n in range(2):
            out = project.root / "features" / f"out-{n}.txt"
            there, length = executor.submit(copy, project.root / "in.txt", large, out).result()
            places.append(there)
            assert length == large.stat().st_size
            assert out.read_text("utf-8") == "brought, and back"
    assert all(not place.is_relative_to(project.root) for place in places)
    assert not list(project.root.rglob("*.part"))


def test_a_folder_is_tried_with_a_file_that_is_gone_afterwards(cluster: Cluster, project: Project) -> None:
    said: list[str] = []
    own = Cluster(cluster.client, cluster.scheduler, None, said.append, said.append)
    before = set(project.root.iterdir())
    assert own.sees(project.root)
    assert set(project.root.iterdir()) == before
    assert said == [f"the workers share {project.root}: they read and write there"]


def test_members_and_trials_are_those_of_this_machine(
    running: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, derivatives and checkpoints travel, as they do where workers do not see the folder."""
    monkeypatch.setattr(Cluster, "sees", lambda *_: False)
    monkeypatch.setattr("tio2nn.parallel.remote_executor._LARGEST_WITH_A_TASK", 10_000)
    parameters = PARAMETERS.with_overrides(
        training={"forces": True, "stress": True, "members": 2, "epochs": 3},
        tuning={"strategy": "random", "max_trials": 2, "epochs": 2},
    )
    found = []
    for name, options in (("here", ["-j", 1]), ("there", running.options)):
        made = extracted_project(tmp_path / name, parameters, chosen=structures_with_stress())
        _, said = invoke("featurize", "-C", made.root, *options)
        for command in ("tune", "train"):
            _, said = invoke(command, "-C", made.root, *options)
        assert "member 2, epoch 3/3" in said
        found.append((potential_of(made), trials_of(made)))
    assert found[0] == found[1]


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_student_is_that_of_this_machine(
    running: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    monkeypatch.setattr(Cluster, "sees", lambda *_: is_shared)
    parameters = PARAMETERS.with_overrides(training={"forces": True, "stress": True, "epochs": 3})
    teacher = tmp_path / "teacher.npz"
    found = []
    for name, options in (("here", ["-j", 1]), ("there", running.options)):
        made = extracted_project(tmp_path / name, parameters, chosen=structures_with_stress())
        invoke("featurize", "-C", made.root, *options)
        if name == "here":
            invoke("train", "-C", made.root, "--members", 2, *options)
            teacher.write_bytes(made.potential_file.read_bytes())
        _, said = invoke("train", "-C", made.root, "--distill", teacher, "--copies", 1, *options)
        assert "member 1, epoch 3/3" in said
        assert not made.lessons_directory.exists()
        found.append(weights_of(made))
    assert found[0] == found[1]


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_learning_curve_is_that_of_this_machine(
    running: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    monkeypatch.setattr(Cluster, "sees", lambda *_: is_shared)
    parameters = PARAMETERS.with_overrides(training={"forces": True, "epochs": 3})
    found = []
    for name, options in (("here", ["-j", 1]), ("there", running.options)):
        made = extracted_project(tmp_path / name, parameters, chosen=structures_with_forces())
        invoke("featurize", "-C", made.root, *options)
        words = ("learning-curve", "--fractions", "40,70,100", "--repeats", 1, "--json")
        printed, said = invoke(*words, "-C", made.root, *options)
        assert "fit 3 of 3" in said
        found.append([{**fit, "seconds": 0.0} for fit in json.loads(printed)["fits"]])
        assert not list(made.curve_directory.glob("data-*"))
    assert found[0] == found[1]


def test_a_whole_run_is_that_of_this_machine(running: DaskCluster, tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_files(files, structures_with_forces())
    settings = ("--members", 2, "--epochs", 2, "--forces")
    found = []
    for name, options in (("here", ["-j", 1]), ("there", running.options)):
        made = Project.create(tmp_path / name, PARAMETERS)
        _, said = invoke("run", files, "-C", made.root, *settings, *options)
        assert f"the potential is {made.potential_file}" in said
        found.append((jacobian_of(made), potential_of(made), evaluation_of(made)))
    assert f"the workers share {made.root}" in said
    assert found[0] == found[1]


def test_predictions_are_those_of_this_machine(running: DaskCluster, tmp_path: Path) -> None:
    trained = trained_project(tmp_path / "trained")
    write_files(tmp_path / "files", structures_with_forces())
    (tmp_path / "files" / "broken.xsf").write_text("nothing\n", encoding="utf-8")
    arguments = ("--forces", "-f", "json", "-C", trained.root, tmp_path / "files")
    here, _ = invoke("predict", *arguments, code=3)
    there, said = invoke("predict", *arguments, *running.options, code=3)
    assert there == here
    assert len(here.splitlines()) == len(structures_with_forces())
    assert "broken.xsf" in said
    here, _ = invoke("evaluate", "--json", "-C", trained.root, tmp_path / "files", code=3)
    there, _ = invoke("evaluate", "--json", "-C", trained.root, tmp_path / "files", *running.options, code=3)
    assert there == here


# --- deaths ------------------------------------------------------------------------------------------------


def test_a_structure_that_kills_its_process_is_named_as_on_this_machine(
    cluster: Cluster, project: Project
) -> None:
    pids = of_worker(cluster, os.getpid)
    with pytest.raises(
        InputError,
        match=r"structure0007.xsf: cannot compute structure0007 .*by SIGKILL, even with no other structure; ",
    ):
        compute_features(project, jobs=3, make_executor=DeadlyPool(cluster, project.root, 100))
    assert of_worker(cluster, os.getpid) == pids
    assert 1 < compute_features(project, jobs=1, make_executor=no_pool).n_computed < 8  # its shard


@pytest.mark.parametrize("allowed_failures", [0, 3])
def test_a_task_that_kills_its_dask_worker_is_a_dead_worker(
    cluster: Cluster, tmp_path: Path, allowed_failures: int
) -> None:
    def allow(n: int, dask_scheduler: Any = None) -> int:
        before: int = dask_scheduler.allowed_failures
        dask_scheduler.allowed_failures = n
        return before

    before = cluster.client.run_on_scheduler(allow, allowed_failures)
    try:
        with executor_of(cluster, tmp_path) as executor:
            with pytest.raises(BrokenExecutor, match=r"^the worker tls://127\.0\.0\.1:\d+ died"):
                executor.submit(kill_parent).result()
            assert executor.submit(abs, -3).result() == 3
    finally:
        cluster.client.run_on_scheduler(allow, before)
    wait_until(lambda: cluster.n_workers == 3)


def test_a_process_with_more_memory_than_its_worker_may_have_dies(cluster: Cluster, tmp_path: Path) -> None:
    with (
        executor_of(cluster, tmp_path) as executor,
        pytest.raises(
            WorkerDied, match=r"killed for 1\.\d+ GB of memory, more than its Dask worker may have, 1\.5 GB"
        ),
    ):
        executor.submit(fill, _LIMIT).result()


# --- messages, limits, the end -----------------------------------------------------------------------------


def test_messages_arrive_in_order(cluster: Cluster, tmp_path: Path) -> None:
    heard: list[object] = []
    with executor_of(cluster, tmp_path) as executor:
        futures = [executor.submit_listening(heard.append, count, n) for n in (5, 1)]
        assert [future.result() for future in futures] == [5, 1]
        wait_until(lambda: len(heard) == 6)
    steps = [step for step in heard if step != ("step", 0)]
    assert steps == [("step", k) for k in range(1, 5)]


def test_a_result_stays_on_its_worker_until_it_is_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    with executor_of(cluster, tmp_path) as executor:
        futures: list[Future[bytes]] = [executor.submit(bytes, 1_000_000) for _ in range(4)]
        wait(futures)
        for future in futures:
            assert isinstance(future, RemoteFuture)
            assert Future.result(future) is None
            assert future.result() == bytes(1_000_000)


def test_no_more_tasks_than_jobs_run_at_a_time(running: DaskCluster, tmp_path: Path) -> None:
    with connected(Scheduler(str(running.file), running.tls), limit=1) as limited:
        assert limited.n_workers == 1
        with executor_of(limited, tmp_path) as executor:
            times = [future.result() for future in [executor.submit(times_of_a_nap) for _ in range(3)]]
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_cancels_the_tasks_and_leaves_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    markers = [tmp_path / f"{n}.txt" for n in range(5)]  # more than run at a time

    executor = executor_of(cluster, tmp_path)

    def interrupted() -> None:
        with executor:
            for marker in markers:
                executor.submit(sleep, marker)
            wait_until(lambda: sum(marker.exists() and bool(marker.read_text()) for marker in markers) == 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    processes = [int(marker.read_text("utf-8")) for marker in markers if marker.exists()]
    wait_until(lambda: not any(map(_is_alive, processes)), 20)
    assert len(processes) == 3
    assert cluster.n_workers == 3
    wait_until(lambda: not cluster.client.run_on_scheduler(_tasks_of, executor.pool), 10)


def _tasks_of(pool: str, dask_scheduler: Any = None) -> list[str]:
    return [str(key) for key in dask_scheduler.tasks if pool in str(key)]


def test_an_error_of_a_task_is_the_error_of_the_command(cluster: Cluster, tmp_path: Path) -> None:
    with executor_of(cluster, tmp_path) as executor, pytest.raises(InputError) as caught:
        executor.submit(refuse).result()
    assert (caught.value.reason, caught.value.file, caught.value.line) == ("expected more", "a.xsf", 3)


# --- what a worker must have -------------------------------------------------------------------------------


def test_a_worker_with_another_version_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tio2nn.parallel.cluster.software", lambda: ("9.9", "8"))
    with pytest.raises(
        InputError, match=r"^expected tio2nn 9\.9 with kernels 8 on the worker tls://127.* install"
    ):
        cluster.look()
    # a worker that came later
    monkeypatch.setattr("tio2nn.parallel.remote_executor.software", lambda: ("9.9", "8"))
    with (
        executor_of(cluster, tmp_path) as executor,
        pytest.raises(InputError, match=r"^expected tio2nn 9\.9 "),
    ):
        executor.submit(abs, 1).result()


def test_a_worker_that_came_later_and_does_not_see_the_folder_is_told(
    cluster: Cluster, tmp_path: Path
) -> None:
    with (
        executor_of(cluster, tmp_path / "nowhere") as executor,
        pytest.raises(
            InputError, match=r"nowhere: expected the folder on all workers, as on those before, but tls:"
        ),
    ):
        executor.submit(abs, 1).result()
