"""Wall and CPU time and memory of each command on a data set.

Each one runs as a process of its own, with one thread for matrices so that CPU time is work and not waiting; memory is
that of its largest process. Kernels are compiled before, on a few of the structures.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks.program import add_program, called, run
from benchmarks.record import Row

from tio2nn.io.read import read_structures
from tio2nn.io.xsf.file import write_xsf
from tio2nn.structures.structure import Structure

DATA = "DATA"
N_WARM = 60  # structures that kernels are compiled for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--train", default="", metavar="OPTIONS", help="of tio2nn train, in one word")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    program, train = arguments.program, shlex.split(arguments.train)
    structures = [s for s in read_structures(arguments.data, errors="yield") if isinstance(s, Structure)]
    about: Row = {"structures": len(structures), "atoms": sum(s.n_atoms for s in structures)}
    with tempfile.TemporaryDirectory() as temporary:
        few = Path(temporary) / "few"
        few.mkdir()
        for number, structure in enumerate(islice(structures, 0, None, 1 + len(structures) // N_WARM)):
            (few / f"{number}.xsf").write_text(write_xsf(structure), encoding="utf-8")
        for _ in costs(Path(temporary) / "warm", [str(few)], steps([*train, "--epochs", "2"]), program):
            pass  # compiles
        for row in costs(Path(temporary) / "project", arguments.data, steps(train), program):
            yield about | row


def steps(train: Sequence[str]) -> list[list[str]]:
    return [
        ["extract", DATA],
        ["featurize"],
        ["train", *train],
        ["predict", DATA],
        ["evaluate"],
        ["status"],
    ]


def costs(
    project: Path, data: Sequence[str], commands: Sequence[Sequence[str]], program: str | None = None
) -> Iterator[Row]:
    """Of each command in turn, on a project that does not exist yet; `DATA` in one stands for the data."""
    run([*called(program), "init", str(project)])
    for verb, *others in commands:
        words = [part for word in others for part in (data if word == DATA else [word])]
        cost, _ = run([*called(program), verb, "-C", str(project), *words])
        yield {
            "command": " ".join([verb, *others]),
            "seconds": round(cost.wall, 2),
            "cpu_seconds": round(cost.cpu, 2),
            "memory_MB": round(cost.memory / 1e6),
        }
