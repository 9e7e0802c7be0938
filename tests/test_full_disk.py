"""A disk that is full: one line with the file's name, exit code 3, nothing half-written, and later the same bits.

`TIO2NN_FULL_DISKS` is the number of disks that slow commands are tried on; few by default, for the sake of time.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import full_disk
import pytest
from command_line import end, start
from full_disk import QUICK, SLOW, largest_file, walk, write_beyond_a_limit
from projects import structures, trained_project, write_files

from tio2nn.parallel.workers import WorkerProcesses

if sys.platform == "win32":
    pytest.skip("limits of files as POSIX has them", allow_module_level=True)

N_SIZES = int(os.environ.get("TIO2NN_FULL_DISKS", "1"))
MANY = 12

pytestmark = pytest.mark.usefixtures("in_this_process")


class InThisProcess(Executor):
    """Trials work here, where the limit is."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tio2nn.parallel.workers.trial_workers", lambda _: InThisProcess())
    monkeypatch.chdir(tmp_path)  # and back from where a test goes


def all_sizes(of_files: Sequence[int]) -> list[int]:
    """Nothing, and for each file all of it but a byte, or half."""
    return sorted({0, *(size - 1 for size in of_files if size), *(size // 2 for size in of_files)})


def some_sizes(of_files: Sequence[int]) -> list[int]:
    return random.Random(0).sample(all_sizes(of_files), N_SIZES)


@pytest.mark.parametrize("name", QUICK)
def test_a_file_that_cannot_grow_ends_a_command_in_one_line_and_is_whole_later(
    tmp_path: Path, name: str
) -> None:
    assert walk(tmp_path, name, all_sizes, largest_file)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_so_does_one_of_a_command_that_takes_long(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tio2nn.tuning.trial._configure_once", lambda _: None
    )  # TensorFlow is at work already
    assert walk(tmp_path, name, some_sizes, largest_file)


def real_disks(place: Path, n_sizes: int, *names: str) -> set[str]:
    """The files that could not be written on small disks."""
    command = ["unshare", "-rm", sys.executable, full_disk.__file__, str(place), str(n_sizes), *names]
    try:
        subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", place], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a disk")
    # the program imports what lies beside it
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


@pytest.mark.slow
def test_a_disk_without_space_ends_a_command_in_one_line_whichever_file_comes_last(tmp_path: Path) -> None:
    blamed = real_disks(tmp_path, MANY, *QUICK)
    assert {"extract: structures/structures.npz", "extract: energies.csv"} <= blamed
    assert {"featurize: features/manifest.json", "predict: predicted/structure0006.xsf"} <= blamed
    assert any(place.startswith("featurize with forces: features/jacobian") for place in blamed)


@pytest.mark.slow
def test_a_disk_without_space_ends_fits_and_an_evaluation_in_one_line(tmp_path: Path) -> None:
    blamed = real_disks(tmp_path, N_SIZES, *SLOW)
    assert {place.partition(":")[0] for place in blamed} == set(SLOW)


# --- as processes of their own ------------------------------------------------------------------------------


def refusal(here: Path, *arguments: object, **options: Any) -> str:
    code, _, err = end(start(here, *arguments, **options))
    assert code == 3, err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    return err.splitlines()[-1]


def test_a_worker_process_that_meets_a_full_disk_names_the_file_at_home(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with WorkerProcesses(1, 1) as workers, pytest.raises(OSError, match="File too large") as caught:
        workers.submit(write_beyond_a_limit, path).result()
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "structure0001.xsf", "-C", "p"),
        ("evaluate", "--json", "-C", "p"),
        ("status", "--json", "-C", "p"),
        ("status", "-C", "p"),
        ("schema",),
        ("--help",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_results_that_find_no_space_end_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], unbuffered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if unbuffered else "")
    trained_project(tmp_path / "p")
    write_files(tmp_path, structures()[:1])
    with Path("/dev/full").open("w") as full:
        assert refusal(tmp_path, *arguments, stdout=full) == "stdout: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_the_exit_code_is_right_where_not_even_the_error_can_be_written(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("w") as full,
        start(tmp_path, "status", "-C", "nowhere", stderr=full) as ended,
    ):
        assert ended.wait(60) == 3
