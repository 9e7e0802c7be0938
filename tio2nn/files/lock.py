"""One command at a time in a project: a lock that names its holder and ends with it, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tio2nn.errors import InputError

if sys.platform != "win32":
    import fcntl

FILE_NAME = ".tio2nn.lock"


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
    descriptor = _open(directory / FILE_NAME)
    if descriptor is None:
        yield False
        return
    try:
        holds = _take(descriptor)
        if holds is False:
            holder = _described(os.pread(descriptor, 4096, 0))
            raise InputError(
                f"expected no other command at work in this project, got {holder}; wait for its end",
                file=str(directory),
            )
        about = {"command": command, "process": os.getpid(), "host": socket.gethostname()}
        text = json.dumps({**about, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        with suppress(OSError):  # a full disk: the lock holds even where it does not say whose it is
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)
        yield holds is True
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    if sys.platform == "win32":
        return None  # no such locks there: two commands at once are the user's affair
    # somebody else's file may be read-only: it can be locked all the same, only not say by whom
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            # a link would have us write where it leads, and a pipe without a writer would not open
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InputError("expected a file of tio2nn, got a link", file=str(path)) from None
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
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        return None
    return True


def _described(text: bytes) -> str:
    """Whoever wrote the text; it may just be about to write it."""
    try:
        about = json.loads(text)
        return f"tio2nn {about['command']} (process {about['process']} on {about['host']}, since {about['since']})"
    except (ValueError, KeyError, TypeError):
        return "one that has just begun"
