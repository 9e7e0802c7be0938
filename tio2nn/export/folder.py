"""A folder that is written whole or not at all, and that replaces nothing but an earlier export."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tio2nn.errors import InputError

README = "README.md"
MARK = "exported by tio2nn"
"""In the first line of the README of every export: what makes it ours to replace."""


def write_folder(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a folder.

    Args:
        directory: new, empty, or an earlier export, all of which goes.
        files: the content of each, by its path in the folder; with a `README` that has the `MARK`.

    Raises:
        InputError: the directory holds something else; nothing is changed.
        OSError: it cannot be written; what was there still is.
    """
    _require_ours(directory)
    with _about(directory):
        is_new = not directory.exists()
        place = directory.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        # of an old folder only what it holds is replaced: it may be the current one, or a mounted disk
        beside = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=place.parent if is_new else place))
    new, old = beside / "new", beside / "old"
    try:
        old.mkdir()
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with _about(directory / name):
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        if is_new:
            moves = [(new, place)]
        else:
            moves = [(path, old / path.name) for path in place.iterdir() if path != beside]
            moves += [(path, place / path.name) for path in new.iterdir()]
        with _about(directory):
            _move(moves)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # what could not be moved back stays there
            old.rmdir()
        with suppress(OSError):
            beside.rmdir()


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename all or none."""
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                with suppress(OSError):
                    target.rename(source)
        raise


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Errors name what the user knows, not a temporary name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _require_ours(directory: Path) -> None:
    expected = "expected a new or empty directory, or one with an earlier export, got"
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise InputError(f"{expected} another kind of file", file=str(directory))
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not _has_mark(directory / README):
        raise InputError(f"{expected} one with other files", file=str(directory))
    for path in sorted(directory.rglob("*")):
        if not path.is_dir() and not _is_of_an_export(path.relative_to(directory)):
            raise InputError(
                f"{expected} one that also has {path.relative_to(directory)}; move it, or choose another",
                file=str(directory),
            )


def _has_mark(readme: Path) -> bool:
    try:
        return MARK in readme.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return False


def _is_of_an_export(path: Path) -> bool:
    """Whether a file of this name may be part of an export."""
    in_place = len(path.parts) == 1 or (len(path.parts) == 2 and path.parts[0].startswith("nnp-"))
    name = path.name
    return in_place and (
        name in (README, "input.nn", "scaling.data")
        or (name.startswith("weights.") and name.endswith(".data"))
        or name.endswith(".nn")
    )
