"""Pipes, sockets and devices: opening or reading one could block forever."""

from __future__ import annotations

import stat
from pathlib import Path


def is_special(path: Path) -> bool:
    """Whether a path is, or links to, a pipe, a socket or a device; False if it does not exist."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
