"""tio2nn convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import EnergyUnits, ProjectOption
from tio2nn.wording import counted


@command
def convert(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="New file; of XSF, a new or empty folder.", show_default=False),
    ],
    project: ProjectOption = None,
    form: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="extxyz, db (of ASE), runner (input.data of RuNNer and n2p2), xsf (a folder, for aenet). Default: by "
            "the suffix: .xyz, .db, .data, or none for a folder.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--only",
            metavar="SET",
            help="Structures of one set only: train, validation or test.",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        EnergyUnits, typer.Option("--runner-units", help="Units of input.data of RuNNer.")
    ] = EnergyUnits.ATOMIC,
) -> bool:
    """Write the structures of the project for other programs.

    With labels, split, groups and outlier flags.
    """
    from tio2nn.project.project import Project
    from tio2nn.workflow.convert import convert as verb
    from tio2nn.workflow.convert import known_structure_format

    chosen = known_structure_format(form, path)
    made = verb(Project.find(project), path, chosen, part=only, units=units.value, track=console.track)
    console.rejected(made.rejected)
    if made.n_without_forces:
        n = counted(made.n_without_forces, "structure without forces has", "structures without forces have")
        console.warn(f"{n} zeros in {made.path}, as this format requires; use only the energies of that file")
    if made.n_without_stress:
        n = counted(made.n_without_stress, "stress is", "stresses are")
        console.warn(f"{n} left out, as XSF cannot hold a stress")
    console.say(f"wrote {counted(made.n_structures, 'structure')} to {made.path}")
    return not made.rejected
