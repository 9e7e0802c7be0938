"""A scheduler that is not there, goes away, or has no workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs the extra cluster: distributed and cryptography")
pytest.importorskip("cryptography", reason="needs the extra cluster: distributed and cryptography")

from command_line import invoke
from dask_cluster import dask_cluster, wait_until
from parallel.tasks import executor_of, sleep
from projects import extracted_project, structures_with_forces

from tio2nn.errors import InputError
from tio2nn.parallel.cluster import connected
from tio2nn.parallel.remote_errors import SchedulerLostError
from tio2nn.parallel.scheduler import Scheduler
from tio2nn.project.project import Project

# a scheduler and workers of their own, which import and compile everything once more
pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return extracted_project(tmp_path / "p", chosen=structures_with_forces())


def test_a_scheduler_goes_away_or_has_no_workers(project: Project, tmp_path: Path) -> None:
    (directory := tmp_path / "dask").mkdir()
    with dask_cluster(directory, ()) as lonely:
        _, said = invoke("featurize", "-C", project.root, *lonely.options, "--wait", 1, code=3)
        assert said == (
            "the cluster has had no worker for 1 s; start workers, or wait longer with --wait; finished work is kept\n"
        )
        lonely.start_worker()
        with connected(Scheduler(str(lonely.file), wait=120)) as cluster:
            cluster.scheduler = replace(cluster.scheduler, wait=2)
            with executor_of(cluster, tmp_path) as executor:
                marker = tmp_path / "marker"
                future = executor.submit(sleep, marker)
                wait_until(marker.exists)
                lonely.workers[0].terminate()
                with pytest.raises(InputError, match="the cluster has had no worker for 2 s"):
                    future.result(60)
            with executor_of(cluster, tmp_path) as executor:
                future = executor.submit(abs, 1)
                assert lonely.scheduler is not None
                lonely.scheduler.kill()
                with pytest.raises(SchedulerLostError, match=r"^lost the scheduler tcp://127\.0\.0\.1:\d+; "):
                    future.result(60)
    _, said = invoke("featurize", "-C", project.root, "--scheduler", lonely.address(), "--wait", 0.5, code=3)
    assert said.startswith(f"cannot reach the scheduler {lonely.address()} within 0.5 s: ")
    assert said.count("\n") == 1
