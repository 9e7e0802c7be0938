"""The type of paths that functions accept."""

from __future__ import annotations

import os
from typing import TypeAlias

AnyPath: TypeAlias = str | os.PathLike[str]
"""A string, a `pathlib.Path`, or any other `os.PathLike`."""
