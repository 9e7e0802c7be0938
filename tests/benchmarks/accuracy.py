"""Errors of `tio2nn run DATA --split FILE` with one recipe or another.

Each `--options` is a fit of its own: `--options "--recipe forces" --options "--recipe record"`. FILE says which
structures are held out for the test; holdout-600.csv in this folder is a split of the TiO2 set. CPU time is that of the
whole run, from reading to evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.program import add_program, fit_errors
from benchmarks.record import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument(
        "--split", type=Path, required=True, metavar="FILE", help="the part of each structure"
    )
    parser.add_argument("--options", action="append", help="of tio2nn run, in one word; may be given again")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    for options in arguments.options or [""]:
        found = fit_errors(arguments.data, arguments.split, arguments.program, options)
        tested = len(found.pop("residuals"))
        yield {"options": options, "held_out": tested, **found}
