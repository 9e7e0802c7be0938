"""What a file is by its first bytes, where its name says something else."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tio2nn.errors import InputError
from tio2nn.io.expanding import SUFFIX_OF_MAGIC, BoundedReader, expanded
from tio2nn.io.formats import HEAD, Format, format_of_content
from tio2nn.io.source_names import places_of
from tio2nn.structures.names import compression

_PROGRAMS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
_PACKED = {
    **{
        magic: f"data compressed by {_PROGRAMS[suffix]}: add {suffix} to its name"
        for magic, suffix in SUFFIX_OF_MAGIC.items()
    },
    b"PK\x03\x04": "a zip archive: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\x28\xb5\x2f\xfd": "data compressed by zstd: unpack it",
    b"\x04\x22\x4d\x18": "data compressed by lz4: unpack it",
    b"\x1f\x9d": "data compressed by compress: unpack it",
}
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
_TAR_MARK, _PLACE_OF_MARK = b"ustar", 257
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # an escape may be the color of a name
_LINES_OF_HEAD = 100  # that tell a format which can be typed or piped


def packed(head: bytes, name: str) -> str:
    """What a file is by its first bytes, expanded as its name says, if it has to be unpacked; "" for anything else."""
    if head[_PLACE_OF_MARK:].startswith(_TAR_MARK):
        return "a tar archive: let its name end in .tar"
    told = next((told for magic, told in _PACKED.items() if head.startswith(magic)), "")
    return "data compressed twice: unpack it" if told and compression(name) else told


def other_content(path: Path, named: Format) -> str:
    """What a file on disk is instead of what its name says, and what to do; "" if that is unknown."""
    try:
        with path.open("rb") as stream:
            head = expanded(stream, path.name).read(HEAD)
    except _UNREADABLE:
        return ""
    found = format_of_content(head)
    if found is None:
        return packed(head, path.name)
    return "" if found.is_kin_of(named) else f"{found.title}: rename it"


def in_place_of_archive(path: Path) -> str:
    """What a file on disk is instead of the tar archive that its name says, and what to do; "" if that is unknown."""
    try:
        with path.open("rb") as stream:
            start = stream.read(HEAD)
            stream.seek(0)
            head = BoundedReader(stream, str(path)).read(HEAD)
    except (InputError, *_UNREADABLE):
        return ""
    if head[_PLACE_OF_MARK:].startswith(_TAR_MARK):
        return ""
    program = next((_PROGRAMS[own] for magic, own in SUFFIX_OF_MAGIC.items() if start.startswith(magic)), "")
    if told := next((told for magic, told in _PACKED.items() if head.startswith(magic)), ""):
        return "data compressed twice: unpack it" if program else told
    if (found := format_of_content(head)) is None:
        return ""
    return f"{found.title}{f' compressed by {program}' if program else ''}: rename it"


def in_place_of_names(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """What lies where names of files should be, if it is something else; and the same lines.

    Each of its lines would be one more name of no file. More than one line is waited for only if the first is no name.
    """
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    if not head or not (name := head[-1].rstrip("\r\n")) or places_of(name):
        return "", chain(head, lines)
    head += islice(lines, _LINES_OF_HEAD)
    content = "".join(head).encode("utf-8", "surrogateescape")
    if (found := format_of_content(content)) is not None:
        return f"the content of a file ({found.title}); give its name", chain(head, lines)
    return "binary data" if _BINARY.search(content) else "", chain(head, lines)
