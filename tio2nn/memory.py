"""Memory: how much of it this process may use, and training for derivatives."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tio2nn.errors import UsageError

MEMORY_VARIABLE = "TIO2NN_MEMORY"

# the rest is for features, networks and other programs
_OF_MEMORY = 0.5
_GB = 1e9
# where cgroups of version 1 and 2 say how much; a batch system or a container sets them
_LIMITS = {"memory": "sys/fs/cgroup/memory{}/memory.limit_in_bytes", "": "sys/fs/cgroup{}/memory.max"}


def memory_for_derivatives(environ: Mapping[str, str] = os.environ) -> float:
    """Bytes: the number of GB in TIO2NN_MEMORY, else half of the memory.

    Raises:
        UsageError: no positive number.
    """
    text = environ.get(MEMORY_VARIABLE, "")
    if not text:
        return _OF_MEMORY * usable_memory()
    try:
        found = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise UsageError(f"{MEMORY_VARIABLE}: expected a positive number of GB, got {text!r}")
    return _GB * found


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory of this machine, or the limit of this process's cgroup or one that it lies in, if that is less.

    What other programs use at the moment does not count, so that the number is the same tomorrow.

    Args:
        root: of the file system.
    """
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_cgroup_limits(root)])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could take at the moment without another program giving any back; 0 if unknown.

    Args:
        root: of the file system.
    """
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return min(usable_memory(root), 1024 * int(value.split()[0]))
    return 0


def _cgroup_limits(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller not in _LIMITS:
                continue
            parts = path.strip("/").split("/") if path.strip("/") else []
            for n in range(len(parts) + 1):
                own = "".join(f"/{part}" for part in parts[:n])
                text = _text(root / _LIMITS[controller].format(own)).strip()
                if text.isascii() and text.isdigit():  # "max" without a limit
                    yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
