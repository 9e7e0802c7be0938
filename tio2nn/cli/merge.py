"""tio2nn merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import AnyPotentialOption, ProjectOption
from tio2nn.cli.potential_file import opened, potential_file


@command
def merge(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="New file, a potential.", show_default=False)],
    project: ProjectOption = None,
    potential: AnyPotentialOption = None,
) -> None:
    """Make one network of a committee.

    It predicts exactly the mean of the committee, without a spread. Other programs run it faster than the committee.
    """
    from tio2nn.workflow.merge import merge as verb

    source = potential_file(project, potential)
    committee = opened(source, None)
    made = verb(committee, path, source)
    n = len(committee.members)
    console.say(
        f"wrote one network of {made.nodes} nodes to {path}: the mean of {n} networks, without spread"
    )
