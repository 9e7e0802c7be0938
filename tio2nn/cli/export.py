"""tio2nn export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import AnyPotentialOption, ProjectOption
from tio2nn.cli.potential_file import opened, potential_file
from tio2nn.wording import counted


@command
def export(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder to write: new, empty, or an earlier export.", show_default=False
        ),
    ],
    project: ProjectOption = None,
    potential: AnyPotentialOption = None,
    form: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="n2p2 (also for LAMMPS and CP2K) or aenet. Default: that of the program the potential is for.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--units",
            metavar="NAME",
            help="metal (Å, eV) or atomic (Bohr, Hartree), for CP2K. Default: as in the folder, else the program.",
            show_default=False,
        ),
    ] = None,
    from_units: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from-units",
            metavar="NAME",
            help="Units of the n2p2 folder given with --potential, if it does not state them: metal or atomic.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse if the other program would give other results.")
    ] = False,
) -> None:
    """Write the potential as files that other programs read."""
    from tio2nn.export.units import known_units
    from tio2nn.project.project import Project
    from tio2nn.workflow.export import export as verb
    from tio2nn.workflow.export import known_format

    chosen, chosen_units = known_format(form), known_units(units)
    own_units = known_units(from_units, "--from-units")
    source = potential_file(project, potential)
    loaded = opened(source, own_units)
    train = Project.find(project).command("train") if potential is None else "tio2nn train"
    made = verb(loaded, directory, chosen, units=chosen_units, strict=strict, train=train, source=source)
    for warning in made.warnings:
        console.warn(warning)
    for remark in made.remarks:
        console.say(remark)
    console.say(
        f"wrote {counted(made.n_members, 'network')} to {made.directory}; how to use it is in {made.readme}"
    )
