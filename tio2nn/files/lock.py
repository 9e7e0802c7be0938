"""The project lock: one command at a time. The lock ends with the process that holds it; a note names the holder."""

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
# a file of its own, as on Windows nobody else can read the locked file
HOLDER_NAME = ".tio2nn.lock.json"

# a busy lock may only be held by a process that checks it, for microseconds
_ATTEMPTS = 3
_PAUSE = 0.02  # s
# ENOLCK and the like: a file system without locks; EBADF: NFS does not lock a file opened read-only
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
    """Hold the lock of a directory; the operating system releases it if the process is killed.

    The lock file stays: removing it could break a lock that another process is just acquiring. A file system without
    locks, or mounted read-only, is no error here; writing to it will raise one.

    Args:
        directory: an existing directory.
        command: name of the command, shown to others as the holder.

    Yields:
        Whether the lock is held and keeps others out.

    Raises:
        InputError: another process holds the lock, or the lock file is a link or no regular file.
    """
    descriptor = _open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT)
    if descriptor is None:
        yield False
        return
    note = directory / HOLDER_NAME
    try:
        holds = _take(descriptor)
        if holds is False:
            other = _read(note) or "another command"
            raise InputError(
                f"cannot start: {other} is running in this project; wait until it ends",
                file=str(directory),
            )
        about = Holder(command, os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
        with suppress(OSError):  # a full disk: the lock holds even without the note
            note.unlink(missing_ok=True)  # left by a killed process
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
    """The command that holds the lock of a directory; None if there is none, or if it cannot be known.

    Never waits or writes, whatever the two files are.
    """
    descriptor = None
    try:
        # usually there is no note, and importing filelock takes a tenth of a second
        about = _read(directory / HOLDER_NAME)
        descriptor = None if about is None else _open(directory / FILE_NAME, os.O_RDWR)
        # a killed process leaves its note, but not its lock
        return about if descriptor is not None and _take(descriptor) is False else None
    except (InputError, OSError):
        return None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path, flags: int) -> int | None:
    # do not write through a link, nor block on a pipe without a writer; Windows has neither flag
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    is_link = InputError("refusing to write through a symbolic link", file=str(path))
    if not safely and path.is_symlink():
        raise is_link
    # a read-only file of another user can still be locked
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
            raise InputError("expected a regular file, got another kind", file=str(path))
    return None


def _take(descriptor: int) -> bool | None:
    """Whether the lock was acquired; None if the file system has no locks."""
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
    """The content of a note; None without a complete one."""
    try:
        if (descriptor := _open(note, os.O_RDONLY)) is None:
            return None
        with os.fdopen(descriptor, "rb") as handle:
            about = json.loads(handle.read(4096))
        return Holder(str(about["command"]), int(about["process"]), str(about["host"]), str(about["since"]))
    except (InputError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
