"""Finds and reads structure files: files, folders, patterns, archives, lists of names.

Nothing is unpacked to disk. Links inside archives are not followed, and sizes are limited, so an untrusted archive
cannot fill the disk or the memory.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import posixpath
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.io import expanding
from tio2nn.io.expanding import TAR_BLOCK, BoundedReader, expanded, too_large
from tio2nn.io.formats import HEAD, Format, format_of_content, format_of_name, is_doubtful
from tio2nn.io.other_formats import is_read_by_ase, to_be_converted
from tio2nn.io.source_names import names_of, places_of, printable
from tio2nn.io.wrong_names import in_place_of_archive, in_place_of_names, packed
from tio2nn.structures.names import ARCHIVE_SUFFIXES, MEMBER_SEPARATOR, compression, natural_key

# reading anything but a regular file could block, never end, or lead to files that the user did not name
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
    """The content of one structure file; to be read before the next file is asked for.

    Attributes:
        file: the path as the user would find it, `archive.tar:member` inside an archive; printable.
        format: what it is.
        stream: the uncompressed content, at its beginning.
        path: of a file on disk, or of the folder if the format is one; None inside an archive.
    """

    file: str
    format: Format
    stream: BinaryIO
    path: Path | None

    def whole(self) -> bytes:
        """All of the content.

        Raises:
            InputError: it is larger than any structure file.
            OSError, EOFError, zlib.error: it cannot be read.
        """
        data = self.stream.read(expanding.LARGEST_FILE + 1)
        if len(data) > expanding.LARGEST_FILE:
            del data  # errors are kept, and with them what their frames hold
            raise too_large(self.file)
        return data


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
    """The way through sources: what was seen, how many structure files, and whose turn it is.

    Args:
        places: of the files to read; None for all.
    """

    def __init__(self, places: range | None) -> None:
        self._places = places
        self.seen: set[str] = set()
        self.place = 0
        self.n_found = 0
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
        other, lines = in_place_of_names(_without_mark(iter(lines)))
        if other:
            yield from walk.errors(InputError(f"expected file names, one per line, got {other}", file="-"))
            return
        for line in lines:
            if name := line.rstrip("\r\n"):
                n_names += 1
                yield from _from_source(name, walk)
    except UnicodeDecodeError:
        yield from walk.errors(InputError("expected file names in UTF-8, got another encoding", file="-"))
        return
    if n_names == 0:
        yield from walk.errors(InputError("expected file names, one per line, got none", file="-"))


_MARK_READ_AS_BYTES = "\ufeff".encode().decode("ascii", "surrogateescape")  # where the locale is C


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    """The lines without the byte order mark that some programs on Windows begin a text with."""
    for first in lines:
        yield first.removeprefix("\ufeff").removeprefix(_MARK_READ_AS_BYTES)
        yield from lines


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
    else:
        yield from _from_file(path, walk, is_named=True)


def _from_folder(folder: Path, walk: _Walk) -> Iterator[SourceFile | InputError]:
    problems: list[OSError] = []
    paths = []
    for parent, folders, files in os.walk(folder, onerror=problems.append):
        # hidden files belong to programs; `._name.xsf` is metadata of macOS, no structure
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    n_files = 0
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        if format_of_name(path.name) is not None or is_doubtful(path.name):
            place = walk.n_found
            yield from _from_file(path, walk, is_named=False)
            n_files += walk.n_found - place
    for problem in problems:
        reason = f"cannot read the folder: {problem.strerror}"
        yield from walk.errors(InputError(reason, file=printable(str(problem.filename))))
    if n_files == 0 and not problems:
        yield from walk.errors(_no_structure_files("folder", str(folder)))


def _from_file(path: Path, walk: _Walk, *, is_named: bool) -> Iterator[SourceFile | InputError]:
    """A file; nothing if a folder holds it and it turns out to be something else."""
    file = printable(str(path))
    form = format_of_name(path.name)
    if form is None:
        try:
            with _open_regular(path, file) as stream:
                head = expanded(stream, path.name).read(HEAD)
        except (InputError, *_UNREADABLE) as error:
            # what cannot be read may be anything
            if is_named and _is_new(path, walk):
                yield from walk.errors(_unreadable(error, file))
            return
        form = format_of_content(head)
        if form is None:
            if is_named:
                yield from walk.errors(_of_no_format(path, file, head))
            return
    place = path
    if form.how == "folder":
        # frames are named after it
        place = path.parent if path.parent.name not in ("", "..") else path.parent.resolve()
    file = printable(str(place))
    walk.n_found += 1
    if not _is_new(path, walk) or not walk.takes(file):
        return
    try:
        with _open_regular(path, file) as stream:
            if form.how in ("place", "folder") and compression(path.name):
                raise _needs_a_place(form, file)
            yield SourceFile(file, form, expanded(stream, path.name), place)
    except (InputError, *_UNREADABLE) as error:
        yield _unreadable(error, file)


def _unreadable(error: Exception, file: str) -> InputError:
    if isinstance(error, InputError):
        return error
    missing = isinstance(error, FileNotFoundError)
    return InputError("no such file" if missing else f"cannot read the file: {_reason(error)}", file=file)


def _of_no_format(path: Path, file: str, head: bytes) -> InputError:
    suffix = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
    advice = "; ASE converts it to extended XYZ" if is_read_by_ase(path.name) else ""
    got = to_be_converted(path.name, head) or packed(head, path.name)
    got = got or f"{suffix} and content of no known format{advice}"
    return InputError(
        f'expected a structure file (formats: "tio2nn extract --formats") or a tar archive, got {got}',
        file=file,
    )


def _needs_a_place(form: Format, file: str) -> InputError:
    kind = "folder" if form.how == "folder" else "file"
    return InputError(
        f"expected a {form.title} as a {kind} of its own, got one in an archive or compressed: unpack it",
        file=file,
    )


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
            stream = BoundedReader(compressed, archive)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    # tarfile keeps every member, 1 kB each
                    tar.members.clear()  # type: ignore[attr-defined]
                    form = format_of_name(member.name)
                    if member.isdir() or (form is None and not (is_doubtful(member.name) and member.isreg())):
                        continue
                    name = posixpath.normpath(member.name)
                    if any(part.startswith(".") and part != ".." for part in name.split("/")):
                        continue
                    file = f"{archive}{MEMBER_SEPARATOR}{printable(name)}"
                    data = None
                    if form is None:
                        # read once: going back means to expand the archive again
                        if member.size > expanding.LARGEST_FILE:
                            continue
                        data = _data_of(tar, member)
                        form = _format_of_data(data, name)
                        if form is None:
                            continue
                    if walk.takes(file):
                        yield _read_member(tar, member, form, file, members, data)
                    members.add(file)
            # to tarfile, a damaged header looks like the end; the real end is a block of zeros
            if stream.last_block != bytes(TAR_BLOCK):
                truncated = "expected the end mark of a tar archive, got other data: truncated?"
                yield from walk.errors(InputError(truncated, file=archive))
    except InputError as error:
        yield from walk.errors(error)
    except _UNREADABLE as error:
        other = in_place_of_archive(path)
        reason = f"cannot read the archive: {_reason(error)}"
        if other:
            reason = f"expected a tar archive, as the name says, got {other}"
        yield from walk.errors(InputError(reason, file=archive))
    else:
        if not members:
            yield from walk.errors(_no_structure_files("archive", archive))


def _read_member(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    form: Format,
    file: str,
    members: set[str],
    data: bytes | None,
) -> SourceFile | InputError:
    if file in members:
        return InputError("expected each member once, got a second one with this name", file=file)
    if not member.isreg() or member.issparse():
        kind = "a sparse file" if member.issparse() else _MEMBER_KINDS.get(member.type, "something else")
        return _not_regular(kind, file)
    if form.how in ("place", "folder"):
        return _needs_a_place(form, file)
    if member.size > expanding.LARGEST_FILE:
        return too_large(file)
    stream = expanded(io.BytesIO(_data_of(tar, member) if data is None else data), member.name)
    return SourceFile(file, form, stream, None)


def _data_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None, "regular members have content"
    with stream:
        data = stream.read()
    if len(data) != member.size:
        raise EOFError("the archive ends inside a member")
    return data


def _format_of_data(data: bytes, name: str) -> Format | None:
    try:
        return format_of_content(expanded(io.BytesIO(data), name).read(HEAD))
    except _UNREADABLE:
        return None


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


def _no_structure_files(kind: str, file: str) -> InputError:
    return InputError(
        f'expected structure files (formats: "tio2nn extract --formats") in this {kind}, got none',
        file=printable(file),
    )
