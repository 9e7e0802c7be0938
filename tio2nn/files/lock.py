"""The locks of a project. A lock ends with the process that holds it; a note beside it names the holder.

One command at a time holds the lock of the project. Jobs of an array share a project: each holds a lock of its own, of
the name of its work, so that no work is done twice at once. A command does not start beside jobs, nor a job beside a
command. Both first take their own lock and then look for those of others, so that at least one sees the other.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError

FILE_NAME = ".tio2nn.lock"
# a file of its own, as on Windows no other process can read the locked file
HOLDER_NAME = f"{FILE_NAME}.json"
_JOBS = ".tio2nn.job-*.lock"

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
        InputError: another process holds the lock, or jobs share the directory, or the lock file is a link or no
            regular file.
    """
    with _held(directory, FILE_NAME, command) as holds:
        if others := jobs(directory):
            raise _refusal(directory, told(others), len(others))
        if holds:
            for left in directory.glob(_JOBS):
                # a job that is just acquiring one notices, see `_held`
                left.unlink(missing_ok=True)
                left.with_name(f"{left.name}.json").unlink(missing_ok=True)
        yield holds


@contextmanager
def joined(directory: Path, command: str, never_beside: str | None = None) -> Iterator[None]:
    """Hold the lock of one job of an array, which shares a directory with other jobs.

    Args:
        directory: an existing directory.
        command: the work, such as "featurize --part 3/20", shown to others as the holder.
        never_beside: with what the work of jobs begins that do the same in another way, such as "train --member".

    Raises:
        InputError: the same job, such a job or a command is at work there, or a lock file is a link or no regular file.
    """
    name = _JOBS.replace("*", re.sub(r"[^a-z0-9]+", "-", command))
    with _held(directory, name, command):
        if (other := holder(directory)) is not None:
            raise _refusal(directory, str(other))
        if never_beside is not None and (
            others := [job for job in jobs(directory) if job.command.startswith(never_beside)]
        ):
            raise _refusal(directory, told(others), len(others))
        yield


@contextmanager
def _held(directory: Path, name: str, command: str) -> Iterator[bool]:
    """Hold one lock, with a note beside it; yields whether the file system has locks."""
    while True:
        descriptor = _open(directory / name, os.O_RDWR | os.O_CREAT)
        if descriptor is None:
            yield False
            return
        note = directory / f"{name}.json"
        try:
            holds = _take(descriptor)
            if holds is False:
                raise _refusal(directory, str(_read(note) or "another command"))
            if not _is_there(directory / name, descriptor):
                continue  # a command has removed the file meanwhile
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
            return
        finally:
            os.close(descriptor)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock of a file for a moment, after those who hold it now; the file stays.

    Raises:
        InputError: the file system has no locks, or the file is a link or no regular file.
    """
    descriptor = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        while (holds := None if descriptor is None else _take(descriptor)) is False:
            time.sleep(_PAUSE)
        if not holds:
            raise InputError(
                "expected a file system with locks, by which workers take turns, got one without",
                file=str(path),
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refusal(directory: Path, others: str, n: int = 1) -> InputError:
    are, end = ("is", "it ends") if n == 1 else ("are", "they end")
    return InputError(
        f"cannot start: {others} {are} running in this project; wait until {end}", file=str(directory)
    )


def told(holders: Sequence[Holder]) -> str:
    """At least one holder for messages: the first, and how many more there are."""
    more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    return f"{holders[0]}{more}"


def holder(directory: Path) -> Holder | None:
    """The command that holds the lock of a directory; None if there is none, or if it cannot be known.

    Never waits or writes, even if the two files are something else.
    """
    return _holder_of(directory / FILE_NAME)


def jobs(directory: Path) -> list[Holder]:
    """The jobs of an array that share a directory, in the order of their names; never waits or writes."""
    places = sorted(directory.glob(_JOBS), key=lambda place: (len(place.name), place.name))
    return [job for place in places if (job := _holder_of(place)) is not None]


def _holder_of(lock: Path) -> Holder | None:
    """The process that holds a lock and has left a note."""
    descriptor = None
    try:
        # usually there is no note, and importing filelock takes a tenth of a second
        about = _read(lock.with_name(f"{lock.name}.json"))
        descriptor = None if about is None else _open(lock, os.O_RDWR)
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
