"""What is no file to read: who opens it could wait, or read, without end."""

from __future__ import annotations

import stat
from pathlib import Path


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, a socket or a device; no, where it leads nowhere."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
