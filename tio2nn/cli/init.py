"""tio2nn init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tio2nn.cli.app import command
from tio2nn.cli.options import ElementsOption, ForOption, PresetOption, element_symbols


@command
def init(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Project directory. Default: the current directory.", show_default=False
        ),
    ] = Path(),
    preset: PresetOption = None,
    elements: ElementsOption = None,
    target: ForOption = None,
) -> None:
    """Create a project: a directory with a params.json."""
    from tio2nn.cli import console
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.targets import known_target
    from tio2nn.workflow.init import init as make

    project, parameters = make(
        directory, preset, element_symbols(elements), None if target is None else known_target(target)
    )
    rest = ""
    if isinstance(parameters, Draft):
        rest = (
            f'; next: "tio2nn extract{project.as_option()} SOURCE...", which chooses symmetry functions for the '
            "structures"
        )
    console.say(f"created {project.parameters_file}{rest}")
