"""One command at a time in a project: a lock that ends with its holder, however that ends, and a note of who it is."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError

FILE_NAME = ".tio2nn.lock"
# beside the lock, which on Windows nobody else can read
HOLDER_NAME = ".tio2nn.lock.json"

# a lock that is not free may only be being looked at, which takes microseconds
_ATTEMPTS = 3
_PAUSE = 0.02  # s
# ENOLCK and its like: a file system without locks; EBADF: NFS, which locks no file that can only be read
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


class Holder(NamedTuple):
    """The command that holds a lock."""

    command: str  # "train"
    process: int
    host: str
    since: str  # local time there, "2026-01-31 12:00:00"

    def __str__(self) -> str:
        return f"tio2nn {self.command} (process {self.process} on {self.host}, since {self.since})"


@contextmanager
def locked(directory: Path, command: str) -> Iterator[bool]:
    """Hold a directory's lock; the operating system takes it back from a process that is killed.

    The file stays: who removed it could take away the lock that somebody else is just getting. A file system
    without locks, or one that is mounted read-only, is no reason to refuse; what cannot be written says so itself.

    Args:
        directory: that exists.
        command: what others are told that holds it.

    Yields:
        Whether there is a lock that keeps others out.

    Raises:
        InputError: another process holds it, or a link or no regular file stands in its place.
    """
    descriptor = _open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT)
    if descriptor is None:
        yield False
        return
    note = directory / HOLDER_NAME
    try:
        holds = _take(descriptor)
        if holds is False:
            other = _read(note) or "one that has just begun"
            raise InputError(
                f"expected no other command at work in this project, got {other}; wait for its end",
                file=str(directory),
            )
        about = Holder(command, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
        with suppress(OSError):  # a full disk: the lock holds even where nothing says whose it is
            note.unlink(missing_ok=True)  # of a process that was killed
            with note.open("x", encoding="utf-8") as handle:  # never through a link
                json.dump(about._asdict(), handle)
        try:
            yield holds is True
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def holder(directory: Path) -> Holder | None:
    """The command that holds a directory's lock; None where nobody does, or where that cannot be known.

    Neither waits nor writes, also not where something else stands in the place of the files.
    """
    descriptor = None
    try:
        # mostly there is no note, and importing filelock takes a tenth of a second
        about = _read(directory / HOLDER_NAME)
        descriptor = None if about is None else _open(directory / FILE_NAME, os.O_RDWR)
        # a process that was killed leaves its note, but not its lock
        return about if descriptor is not None and _take(descriptor) is False else None
    except (InputError, OSError):
        return None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path, flags: int) -> int | None:
    # a link would have us write where it leads, and a pipe without a writer would not open; Windows knows neither flag
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    is_link = InputError("expected a file of tio2nn, got a link", file=str(path))
    if not safely and path.is_symlink():
        raise is_link
    # somebody else's file may be read-only: it can be locked all the same
    for attempt in (flags, os.O_RDONLY):
        try:
            descriptor = os.open(path, attempt | safely, 0o666)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise is_link from None
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
        else:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise InputError("expected a file of tio2nn, got something else", file=str(path))
    return None


def _take(descriptor: int) -> bool | None:
    """Whether the lock was free; None if there are no locks."""
    from filelock import lock_descriptor

    for attempt in range(_ATTEMPTS):
        try:
            if lock_descriptor(descriptor, blocking=False):
                return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None
        if attempt < _ATTEMPTS - 1:
            time.sleep(_PAUSE)
    return False


def _read(note: Path) -> Holder | None:
    """What a note says; None where there is none, or none that is complete."""
    try:
        if (descriptor := _open(note, os.O_RDONLY)) is None:
            return None
        with os.fdopen(descriptor, "rb") as handle:
            about = json.loads(handle.read(4096))
        return Holder(str(about["command"]), int(about["process"]), str(about["host"]), str(about["since"]))
    except (InputError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
