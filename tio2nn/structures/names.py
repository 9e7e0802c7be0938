"""Names of structures: the stem of the file, a number for each frame, the path if stems collide."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from tio2nn.structures.structure import Structure

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")  # of single files
MEMBER_SEPARATOR = ":"  # between an archive and its member

_DIGITS = re.compile("([0-9]+)")
_IN_ARCHIVE = re.compile(f".*({'|'.join(map(re.escape, ARCHIVE_SUFFIXES))}){MEMBER_SEPARATOR}", re.IGNORECASE)


def natural_key(name: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Sorts `frame-2` before `frame-10`; different names have different keys."""
    # text and numbers alternate, so that like compares with like
    parts = enumerate(_DIGITS.split(name))
    return tuple([_number_key(part) if place % 2 else part for place, part in parts]), name


def _number_key(digits: str) -> tuple[int, str]:
    """Compares like the number, of any length; int() refuses more than 4,300 digits."""
    significant = digits.lstrip("0")
    return len(significant), significant


def uncompressed(name: str) -> str:
    """The name of a file without the suffix of its compression."""
    return name[: len(name) - len(compression(name))]


def compression(name: str) -> str:
    """The suffix of the compression of a file, in lower case; "" without one."""
    return next((suffix for suffix in COMPRESSED_SUFFIXES if name.lower().endswith(suffix)), "")


def stem(file: str) -> str:
    """`Ti/structure0001.xsf.gz` and `data.tar:structure0001.xsf` are both `structure0001`."""
    path = PurePath(_IN_ARCHIVE.sub("", PurePath(file).name))
    return PurePath(uncompressed(path.name)).stem


def container(file: str) -> str:
    """The archive that holds a file, else its folder."""
    archive = _IN_ARCHIVE.match(file)
    return archive.group()[: -len(MEMBER_SEPARATOR)] if archive is not None else str(PurePath(file).parent)


def sorted_by_name(structures: Iterable[Structure]) -> list[Structure]:
    """Structures in natural order, with unique names (`unique_names`)."""
    read = list(structures)
    names = unique_names(read)
    renamed = [s if s.name == name else replace(s, name=name) for s, name in zip(read, names, strict=True)]
    return sorted(renamed, key=lambda structure: natural_key(structure.name))


def unique_names(read: Sequence[Structure]) -> list[str]:
    """A unique name for each structure, in order.

    If files share a stem, or structures share a name in any other way, all structures of these files are named by
    the path: `a/Ti.xsf`, or `a/Ti.xyz-2` for the second of several frames.
    """
    files: dict[str, set[str]] = defaultdict(set)
    for structure in read:
        files[stem(structure.file)].add(structure.file)
    by_path = {file for namesakes in files.values() if len(namesakes) > 1 for file in namesakes}
    while True:
        names = [_path_name(structure) if structure.file in by_path else structure.name for structure in read]
        counts = Counter(names)
        clashing = {s.file for s, name in zip(read, names, strict=True) if counts[name] > 1} - by_path
        if not clashing:
            return names
        by_path |= clashing


def _path_name(structure: Structure) -> str:
    return structure.file + structure.name.removeprefix(stem(structure.file))
