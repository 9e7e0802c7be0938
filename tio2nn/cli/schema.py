"""tio2nn schema."""

from __future__ import annotations

from typing import Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command


@command
def schema(json: Annotated[bool, typer.Option("--json", help="Print a JSON Schema.")] = False) -> None:
    """List the fields of params.json, with defaults and units."""
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.parameters.schema import describe, json_schema

    if json:
        console.print_json(json_schema(ParameterSet, "Parameter set of tio2nn"))
        return
    rows = [(row.path, row.type, row.default, row.unit, row.meaning) for row in describe(ParameterSet)]
    console.print_table(["field", "type", "default", "unit", "meaning"], rows)
