"""A file that exists is whole: it is written beside its place, flushed and renamed."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from tio2nn.errors import naming
from tio2nn.files.paths import AnyPath

# as `atomic_path` calls a file that is not whole yet; the eight characters are tempfile's
_UNFINISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part(\.[^.]+)?")


@overload
def atomic_write(path: AnyPath, mode: Literal["w"] = "w") -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(path: AnyPath, mode: Literal["wb"]) -> AbstractContextManager[BinaryIO]: ...
def atomic_write(path: AnyPath, mode: Literal["w", "wb"] = "w") -> AbstractContextManager[IO[Any]]:
    """Open a new file for `with`; it takes its place under `path` only when the block ends well.

    The folder is made if it is missing. An error inside the block, or a killed process, leaves what stood at
    `path` untouched; after an error the temporary file is removed.

    Args:
        path: where the file belongs.
        mode: "w" for text (UTF-8, line ends as written) or "wb" for bytes.

    Raises:
        OSError: the folder cannot be written, or the disk is full; with the file's name.
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
    """As `atomic_write`, for a library that opens its files itself: yields the name of the file to write.

    It has the suffix of `path`, by which some libraries choose a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent
        )
    except OSError as error:
        # nobody asked for the temporary file
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


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes began to write, of a file or of all files below a directory.

    Only for who knows that nobody else is writing there.
    """
    if path.is_dir():
        found = [beside for beside in path.rglob(".*.part*") if _UNFINISHED.fullmatch(beside.name)]
    else:
        names = ((beside, _UNFINISHED.fullmatch(beside.name)) for beside in path.parent.glob(".*.part*"))
        found = [beside for beside, match in names if match is not None and match[1] == path.name]
    for unfinished in found:
        with suppress(OSError):  # it harms nobody
            unfinished.unlink()


def _permissions(path: Path) -> int:
    """Those of the file that is replaced, else those that `open` gives (a temporary file has 0o600)."""
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
