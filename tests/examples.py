"""The Python of Markdown files, as a reader runs it: block after block, beside structures and a trained project."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from places import README, ROOT, SAMPLE_DATA
from projects import trained_project

_FENCE = "```"


def documents() -> list[Path]:
    """README.md and the pages of the documentation."""
    return [README, *sorted((ROOT / "docs").glob("**/*.md"))]


def python_of(markdown: str) -> str:
    """All blocks marked as python, each line at its place in the file, so that tracebacks and complaints lead there."""
    return "\n".join(_lines(markdown.splitlines())) + "\n"


def _lines(lines: Sequence[str]) -> Iterator[str]:
    language: str | None = None  # of the block around a line, "" for one without
    indent = 0
    for line in lines:
        text = line.strip()
        if text.startswith(_FENCE):
            indent = len(line) - len(line.lstrip())
            language = text.removeprefix(_FENCE) if language is None else None
            yield ""
        else:
            yield line[indent:] if language == "python" else ""


def reader_folder(root: Path) -> None:
    """Fill a folder with a few of the sample data, and with the project that `tio2nn run` would have made of them."""
    (root / SAMPLE_DATA.name).mkdir()
    for number in range(1, 301, 15):
        shutil.copy(SAMPLE_DATA / f"structure{number:04d}.xsf", root / SAMPLE_DATA.name)
    trained_project(root / "tio2nn-project")
