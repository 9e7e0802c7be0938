"""What may name a file or a folder."""

from __future__ import annotations

import os
from typing import TypeAlias

AnyPath: TypeAlias = str | os.PathLike[str]
"""A text, a `pathlib.Path`, or a path of another library."""
