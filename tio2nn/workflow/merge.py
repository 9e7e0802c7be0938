"""The verb merge: a committee as one network."""

from __future__ import annotations

import os
from pathlib import Path

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.potential.merged import merged
from tio2nn.potential.potential import Potential


def merge(committee: Potential, path: AnyPath, source: AnyPath) -> Potential:
    """Write one network that computes the mean of a committee.

    Args:
        committee: of networks with the same layers.
        path: of the new file.
        source: what the committee was read from, for messages.

    Returns:
        What was written.

    Raises:
        InputError: it is a single network, its networks differ in their layers, or the file exists.
        OSError: it cannot be written.
    """
    path = Path(path)
    made = merged(committee, os.fspath(source))
    if path.exists():
        raise InputError("expected a new file, got one that exists", file=str(path))
    made.save(path)
    return made
