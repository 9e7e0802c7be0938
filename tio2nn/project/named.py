"""A project as callers name it: the project itself or its directory."""

from __future__ import annotations

import os

from tio2nn.files.paths import AnyPath
from tio2nn.project.project import Project


def project_of(named: Project | AnyPath) -> Project:
    """The project itself, or the project in this directory.

    Raises:
        MissingInputError: the directory has no `params.json`; the message names the command that makes it.
        InputError: a pipe, a socket or a device instead of a file.
        UsageError: the name of a file.
        TypeError: neither a project nor a path.
    """
    if isinstance(named, Project):
        return named
    if not isinstance(named, (str, os.PathLike)):
        raise TypeError(f"project: expected a Project or the path of its directory, got {named!r}")
    return Project.find(named)
