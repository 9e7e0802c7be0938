"""README and documentation as the tests see them: blocks of code, tables, words set as code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from places import DOCS, README, ROOT

PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
    if "_build" not in path.parts
)
_FENCE = "```"
_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: behind the fence.
        text: between the fences.
        line: of the first fence, from 1.
    """

    language: str
    text: str
    line: int


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in their order."""
    text = text_of(page)
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _BLOCK.finditer(text)
        if found[1] in languages
    ]


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


def prose(page: str) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", text_of(page))


def table(page: str, header: str) -> list[list[str]]:
    """Cells of the table whose first column has this header."""
    lines = iter(text_of(page).splitlines())
    next(line for line in lines if line.startswith(f"| {header} |"))
    next(lines)
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.split("|")[1:-1]])
    return cells


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def calls(page: str) -> list[list[str]]:
    """The words of every call of tio2nn in blocks and between backticks, without its name."""
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    spans = [span for span in code(prose(page)) if "tio2nn " in span and "\n" not in span]
    parts = [part for line in [*lines, *spans] for part in re.split(r"\|+|&&|>", line)]
    found = []
    for part in parts:
        words = [word for word in shlex.split(part, comments=True) if word != "time"]
        if words[:1] == ["tio2nn"] and len(words) > 1:
            found.append(words[1:])
    return found


def path_of(page: str) -> Path:
    return ROOT / page
