"""Finds and reads structure files: files, folders, patterns, archives, lists of names.

Nothing is unpacked to disk. Links inside archives are not followed, and sizes are limited, so an untrusted archive
cannot fill the disk or the memory.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import posixpath
import stat
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.io.other_formats import is_read_by_ase
from tio2nn.io.source_names import (
    STRUCTURE_SUFFIXES,
    names_of,
    places_of,
    printable,
    structure_suffix,
)
from tio2nn.structures.names import ARCHIVE_SUFFIXES, MEMBER_SEPARATOR, natural_key

# an XSF file of this size has 3 million atoms, and parsing takes 20 times its size in memory
_LARGEST_FILE = 256 * 2**20
# structure files compress to a tenth, rarely to less than a hundredth
_LARGEST_EXPANSION = 200
_ALWAYS_ALLOWED = 2**30  # bytes; any archive may expand to this size
_TAR_BLOCK = 512

# by magic number, as names are not always right
_EXPANDERS: dict[bytes, Callable[[BinaryIO], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda compressed: gzip.GzipFile(fileobj=compressed),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_LONGEST_MAGIC = 6
# bytes; expanding 8 KB at a time between other work takes 7,146 structures 1 s longer
_EXPANDED_AT_ONCE = 2**20

# reading anything but a regular file could block, never end, or lead to files that nobody named
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MEMBER_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}

_UNREADABLE = (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError)


class SourceFile(NamedTuple):
    """The content of one structure file.

    Attributes:
        file: the path as the user would find it, `archive.tar:member` inside an archive; printable.
        suffix: in lower case, without `.gz`.
        data: the uncompressed content.
    """

    file: str
    suffix: str
    data: bytes


def iter_source_files(
    sources: AnyPath | Iterable[AnyPath], stdin: Iterable[str] | None = None, places: range | None = None
) -> Iterator[SourceFile | InputError]:
    """Every structure file of the sources, once; an error for each file that cannot be read.

    Args:
        sources: files, folders (searched recursively, hidden files left out), tar archives, patterns with
            `*`, `?`, `[...]` and `**`, or "-" to read such names from `stdin`, one per line; one or several.
        stdin: the lines for "-"; by default the standard input.
        places: places in the order of all files, from 0; the others are not read. None for all.
    """
    if isinstance(stdin, str):
        raise TypeError("stdin: expected lines, got a single string")
    return _files_of(names_of(sources), stdin, _Walk(places))


class Listing(NamedTuple):
    """The structure files of sources without their content.

    Attributes:
        n_files: their number.
        digest: of their names in their order.
    """

    n_files: int
    digest: str


def list_source_files(sources: AnyPath | Iterable[AnyPath], stdin: Iterable[str] | None = None) -> Listing:
    """Count the structure files of the sources without reading them; arguments as for `iter_source_files`."""
    walk = _Walk(range(0))
    for _ in _files_of(names_of(sources), stdin, walk):
        pass
    return Listing(walk.place, walk.digest.hexdigest())


class _Walk:
    """The way through sources: what was seen, and whose turn it is.

    Args:
        places: of the files to read; None for all.
    """

    def __init__(self, places: range | None) -> None:
        self._places = places
        self.seen: set[str] = set()
        self.place = 0
        self.digest = hashlib.blake2b(digest_size=12)

    def takes(self, file: str) -> bool:
        """Whether the next file, or the error in its place, is wanted."""
        place, self.place = self.place, self.place + 1
        if self._places is None:
            return True
        self.digest.update(f"{file}\n".encode("utf-8", "surrogateescape"))
        return place in self._places

    def errors(self, *errors: InputError) -> Iterator[InputError]:
        """The errors that are wanted."""
        return (error for error in errors if self.takes(error.file or ""))


def _files_of(
    names: Iterable[str], stdin: Iterable[str] | None, walk: _Walk
) -> Iterator[SourceFile | InputError]:
    for name in names:
        if name == "-":
            yield from _from_list(sys.stdin if stdin is None else stdin, walk)
        else:
            yield from _from_source(name, walk)


def _from_list(lines: Iterable[str], walk: _Walk) -> Iterator[SourceFile | InputError]:
    n_names = 0
    try:
        for line in lines:
            if name := line.rstrip("\r\n"):
                n_names += 1
                yield from _from_source(name, walk)
    except UnicodeDecodeError:
        yield from walk.errors(InputError("expected file names in UTF-8, got another encoding", file="-"))
    if n_names == 0:
        yield from walk.errors(InputError("expected file names, one per line, got none", file="-"))


def _from_source(source: str, walk: _Walk) -> Iterator[SourceFile | InputError]:
    places = places_of(source)
    for place in places:
        yield from _from_path(place, walk)
    if not places:
        nothing = "no file matches this pattern" if has_magic(source) else "no such file or folder"
        yield from walk.errors(InputError(nothing, file=printable(source) or '""'))


def _from_path(path: Path, walk: _Walk) -> Iterator[SourceFile | InputError]:
    name = path.name.lower()
    if path.is_dir():
        yield from _from_folder(path, walk)
    elif name.endswith(ARCHIVE_SUFFIXES):
        if _is_new(path, walk):
            yield from _from_archive(path, walk)
    elif (suffix := structure_suffix(name)) is not None:
        yield from _from_file(path, suffix, walk)
    else:
        expected = ", ".join(STRUCTURE_SUFFIXES)
        got = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        advice = "; ASE converts it to extended XYZ" if is_read_by_ase(path.name) else ""
        refused = f"expected a structure file ({expected}, also with .gz) or a tar archive, got {got}{advice}"
        yield from walk.errors(InputError(refused, file=printable(str(path))))


def _from_folder(folder: Path, walk: _Walk) -> Iterator[SourceFile | InputError]:
    problems: list[OSError] = []
    paths = []
    for parent, folders, files in os.walk(folder, onerror=problems.append):
        # hidden files belong to programs; `._name.xsf` is metadata of macOS, no structure
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    n_files = 0
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        suffix = structure_suffix(path.name.lower())
        if suffix is not None:
            n_files += 1
            yield from _from_file(path, suffix, walk)
    for problem in problems:
        reason = f"cannot read the folder: {problem.strerror}"
        yield from walk.errors(InputError(reason, file=printable(str(problem.filename))))
    if n_files == 0 and not problems:
        yield from walk.errors(_no_structure_files("folder", str(folder)))


def _from_file(path: Path, suffix: str, walk: _Walk) -> Iterator[SourceFile | InputError]:
    file = printable(str(path))
    if not _is_new(path, walk) or not walk.takes(file):
        return
    try:
        with _open_regular(path, file) as stream:
            data = _read_whole(stream, path.name, file)
    except InputError as error:
        yield error
    except _UNREADABLE as error:
        missing = isinstance(error, FileNotFoundError)
        yield InputError("no such file" if missing else f"cannot read the file: {_reason(error)}", file=file)
    else:
        yield SourceFile(file, suffix, data)


def _open_regular(path: Path, file: str) -> BinaryIO:
    """Open a regular file, or a link to one; opening anything else could block."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _not_regular(_KINDS.get(stat.S_IFMT(mode), "something else"), file)
    return path.open("rb")


def _from_archive(path: Path, walk: _Walk) -> Iterator[SourceFile | InputError]:
    archive = printable(str(path))
    members: set[str] = set()
    try:
        with _open_regular(path, archive) as compressed:
            stream = _BoundedReader(compressed, archive)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    # tarfile keeps every member, 1 kB each
                    tar.members.clear()  # type: ignore[attr-defined]
                    suffix = structure_suffix(member.name.lower())
                    if suffix is None or member.isdir():
                        continue
                    name = posixpath.normpath(member.name)
                    if any(part.startswith(".") and part != ".." for part in name.split("/")):
                        continue
                    file = f"{archive}{MEMBER_SEPARATOR}{printable(name)}"
                    if walk.takes(file):
                        yield _read_member(tar, member, suffix, file, members)
                    members.add(file)
            # to tarfile, a damaged header looks like the end; the real end is a block of zeros
            if stream.last_block != bytes(_TAR_BLOCK):
                truncated = "expected the end mark of a tar archive, got other data: truncated?"
                yield from walk.errors(InputError(truncated, file=archive))
    except InputError as error:
        yield from walk.errors(error)
    except _UNREADABLE as error:
        yield from walk.errors(InputError(f"cannot read the archive: {_reason(error)}", file=archive))
    else:
        if not members:
            yield from walk.errors(_no_structure_files("archive", archive))


def _read_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, file: str, members: set[str]
) -> SourceFile | InputError:
    if file in members:
        return InputError("expected each member once, got a second one with this name", file=file)
    if not member.isreg() or member.issparse():
        kind = "a sparse file" if member.issparse() else _MEMBER_KINDS.get(member.type, "something else")
        return _not_regular(kind, file)
    if member.size > _LARGEST_FILE:
        return _too_large(file)
    stream = tar.extractfile(member)
    assert stream is not None, "regular members have content"
    with stream:
        data = stream.read()
    if len(data) != member.size:
        raise EOFError("the archive ends inside a member")
    try:
        return SourceFile(file, suffix, _read_whole(io.BytesIO(data), member.name, file))
    except InputError as error:
        return error
    except _UNREADABLE as error:
        return InputError(f"cannot read the file: {_reason(error)}", file=file)


class _BoundedReader(io.RawIOBase):
    """Reads an archive forwards, uncompressed, and limits memory and total size."""

    def __init__(self, compressed: BinaryIO, archive: str) -> None:
        self._archive = archive
        self._stream: io.BufferedReader | BinaryIO = compressed
        magic = compressed.read(_LONGEST_MAGIC)
        compressed.seek(0)
        for beginning, expand in _EXPANDERS.items():
            if magic.startswith(beginning):
                self._stream = io.BufferedReader(expand(compressed), _EXPANDED_AT_ONCE)
        size = os.fstat(compressed.fileno()).st_size
        self._limit = max(_ALWAYS_ALLOWED, _LARGEST_EXPANSION * size)
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_FILE:
            raise _too_large(self._archive)
        data = self._stream.read(size)
        if size == _TAR_BLOCK:
            self.last_block = data
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position > self._limit:
            raise InputError(
                f"expected an archive of at most {self._limit // 2**20} MB when unpacked, got a larger one",
                file=self._archive,
            )
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _read_whole(stream: BinaryIO, name: str, file: str) -> bytes:
    """The content of an open file, uncompressed if its name ends in `.gz`."""
    if name.lower().endswith(".gz"):
        with gzip.GzipFile(fileobj=stream) as expanded:
            data = expanded.read(_LARGEST_FILE + 1)
    else:
        data = stream.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise _too_large(file)
    return data


def _is_new(path: Path, walk: _Walk) -> bool:
    """Whether this path was not read before."""
    place = os.path.normpath(path.absolute())
    if place in walk.seen:
        return False
    walk.seen.add(place)
    return True


def _reason(error: Exception) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(reason.split())


def _not_regular(kind: str, file: str) -> InputError:
    return InputError(f"expected a regular file, got {kind}", file=file)


def _too_large(file: str) -> InputError:
    return InputError(f"expected at most {_LARGEST_FILE // 2**20} MB, got a larger file", file=file)


def _no_structure_files(kind: str, file: str) -> InputError:
    expected = ", ".join(f"*{suffix}" for suffix in STRUCTURE_SUFFIXES)
    return InputError(
        f"expected structure files ({expected}, *.gz) in this {kind}, got none", file=printable(file)
    )
