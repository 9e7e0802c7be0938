"""Memory: how much of it this process may use, and training for derivatives."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import UsageError

MEMORY_VARIABLE = "TIO2NN_MEMORY"

# the rest is for features, networks and other programs
_OF_MEMORY = 0.5
_GB = 1e9


class _Cgroup(NamedTuple):
    """Where a cgroup says how much memory there is; a batch system or a container sets the limit.

    Attributes:
        folder: of the cgroup.
        limit, used: names of files.
        files: what `memory.stat` calls the file cache, which is given back when it is needed.
    """

    folder: str
    limit: str
    used: str
    files: str


# of version 1 and 2
_CGROUPS = {
    "memory": _Cgroup(
        "sys/fs/cgroup/memory{}", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"
    ),
    "": _Cgroup("sys/fs/cgroup{}", "memory.max", "memory.current", "file"),
}


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
    limits = (limit for limit, _ in _cgroup_limits(root))
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could take at the moment without another program giving any back; 0 if unknown.

    Args:
        root: of the file system.
    """
    available = _table(root / "proc/meminfo").get("MemAvailable:", 0) * 1024
    return max(0, min([available, *(limit - used for limit, used in _cgroup_limits(root))]))


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit of each cgroup that this process lies in, and what is in use without the file cache; bytes."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller not in _CGROUPS:
                continue
            parts = path.strip("/").split("/") if path.strip("/") else []
            for n in range(len(parts) + 1):
                own = "".join(f"/{part}" for part in parts[:n])
                folder, limit, used, files = _CGROUPS[controller]
                here = root / folder.format(own)
                text = _text(here / limit).strip()
                if text.isascii() and text.isdigit():  # "max" without a limit
                    in_use = int(_text(here / used).strip() or 0)
                    yield int(text), in_use - _table(here / "memory.stat").get(files, 0)


def _table(path: Path) -> dict[str, int]:
    """The first number of each line, by the word before it; nothing of a file that cannot be read."""
    return {words[0]: int(words[1]) for line in _text(path).splitlines() if len(words := line.split()) > 1}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
