"""tio2nn select."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    JsonOption,
    PotentialOption,
    ProjectOption,
    RunnerUnitsOption,
    SourcesArgument,
    ThreadsOption,
)
from tio2nn.cli.predicted import all_names
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.errors import InputError
    from tio2nn.workflow.select import SelectSummary


@command
def select(
    pool: SourcesArgument,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, metavar="N", help="How many to choose.", show_default=False)
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="DIR",
            help="New or empty folder for one file per structure and the table chosen.csv.",
            show_default=False,
        ),
    ],
    project: ProjectOption = None,
    potential: PotentialOption = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="MEASURE",
            help="coverage of the pool, distance from labeled structures, spread of the committee, or both (distance "
            "times spread).",
        ),
    ] = "coverage",
    form: Annotated[
        str,
        typer.Option("--format", "-f", metavar="NAME", help="Format of the files: extxyz, xsf or poscar."),
    ] = "extxyz",
    known: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--known",
            metavar="SOURCE",
            help="Structures that are labeled or being computed, besides those of the project; repeatable.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    runner_units: RunnerUnitsOption = None,
    json: JsonOption = False,
) -> bool:
    """Choose what to compute next from a pool without labels.

    Avoids duplicates, and gives each composition its share.
    """
    from tio2nn.io.labels import ReadOptions
    from tio2nn.project.project import Project
    from tio2nn.workflow.select import SelectSettings
    from tio2nn.workflow.select import select as verb

    sources = [
        name for source in pool for name in (all_names(sys.stdin) if source == "-" else [source])
    ]  # a list on stdin cannot be read twice
    its_own = potential is not None and project is None and bool(known)
    options = ReadOptions(runner_units=None if runner_units is None else runner_units.value)
    settings = SelectSettings(count, by, form, known or (), options, threads)  # type: ignore[arg-type]  # it checks
    said: Counter[str] = Counter()

    def on_error(error: InputError) -> None:
        # every file is named, but of a long trajectory only the first frames
        said[error.file or ""] += 1
        if said[error.file or ""] <= console.SHOWN:
            console.error(str(error))

    with console.compile_notice("the symmetry functions"):
        made = verb(
            None if its_own else Project.find(project),
            sources,
            to,
            settings,
            potential_file=potential,
            on_error=on_error,
            track=console.track,
        )
    for file, n in said.items():
        if n > console.SHOWN:
            console.error(f"{file}: ... and {counted(n - console.SHOWN, 'more structure')}")
    _report(made, count)
    if json:
        console.print_json(
            {
                "by": made.by,
                "pool": made.n_pool,
                "like_known": made.n_known,
                "like_others": made.n_alike,
                "rejected": made.n_rejected,
                "radius": made.radius,
                "chosen": list(made.rows),
            }
        )
    return not made.n_rejected


def _report(made: SelectSummary, count: int) -> None:
    """Say what was chosen, and from what."""
    measure = {"both": "distance and spread"}.get(made.by, made.by)
    console.say(
        f"pool of {counted(made.n_pool, 'structure')}: {made.n_known} duplicate one of the "
        f"{made.n_training} labeled ones, {made.n_alike} another one of the pool"
    )
    if len(made.rows) < count:
        but = " but duplicates" if made.n_known or made.n_alike else ""
        console.warn(f"only {counted(len(made.rows), 'structure')} of {count}: the pool has no more{but}")
    columns = ["rank", "source", "composition", "distance", "nearest", "spread eV/Å"]
    rows = [
        [
            row["rank"],
            row["source"],
            row["composition"],
            f"{row['distance']:.3f}",
            row["nearest"],
            f"{row['spread_eV_per_A']:.3f}" if row["spread_eV_per_A"] != "" else "-",
        ]
        for row in made.rows
    ]
    console.table(f"{counted(len(rows), 'structure')} chosen by {measure}", columns, rows[: console.SHOWN])
    console.say(
        f"wrote {counted(len(rows), 'structure')} and chosen.csv to {made.directory}; every structure of the pool is "
        f"now within {made.radius:.3g} of a labeled or chosen one (1: distance between two random labeled ones)"
    )
