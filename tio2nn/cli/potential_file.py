"""The potential that a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tio2nn.potential.potential import Potential


def potential_file(project_option: Path | None, given: Path | None) -> Path:
    """The file given with --potential, else that of the project.

    Raises:
        MissingInputError: the project has none.
    """
    from tio2nn.project.project import Project

    if given is not None:
        return given
    project = Project.find(project_option)
    return project.existing_file(project.potential_file)


def opened(path: Path, units: str | None) -> Potential:
    """The potential in a file, or in an n2p2 folder.

    Args:
        path: of either.
        units: of the folder, as given with --units; by default those that it states.

    Raises:
        UsageError: no such units.
        InputError: it cannot be read.
    """
    from tio2nn.export.read_n2p2 import load_potential
    from tio2nn.export.units import known_units

    return load_potential(path, known_units(units))
