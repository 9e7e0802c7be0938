"""Wall and CPU time, memory and disk of each command on a data set.

Each one runs as a process of its own, with one thread for matrices so that CPU time is work and not waiting; memory is
that of its largest process, disk what it adds to the project and prints. Kernels are compiled before, on a few of the
structures.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks.program import add_program, called, cost_of
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
        warm = Project(Path(temporary) / "warm", program)
        for _ in warm.costs(steps([*train, "--epochs", "2"]), {DATA: [str(few)]}):
            pass  # compiles
        project = Project(Path(temporary) / "project", program)
        for row in project.costs(steps(train), {DATA: arguments.data}):
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


class Project(NamedTuple):
    """A project that does not exist yet, and the program that works on it."""

    directory: Path
    program: str | None = None
    init: Sequence[str] = ()  # options of init

    def costs(self, commands: Sequence[Sequence[str]], files: Mapping[str, Sequence[str]]) -> Iterator[Row]:
        """Of each command in turn; names in capitals, such as `DATA`, stand for files."""
        cost_of([*called(self.program), "init", str(self.directory), *self.init])
        before = self.size()
        for verb, *others in commands:
            words = [part for word in others for part in files.get(word, [word])]
            cost = cost_of([*called(self.program), verb, "-C", str(self.directory), *words])
            after = self.size()
            yield {
                "command": " ".join([verb, *others]),
                "seconds": round(cost.wall, 2),
                "cpu_seconds": round(cost.cpu, 2),
                "memory_MB": round(cost.memory / 1e6),
                "disk_MB": round((after - before + cost.printed) / 1e6, 3),
            }
            before = after

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())
