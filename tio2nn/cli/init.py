"""tio2nn init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tio2nn.cli.app import command
from tio2nn.cli.options import ElementsOption, ForOption, PresetOption, UnitsOption, element_symbols


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
    setup: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take the symmetry functions of a potential.npz, an input.nn (RuNNer, n2p2), or the .stp (aenet) of "
            "each element.",
            show_default=False,
        ),
    ] = None,
    units: UnitsOption = None,
) -> None:
    """Create a project: a directory with a params.json."""
    from tio2nn.cli import console
    from tio2nn.errors import UsageError
    from tio2nn.export.units import known_units
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.targets import known_target
    from tio2nn.workflow.init import init as make
    from tio2nn.workflow.init import setup_parameters

    read = None
    if units is not None and not setup:
        raise UsageError("--units: expected --from as well, got none")
    if setup:
        if preset is not None or elements is not None:
            raise UsageError("expected either --from or --preset and --elements, got both")
        read = setup_parameters(setup, known_units(units))
    project, parameters = make(
        directory, preset, element_symbols(elements), None if target is None else known_target(target), read
    )
    rest = ""
    if isinstance(parameters, Draft):
        rest = (
            f'; next: "tio2nn extract{project.as_option()} SOURCE...", which chooses symmetry functions for the '
            "structures"
        )
    console.say(f"created {project.parameters_file}{rest}")
