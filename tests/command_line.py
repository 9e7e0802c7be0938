"""Commands as a user gives them: in this process, or in a process of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.freshness import Snapshot


def without_compile_notice(err: str) -> str:
    """What a command writes to stderr where all loops were compiled before; the first one to need them says so."""
    return re.sub(r"^compiling the .* \.\.\.\n", "", err, flags=re.MULTILINE)


def invoke(*arguments: object, stdin: str = "", code: int = 0) -> tuple[str, str]:
    """What a command writes to stdout and to stderr, without the notice of compiled loops."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert ended.exit_code == code, (ended.stdout, ended.stderr, ended.exception)
    return ended.stdout, without_compile_notice(ended.stderr)


def refusal(*arguments: object, code: int, stdin: str = "") -> str:
    """The one line on stderr with which a command ends; nothing is on stdout."""
    out, err = invoke(*arguments, code=code, stdin=stdin)
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    return lines[0]


def rows(table: str) -> list[list[str]]:
    """The cells of tab-separated lines."""
    return [line.split("\t") for line in table.splitlines()]


def without_training(monkeypatch: pytest.MonkeyPatch, held_out: str) -> list[ParameterSet]:
    """The settings of each training that commands ask for; none is done, but one structure becomes the test set."""
    asked: list[ParameterSet] = []

    def fit(snapshot: Snapshot, parameters: ParameterSet, *_: object, **__: object) -> dict[str, Any]:
        asked.append(parameters)
        snapshot.project.split_file.write_text(f"structure,part\n{held_out},test\n", encoding="utf-8")
        return {}

    monkeypatch.setattr("tio2nn.cli.train.perform", fit)
    monkeypatch.setattr("tio2nn.cli.evaluate.perform", lambda *_, **__: ({}, True))
    return asked


def start(here: Path, *arguments: object, **streams: Any) -> subprocess.Popen[str]:
    """A command as a process of its own, its stdout buffered as in a pipe."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "tio2nn", *map(str, arguments)]
    pipe = subprocess.PIPE
    streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe} | streams
    return subprocess.Popen(command, text=True, cwd=here, env=environment, **streams)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that ends by itself."""
    return end_all([process])[0]


def end_all(processes: Sequence[subprocess.Popen[str]], seconds: float = 420.0) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of processes that end by themselves, whatever one of them waits for.

    The notice of compiled loops is left out.

    If one does not, all are aborted, and what they have written is shown; those with PYTHONFAULTHANDLER add where
    each of their threads was.
    """
    with ThreadPoolExecutor(len(processes)) as readers:
        written = [readers.submit(process.communicate) for process in processes]
        late = wait(written, seconds).not_done
        if late:
            for process in processes:
                process.send_signal(signal.SIGABRT)
    ended = [(process.returncode, *of.result()) for process, of in zip(processes, written, strict=True)]
    assert not late, "\n".join(f"exit code {code}\n{out}\n{err}" for code, out, err in ended)
    return [(code, out, err and without_compile_notice(err)) for code, out, err in ended]
