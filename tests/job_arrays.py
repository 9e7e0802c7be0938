"""Parts of a job array as processes of their own, with shards so small that a small project has many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_COMMAND = """
import fnmatch
import os
import sys
import time

import tio2nn.project.feature_store as store
from tio2nn.__main__ import main

written = []


def halt(event, arguments):
    if written and os.path.exists(written[0]):
        if event in ("open", "os.rename", "os.remove"):
            while True:
                time.sleep(60)
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        path = arguments[0]
    elif event == "os.rename":
        path = arguments[1]
    else:
        return
    if isinstance(path, (str, os.PathLike)) and fnmatch.fnmatch(os.path.basename(path), os.environ["HALT_AFTER"]):
        written[:] = [os.path.abspath(path)]


if __name__ == "__main__":
    if sys.argv[1] == "train":
        from tio2nn.training import fit

        fit._CHECKPOINT_SECONDS = -1.0
        end_epoch = fit.Fit.end_epoch

        def end_and_perhaps_die(self, epoch):
            if os.environ["DIE_AFTER_EPOCH"] == str(len(self.history)):
                os.kill(os.getpid(), 9)
            end_epoch(self, epoch)

        fit.Fit.end_epoch = end_and_perhaps_die
    else:
        store.ATOMS_PER_SHARD = 8
    if os.environ.get("HALT_AFTER"):
        sys.addaudithook(halt)
    main()
"""


def start_part(
    here: Path, *arguments: object, halt_after: str = "", die_after_epoch: int | None = None
) -> subprocess.Popen[str]:
    """A command as a process of its own, in this folder.

    With `halt_after`, it stands still for good once it has written a file of that name (a pattern): at the first
    file that it touches afterwards, however fast the machine is. With `die_after_epoch`, a training is killed when a
    network has one epoch more than that.
    """
    script = here / "part.py"
    if not script.exists():  # another process may be about to read it
        script.write_text(_COMMAND, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        text=True,
        cwd=here,
        env=os.environ
        | {
            "HALT_AFTER": halt_after,
            "DIE_AFTER_EPOCH": str(die_after_epoch),
            # where it hangs, if it does
            "PYTHONFAULTHANDLER": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill_after(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    """Kill a process that halts after it has written such a file into the folder, when it has."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
