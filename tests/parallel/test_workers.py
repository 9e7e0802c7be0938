"""Worker processes, asked to run functions of the standard library: a new process can import those."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tio2nn.errors import InputError
from tio2nn.parallel.workers import WorkerDied, WorkerProcesses
from tio2nn.parameters.parameter_set import ParameterSet

# far longer than any test waits
_FOREVER = 600.0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_come_back_to_whom_they_belong() -> None:
    with WorkerProcesses(2, 100) as workers:
        futures = [workers.submit(pow, base, 2) for base in range(20)]
    assert [future.result() for future in futures] == [base**2 for base in range(20)]


@pytest.mark.parametrize(
    ("kill", "how"),
    [
        ((os._exit, 7), "exited with code 7"),
        ((sys.exit, 0), "exited with code 0"),
        ((signal.raise_signal, signal.SIGKILL), "was killed by SIGKILL"),
    ],
    ids=["exit", "sys.exit", "kill"],
)
def test_a_death_costs_one_task(kill: tuple[object, ...], how: str) -> None:
    with WorkerProcesses(1, 100) as workers:
        before = workers.submit(os.getpid)
        died: Future[object] = workers.submit(*kill)
        after = [workers.submit(os.getpid) for _ in range(2)]
        with pytest.raises(WorkerDied, match=f"^the worker process {how}$"):
            died.result()
        assert after[0].result() == after[1].result() != before.result()
    assert not _is_alive(after[0].result())


def test_a_worker_that_is_killed_while_idle_costs_one_task_at_most() -> None:
    with WorkerProcesses(1, 100) as workers:
        pid = workers.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        lost = workers.submit(pow, 2, 2)
        assert workers.submit(pow, 3, 2).result() == 9
        with pytest.raises(WorkerDied):
            lost.result()


def test_a_worker_is_replaced_after_its_tasks() -> None:
    with WorkerProcesses(1, 2) as workers:
        pids = [future.result() for future in [workers.submit(os.getpid) for _ in range(5)]]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert os.getpid() not in pids
    assert not any(map(_is_alive, pids))


def test_errors_of_tasks_come_back_as_themselves(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text("{\n  no\n}", encoding="utf-8")
    with WorkerProcesses(1, 100) as workers:
        pid = workers.submit(os.getpid)
        plain, ours = workers.submit(int, "seven"), workers.submit(ParameterSet.load, file)
        unsendable = workers.submit(lambda: 1)
        with pytest.raises(ValueError, match="invalid literal for int") as caught:
            plain.result()
        assert "in a worker process" in str(caught.value.__cause__)
        with pytest.raises(InputError) as expected:
            ParameterSet.load(file)
        with pytest.raises(InputError) as found:
            ours.result()
        assert str(found.value) == str(expected.value)
        assert (found.value.file, found.value.line) == (str(file), 2)
        with pytest.raises(Exception, match="pickle"):
            unsendable.result()
        # none of this costs a process
        assert workers.submit(os.getpid).result() == pid.result()


def test_nothing_survives_an_error_in_the_block() -> None:
    futures: list[Future[Any]] = []

    def interrupted() -> None:
        with WorkerProcesses(2, 100) as workers:
            futures.append(workers.submit(os.getpid))
            futures[0].result()
            futures.extend(workers.submit(time.sleep, _FOREVER) for _ in range(2))
            futures.append(workers.submit(pow, 2, 2))
            while not all(future.running() for future in futures[1:3]):
                time.sleep(0.01)
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begin < _FOREVER / 10
    known, *running, waiting = futures
    assert waiting.cancelled()
    for future in running:
        assert isinstance(future.exception(), WorkerDied)
    assert multiprocessing.active_children() == []
    assert not _is_alive(known.result())


def test_what_was_submitted_is_finished_when_the_block_ends() -> None:
    with WorkerProcesses(1, 100) as workers:
        futures = [workers.submit(time.sleep, 0.05) for _ in range(4)]
    assert all(future.done() and not future.cancelled() for future in futures)
    with pytest.raises(RuntimeError, match="shut down"):
        workers.submit(pow, 2, 2)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from tio2nn.parallel.workers import WorkerProcesses\n"
        "if __name__ == '__main__':\n"
        "    workers = WorkerProcesses(2, 100)\n"
        "    workers.submit(os.getpid).result()\n"
        f"    sleeping = [workers.submit(time.sleep, {_FOREVER}) for _ in range(2)]\n"
        "    while not all(future.running() for future in sleeping):\n"
        "        time.sleep(0.01)\n"
        "    time.sleep(1.0)\n"  # the second process may still be starting
        "    print('ready', flush=True)\n"
        f"    time.sleep({_FOREVER})\n",
        encoding="utf-8",
    )
    # workers hold the other end of this pipe: it ends when the last of them does
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        rest, _ = parent.communicate(timeout=30)
    assert rest == ""


UNDER_FIRE = """
import signal
from tio2nn.parallel.workers import WorkerProcesses
signal.signal(signal.SIGINT, lambda *_: None)
with WorkerProcesses(2, 9) as workers:
    print("begun", flush=True)
    futures = [workers.submit(pow, 2, k) for k in range(4)]
    print(sum(future.result() for future in futures), flush=True)
"""


def test_ctrl_c_while_workers_start_is_for_their_parent_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNDER_FIRE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.002)
    out, err = process.communicate()
    assert (out, err) == ("15\n", "")


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Workers that ran it again would start workers of their own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from tio2nn.parallel.workers import WorkerProcesses\n"
        "print('begin')\n"
        "with WorkerProcesses(2, 1) as workers:\n"
        "    futures = [workers.submit(pow, 2, k) for k in range(6)]\n"
        "print([future.result() for future in futures], __name__, __import__('__main__').workers is workers)\n",
        encoding="utf-8",
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("begin\n[1, 2, 4, 8, 16, 32] __main__ True\n", "")
