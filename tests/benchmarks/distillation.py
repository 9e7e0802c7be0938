"""What `tio2nn train --distill` makes of a committee, in errors of one network over those of the committee.

The committee is trained first; then one network of its kind learns from it, with each of `--students` (options of
`train` beside `--distill`), and one on the labels alone. All are judged on the test set of the same split, which no
part of a fit has seen, displaced or not.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.program import ERRORS, add_program, called, run
from benchmarks.record import Row

COMMITTEE = "committee"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--split", type=Path, metavar="FILE", help="the part of each structure")
    parser.add_argument("--options", default="", help="of tio2nn run, for the committee, in one word")
    parser.add_argument("--members", type=int, default=4, metavar="N")
    parser.add_argument("--students", action="append", help="options in one word; may be given again")
    parser.add_argument(
        "--alone", default="", help="options of tio2nn train for the network on the labels alone"
    )
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        committee = Path(directory) / "committee"
        split = [] if arguments.split is None else ["--split", str(arguments.split)]
        words = ["run", *arguments.sources, "-C", str(committee), *split, *shlex.split(arguments.options)]
        cost, _ = run([*called(arguments.program), *words, "--members", str(arguments.members)])
        yield row(arguments, committee, COMMITTEE, cost.cpu)
        teacher = Path(directory) / "teacher.npz"
        shutil.copyfile(committee / "model/potential.npz", teacher)
        fits = {"one on the labels alone": f"--members 1 {arguments.alone}"}
        fits |= {
            f"--distill {own}".rstrip(): f"--distill {teacher} {own}" for own in arguments.students or [""]
        }
        for name, options in fits.items():
            cost, _ = run([*called(arguments.program), "train", "-C", str(committee), *shlex.split(options)])
            yield row(arguments, committee, name, cost.cpu)


def row(arguments: argparse.Namespace, project: Path, fit: str, cpu: float) -> Row:
    _, output = run([*called(arguments.program), "evaluate", "-C", str(project), "--json"])
    found = json.loads(output)
    errors = {**found["energy"], **(found.get("forces") or {})}
    values = (errors.get(key.replace("energy_", "").replace("force_", "")) for key in ERRORS)
    return {
        "fit": fit,
        "tested": found["n_structures"],
        **dict(zip(ERRORS, values, strict=True)),
        "cpu_seconds": round(cpu, 1),
    }


def summarize(rows: Sequence[Row]) -> list[Row]:
    """With the errors over those of the committee."""
    committee = rows[0]
    table = []
    for own in rows:
        ratios = {f"{key}_ratio": own[key] and own[key] / committee[key] for key in ERRORS}
        table.append({**own, **ratios})
    return table
