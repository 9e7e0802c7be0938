"""Atomic writes: a file is written to a temporary file, flushed and renamed, so an existing file is complete."""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from tio2nn.errors import naming
from tio2nn.files.paths import AnyPath

# names of the temporary files of `atomic_path`; the eight characters are tempfile's
_UNFINISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part(\.[^.]+)?")


@overload
def atomic_write(path: AnyPath, mode: Literal["w"] = "w") -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(path: AnyPath, mode: Literal["wb"]) -> AbstractContextManager[BinaryIO]: ...
def atomic_write(path: AnyPath, mode: Literal["w", "wb"] = "w") -> AbstractContextManager[IO[Any]]:
    """Open a new file in a `with` block; it replaces `path` only when the block ends without an error.

    A missing folder is created. After an error inside the block, or if the process is killed, `path` is unchanged;
    after an error the temporary file is removed.

    Args:
        path: final path of the file.
        mode: "w" for text (UTF-8, newlines as written) or "wb" for bytes.

    Raises:
        OSError: the folder is not writable, or the disk is full; with the name of the file.
    """
    return _writing(Path(path), mode)


@contextmanager
def _writing(path: Path, mode: Literal["w", "wb"]) -> Iterator[IO[Any]]:
    text = mode == "w"
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding="utf-8" if text else None, newline="" if text else None) as handle,
    ):
        yield handle


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Like `atomic_write`, for a library that opens files itself: yields the path of the temporary file.

    It has the suffix of `path`, from which some libraries choose the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent
        )
    except OSError as error:
        # report the path that the caller knows
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.chmod(_permissions(path))
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(directory: Path) -> Iterator[Path]:
    """Yields a new folder, which becomes `directory` when the block ends without an error.

    An empty folder that is there stays, as somebody may work in it, it may be the root of a file system, or nothing may
    be written beside it: the entries of the new one are moved into it, one after the other.

    Raises:
        OSError: it cannot be made or moved, or is not empty; with the name of `directory`.
    """
    place = Path(os.path.realpath(directory))
    is_there = place.is_dir()
    with naming(directory):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".", suffix=".part", dir=place if is_there else place.parent
        ) as beside:
            new = Path(beside) / "new"
            new.mkdir()
            yield new
            if not is_there:
                new.rename(place)
                return
            if len(list(place.iterdir())) > 1:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(directory))
            for entry in sorted(new.iterdir()):
                entry.rename(place / entry.name)


def write_once(path: Path, text: str) -> None:
    """Write a file unless it is there: of several processes that write at once, on any machine, the first succeeds.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    if path.exists():
        return
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with atomic_write(beside) as handle:
        handle.write(text)
    try:
        os.link(beside, path)  # fails if there is one, over NFS, too
    except FileExistsError:
        pass
    except OSError:
        # a file system without hard links
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove temporary files that killed processes left, for one file or for all files below a directory.

    Call it only if no other process is writing there.
    """
    if path.is_dir():
        found = [beside for beside in path.rglob(".*.part*") if _UNFINISHED.fullmatch(beside.name)]
    else:
        names = ((beside, _UNFINISHED.fullmatch(beside.name)) for beside in path.parent.glob(".*.part*"))
        found = [beside for beside, match in names if match is not None and match[1] == path.name]
    for unfinished in found:
        with suppress(OSError):  # a leftover is harmless
            unfinished.unlink()


def _permissions(path: Path) -> int:
    """The permissions of the replaced file, or those that `open` would give (a temporary file has 0o600)."""
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
