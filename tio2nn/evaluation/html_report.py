"""The page of an evaluation: HTML with everything in it, styles and figures too; nothing is loaded and nothing runs.

Texts come from files that others wrote, such as the names in an archive. The template escapes all of them; only figures
are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from tio2nn.files.atomic import atomic_write
from tio2nn.files.paths import AnyPath
from tio2nn.files.text import parse_number

_TEMPLATE = "report.html"
_SHORT = 12  # characters that need no room of their own


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: its caption.
        columns: their heads.
        rows: cells; the first of each names the row.
        note: a sentence below it, or "".
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, or nothing."""
        return [
            all(
                not cell or parse_number(cell.replace(",", "").replace("−", "-")) is not None
                for cell in column
            )
            for column in zip(*self.rows, strict=True)
        ]

    @property
    def wide(self) -> list[bool]:
        """Which columns hold long texts."""
        return [max(map(len, column)) > _SHORT for column in zip(*self.rows, strict=True)]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        title: its caption.
        svg: the element, trusted.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Page:
    """What a report says.

    Attributes:
        title: of the page.
        summary: sentences that begin it.
        warnings: sentences that the reader must not miss.
        errors: tables of errors.
        pictures: figures.
        audit: tables about the data set; may be empty.
        settings: tables about the potential.
        parameters: its `params.json`.
        provenance: tables about what it was made from.
        commands: command lines, each with what it did.
    """

    title: str
    summary: Sequence[str]
    warnings: Sequence[str]
    errors: Sequence[Table]
    pictures: Sequence[Picture]
    audit: Sequence[Table]
    settings: Sequence[Table]
    parameters: str
    provenance: Sequence[Table]
    commands: Sequence[tuple[str, str]]


def html(page: Page) -> str:
    """The text of a page."""
    # only reports need it
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = files("tio2nn.evaluation").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    # a lone surrogate stands for a byte of a file name that is no UTF-8
    text = environment.from_string(source).render(page=page)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_html(page: Page, path: AnyPath) -> None:
    """Write a page, atomically.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as handle:
        handle.write(html(page))
