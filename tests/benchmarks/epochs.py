"""CPU time of an epoch of `tio2nn train`, for networks alone and in company.

PROJECT has features, and derivatives for forces; it is trained again. The cost of an epoch is the difference between
trainings of many and of few epochs, so that reading, whitening and starting do not count. `--other COMMAND PROJECT`
names another version and a project of its own; the versions take turns. `--devices cpu gpu` makes the table of both.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.program import add_program, called, run
from benchmarks.record import Row

from tio2nn.parallel.devices import DEVICES

FEW, MANY = 2, 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT", type=Path)
    parser.add_argument("--other", nargs=2, metavar=("COMMAND", "PROJECT"))
    parser.add_argument("--members", type=int, nargs="*", default=[1, 4], metavar="N", help="(default: 1 4)")
    parser.add_argument("--devices", nargs="+", default=["cpu"], choices=DEVICES, help="(default: cpu)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--options", default="--recipe forces", help="of tio2nn train, in one word")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """One row for each version and number of members in each repeat."""
    versions = {"here": (called(arguments.program), arguments.project)}
    if arguments.other:
        versions["there"] = (shlex.split(arguments.other[0]), Path(arguments.other[1]))
    for repeat in range(arguments.repeats):
        for members in arguments.members:
            for device, (name, (program, project)) in product(arguments.devices, versions.items()):
                words = [*program, "train", "-C", str(project), *shlex.split(arguments.options)]
                if device != "cpu":
                    words += ["--device", device]
                few, many = (
                    run([*words, "--members", str(members), "--epochs", str(epochs)])[0]
                    for epochs in (FEW, MANY)
                )
                if device != "cpu" and (used := computed_on(project)) != device:
                    raise SystemExit(f"{project}: trained on the {used}, which is not in the table")
                yield {
                    "version": name,
                    "device": device,
                    "members": members,
                    "repeat": repeat,
                    "cpu_seconds": round((many.cpu - few.cpu) / (MANY - FEW), 3),
                    "seconds": round((many.wall - few.wall) / (MANY - FEW), 3),
                    "memory_MB": round(many.memory / 1e6),
                }


def computed_on(project: Path) -> str:
    """The device of the last training of a project."""
    device: str = json.loads((project / "model" / "metrics.json").read_text(encoding="utf-8"))["device"]
    return device


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Medians of the repeats."""
    table: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        table.setdefault((row["members"], row["version"], row["device"]), []).append(row)
    return [
        {"members": members, "version": version, "device": device}
        | {
            name: statistics.median(row[name] for row in own)
            for name in ("cpu_seconds", "seconds", "memory_MB")
        }
        for (members, version, device), own in table.items()
    ]
