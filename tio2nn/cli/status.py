"""tio2nn status."""

from __future__ import annotations

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import JsonOption, ProjectOption


@command
def status(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Show what is there, what is stale, and what to run next."""
    from tio2nn.project.project import Project
    from tio2nn.workflow.status import status as look

    found = look(Project.find(project))
    if json:
        console.print_json(found.as_dict())
        return
    console.print_table(["part", "state", "what"], found.rows())
    console.print_line(found.advice)
