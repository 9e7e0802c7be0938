"""Files of a project on machines that do not see its folder; all of this runs on the workers."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

Stamp = tuple[int, int]
"""Size in bytes, and time of change in ns."""

_KEPT_SECONDS = 7 * 86400.0  # files of a command that could not remove them


def stamp_of(path: Path) -> Stamp | None:
    """Size and time of change, ns; None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _place(worker: Any, command: str) -> Path:
    return Path(worker.local_directory).parent / f"tio2nn-{command}"


def stand_in(worker: Any, command: str) -> Path:
    """The folder that stands in for that of a command; the workers of one machine share it."""
    folder = _place(worker, command)
    if not folder.exists():
        for other in folder.parent.glob("tio2nn-*"):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def has_file(command: str, name: str, stamp: Stamp, dask_worker: Any) -> bool:
    """Whether a file has been brought to this machine."""
    return is_that(_place(dask_worker, command) / name, stamp)


def is_that(path: Path, stamp: Stamp) -> bool:
    """Whether a file has this size and this time of change, s: not every file system keeps fractions."""
    found = stamp_of(path)
    return found is not None and (found[0], found[1] // 10**9) == stamp


def take_piece(command: str, name: str, piece: tuple[int, bytes], stamp: Stamp, dask_worker: Any) -> None:
    """Write a piece of a file, and, with the last one, give the file its name."""
    path = stand_in(dask_worker, command) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    offset, content = piece
    part = path.with_name(f"{path.name}.part")
    with part.open("r+b" if offset else "wb") as handle:
        handle.seek(offset)
        handle.write(content)
    if offset + len(content) == stamp[0]:
        os.utime(part, (stamp[1], stamp[1]))
        part.replace(path)


def changed_files(
    command: str, stamps: dict[str, Stamp | None], dask_worker: Any
) -> dict[str, tuple[Stamp, bytes]]:
    """Stamp and content of the files on this machine whose stamps are other ones."""
    folder = _place(dask_worker, command)
    found = {}
    for name, known in stamps.items():
        stamp = stamp_of(folder / name)
        if stamp not in (None, known):
            with suppress(OSError):
                found[name] = (stamp, (folder / name).read_bytes())
    return found


def remove_files(command: str, dask_worker: Any) -> None:
    """Remove what was brought to this machine for a command."""
    shutil.rmtree(_place(dask_worker, command), ignore_errors=True)
