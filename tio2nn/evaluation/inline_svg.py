"""Figures of matplotlib as elements of a page: with its colors, their own ids, and a text for those who cannot see."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

from tio2nn.evaluation.plots import BLUE, GRAY, INK, LIGHT, ORANGE, PAPER

# of the figures, and their names in the style of the page
_COLORS = {
    INK: "currentColor",
    PAPER: "var(--paper)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GRAY: "var(--gray)",
    LIGHT: "var(--light)",
}
_HEAD = re.compile(r"^.*?<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
_NOT_SHOWN = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_ID = re.compile(r'\bid="([^"]*)"')
_REFERENCE = re.compile(r'(href="|url\()#')


def inline_svg(draw: Callable[[Path], None], name: str, text: str) -> str:
    """The element of a figure.

    Args:
        draw: writes it to a file.
        name: that no other figure of the page has; its ids begin with it.
        text: what can be seen.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path)
        svg = path.read_text(encoding="utf-8")
    svg = _NOT_SHOWN.sub("", svg)
    svg = _REFERENCE.sub(rf"\1#{name}-", _ID.sub(rf'id="{name}-\1"', svg))
    for color, variable in _COLORS.items():
        svg = re.sub(re.escape(color), variable, svg, flags=re.IGNORECASE)
    found = _HEAD.match(svg)
    assert found is not None, "matplotlib begins a figure so"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{found[1]}" role="img" aria-labelledby="{name}-text"><title id="{name}-text">{escape(text)}</title>'
    )
    return head + svg[found.end() :].strip()
