"""The potential that a command is about."""

from __future__ import annotations

from pathlib import Path


def potential_file(project_option: Path | None, given: Path | None) -> Path:
    """The file given with --potential, else that of the project.

    Raises:
        MissingInputError: the project has none.
    """
    from tio2nn.project.project import Project

    if given is not None:
        return given
    project = Project.find(project_option)
    return project.require(project.potential_file)
