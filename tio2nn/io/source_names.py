"""The names of sources: what they stand for, and whether a file is one of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path

from tio2nn.files.paths import AnyPath
from tio2nn.io.formats import format_of_name, is_doubtful
from tio2nn.structures.names import natural_key


def names_of(sources: AnyPath | Iterable[AnyPath]) -> Iterator[str]:
    """The names of the sources; a single string is one name, not a sequence of letters."""
    if isinstance(sources, (str, os.PathLike)):
        return iter([_name_of(sources)])
    if not isinstance(sources, Iterable) or isinstance(sources, bytes):  # type: ignore[unreachable]
        raise TypeError(f"sources: expected a path or several paths, got {sources!r}")
    return map(_name_of, sources)


def _name_of(source: AnyPath) -> str:
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(name, str):
        raise TypeError(f"sources: expected strings or paths, got {name!r}")
    return name


def places_of(source: str) -> list[Path]:
    """The paths that a name other than "-" stands for: itself, or the matches of a pattern."""
    if os.path.lexists(source):
        return [Path(source)]
    return _matches(source) if has_magic(source) else []


def _matches(pattern: str) -> list[Path]:
    """Matches as in a shell: without hidden files, unless the last part of the pattern begins with a dot."""
    path = Path(pattern)
    anchor = Path(path.anchor)
    try:
        matches = list(anchor.glob(str(path.relative_to(anchor))))
    except ValueError:  # invalid pattern, such as `**` beside other characters
        return []
    visible = [match for match in matches if path.name.startswith(".") or not match.name.startswith(".")]
    return sorted(visible, key=lambda match: natural_key(str(match)))


def printable(name: str) -> str:
    """A file name as one line of UTF-8, with escapes for undecodable bytes and control characters."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


class NamedFiles:
    """The structure files of sources, to tell whether a file is one of them.

    Args:
        sources: as for `iter_source_files`, without "-".
    """

    def __init__(self, sources: AnyPath | Iterable[AnyPath]) -> None:
        self._files: set[tuple[int, int]] = set()
        self._folders: set[Path] = set()
        for name in names_of(sources):
            for place in places_of(name):
                if place.is_dir():
                    self._folders.add(place.resolve())
                elif place.exists():
                    self._files.add(_identity(place))

    def __contains__(self, path: Path) -> bool:
        """Whether this file exists and is one of them."""
        if not os.path.exists(path):  # noqa: PTH110 -- Path.exists raises an error for a name that is too long
            return False
        is_structure_file = format_of_name(path.name) is not None or is_doubtful(path.name)
        return _identity(path) in self._files or (
            is_structure_file and not self._folders.isdisjoint(path.resolve().parents)
        )


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
