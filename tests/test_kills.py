"""Commands that are killed at random moments, and started again until they end.

`TIO2NN_KILLS` is the number of kills of each command; few by default, for the sake of time.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import end, start
from commands import COMMANDS

from tio2nn.project.project import Project

N_KILLS = int(os.environ.get("TIO2NN_KILLS", "0"))

SLOW_SECONDS = 5.0  # of a command that loads TensorFlow, perhaps in several processes: one kill has to do


def run_to_the_end(here: Path, arguments: tuple[object, ...], root: str) -> float:
    """Seconds."""
    begin = time.monotonic()
    code, _, err = end(start(here, *arguments, "-C", root))
    assert code == 0, err
    return time.monotonic() - begin


QUICK = ("extract",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in COMMANDS]
)
def test_what_was_killed_ends_with_the_bits_of_what_was_not(tmp_path: Path, name: str) -> None:
    make, arguments, content = COMMANDS[name]
    made = make(tmp_path / "made")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(made.root, undisturbed)
    shutil.copytree(made.root, killed)
    seconds = run_to_the_end(tmp_path, arguments, "undisturbed")
    expected = content(Project(undisturbed))
    chance = random.Random(name)
    n_kills = N_KILLS or (1 if seconds > SLOW_SECONDS else 3)
    n_hits = 0
    for k in range(n_kills):
        if k % 4 == 3:  # most kills hit what an earlier one left, some a beginning
            shutil.rmtree(killed)
            shutil.copytree(made.root, killed)
        # the first hits; later commands may find most of their work done, and end before their kill
        latest = 0.5 if k == 0 else 1.0
        process = start(tmp_path, *arguments, "-C", "killed")
        try:
            process.communicate(timeout=chance.uniform(0.1, latest) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        n_hits += process.returncode == -signal.SIGKILL
        if k % 4 == 2 or k == n_kills - 1:
            run_to_the_end(tmp_path, arguments, "killed")
            assert content(Project(killed)) == expected
    assert n_hits >= 1
