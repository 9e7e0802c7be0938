"""The program as a process of its own, and what it costs."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks.record import Row

ERRORS = ("energy_mae_meV_per_atom", "energy_rmse_meV_per_atom", "force_mae_eV_per_A", "force_rmse_eV_per_A")


class Cost(NamedTuple):
    """What a command took, its worker processes included."""

    wall: float  # s
    cpu: float  # s
    memory: int  # bytes, of the largest process
    printed: int  # bytes


def add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--program", metavar="COMMAND", help="another one, such as an earlier version")


def called(program: str | None) -> list[str]:
    """The words that a command line of the program begins with; by default that of this Python."""
    return [sys.executable, "-m", "tio2nn"] if program is None else shlex.split(program)


def run(words: Sequence[str]) -> tuple[Cost, str]:
    """Run a command to its end; its cost and what is on stdout."""
    with tempfile.TemporaryFile("w+") as output:
        cost = _run(words, output)
        output.seek(0)
        return cost, output.read()


def cost_of(words: Sequence[str]) -> Cost:
    """Run a command to its end, and forget what it prints.

    The system counts what this process holds, such as the lines of a million predictions, as memory of those it starts.
    """
    with tempfile.TemporaryFile("w+") as output:
        return _run(words, output)


def _run(words: Sequence[str], output: IO[str]) -> Cost:
    with tempfile.TemporaryFile("w+") as messages:
        begin = time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise SystemExit(f"{shlex.join(words)} ended with {process.returncode}: {messages.read()}")
        printed = os.fstat(output.fileno()).st_size
        return Cost(wall, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss, printed)


def fit_errors(data: Sequence[str | Path], split: Path, program: str | None, options: str) -> Row:
    """Of what `tio2nn run` makes of data, on the test set of a split; the residuals as `residuals`."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory) / "project"
        words = [
            *called(program),
            "run",
            *map(str, data),
            "-C",
            str(project),
            "--split",
            str(split),
            "--json",
        ]
        cost, output = run([*words, *shlex.split(options)])
        metrics = json.loads(output)
        with (project / "evaluation/residuals.csv").open(encoding="utf-8", newline="") as handle:
            residuals = list(csv.DictReader(handle))
    energy, forces = metrics["energy"], metrics.get("forces") or {}
    return {
        "energy_mae_meV_per_atom": energy["mae_meV_per_atom"],
        "energy_rmse_meV_per_atom": energy["rmse_meV_per_atom"],
        "force_mae_eV_per_A": forces.get("mae_eV_per_A"),
        "force_rmse_eV_per_A": forces.get("rmse_eV_per_A"),
        "spread_meV_per_atom": (metrics.get("baseline") or {}).get("reference_rmse_meV_per_atom"),
        "cpu_seconds": round(cost.cpu, 2),
        "seconds": round(cost.wall, 2),
        "residuals": residuals,
    }


def write_split(parts: Mapping[str, str], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([["structure", "part"], *parts.items()])
