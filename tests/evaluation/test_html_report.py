"""Pages and their figures, without an evaluation."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tio2nn.evaluation.html_report import Page, Picture, Table, html
from tio2nn.evaluation.inline_svg import inline_svg
from tio2nn.evaluation.plots import plot_parity, plot_residuals
from tio2nn.evaluation.report_tables import number

HOSTILE = "<script>alert('1')</script> & \" {{ x }} \udce9"


def residuals(path: Path) -> None:
    plot_residuals(np.linspace(-1.0, 1.0, 30), path)


def page(text: str) -> str:
    """A page with a text at every place."""
    table = Table(text, [text, text], [[text, text]], text)
    return html(
        Page(
            text,
            [text],
            [text],
            [table],
            [Picture(text, "")],
            [table],
            [table],
            text,
            [table],
            [(text, text)],
        )
    )


def test_texts_are_escaped_wherever_they_stand() -> None:
    shown = page(HOSTILE)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 20
    assert "{{ x }}" in shown
    assert "\\udce9" in shown  # a byte that was no UTF-8
    shown.encode()


def test_columns_of_numbers_are_known() -> None:
    table = Table("x", ["a", "b", "c"], [["Ti", "1,234", "-0.5"], ["O", "", "1e-3"]])
    assert table.numeric == [False, True, True]
    assert table.wide == [False, False, False]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (0.123456, "0.1235"), (12345, "12,345"), (12345.6, "12,346"), ("x", "x")]
)
def test_numbers_have_four_digits(value: object, shown: str) -> None:
    assert number(value) == shown


def test_a_figure_has_the_colors_of_the_page_and_ids_of_its_own() -> None:
    svg = inline_svg(residuals, "one", "a < b")
    root = ElementTree.fromstring(svg)
    (title,) = [child for child in root if child.tag.endswith("title")]
    assert title.text == "a < b"
    assert root.attrib["aria-labelledby"] == title.attrib["id"] == "one-text"
    assert "width" not in root.attrib
    assert {"currentColor", "var(--blue)", "var(--orange)"} <= set(
        re.findall(r"currentColor|var\(--\w+\)", svg)
    )
    # white and black would vanish on one of the two
    assert not re.search(r"#(000|fff)(000|fff)?\b", svg, re.IGNORECASE)
    ids = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    assert all(name.startswith("one-") for name in ids)
    assert set(re.findall(r"(?:href=\"|url\()#([^\")]*)", svg)) <= ids
    assert "<metadata" not in svg
    assert inline_svg(residuals, "one", "a < b") == svg


def test_many_points_become_an_image() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> str:
        true, n_atoms = rng.normal(size=n), np.full(n, 3)
        return inline_svg(lambda path: plot_parity(true, true + 0.01, n_atoms, path), "x", "x")

    assert "data:image/png" not in draw(100)
    many = draw(20_000)
    assert "data:image/png" in many
    assert len(many) < 1_000_000
