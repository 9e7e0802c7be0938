"""Commands as a user gives them: in this process, or in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tio2nn.cli.commands import app


def invoke(*arguments: object, stdin: str = "", code: int = 0) -> tuple[str, str]:
    """What a command writes to stdout and to stderr."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert ended.exit_code == code, (ended.stdout, ended.stderr, ended.exception)
    return ended.stdout, ended.stderr


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


def start(here: Path, *arguments: object, **streams: Any) -> subprocess.Popen[str]:
    """A command as a process of its own, its stdout buffered as in a pipe."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "tio2nn", *map(str, arguments)]
    pipe = subprocess.PIPE
    streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe} | streams
    return subprocess.Popen(command, text=True, cwd=here, env=environment, **streams)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that ends by itself."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err
