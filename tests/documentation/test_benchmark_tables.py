"""Tables of the results come from the files that benchmarks leave; what does not fit ends the build."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from places import DOCS, TESTS

pytest.importorskip("sphinx")

RESULTS = sorted((TESTS / "benchmarks/results").glob("*.json"))
ROWS = [
    {"what": "values", "kind": "a", "seconds": 2.0, "error": None},
    {"what": "values | forces", "kind": "b", "seconds": 3.0, "error": 0.125},
]
PAGE = """# Page

:::{benchmark-table} derivatives.json
:where: computed=values and Jacobian
computed | {computed}
ratio | {FIELD:.3f} times
:::
"""


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))
        yield importlib.import_module("benchmark_tables")


# --- rows and cells -----------------------------------------------------------------------------------------


def test_a_table_has_a_line_for_each_row(tables: ModuleType) -> None:
    lines = tables.table(ROWS, ["what | {what}", "", "time and error | {seconds:.1f} s, {error:.2f}"])
    assert list(lines) == [
        "| what | time and error |",
        "| --- | --- |",
        "| values | 2.0 s, – |",
        r"| values \| forces | 3.0 s, 0.12 |",
    ]


def test_numbers_have_no_exponent_and_options_keep_their_hyphens(tables: ModuleType) -> None:
    rows = [
        {"options": "--energies-only", "memory_GB": 271.4, "error": 2e-7},
        {"options": "", "memory_GB": 1234.5, "error": 1.0},
    ]
    lines = tables.table(rows, ["recipe | `auto` {options:code}", "memory | {memory_GB:.2g} GB, {error:.2g}"])
    assert list(lines)[2:] == [
        "| `auto` `--energies-only` | 270 GB, 2e-07 |",
        "| `auto`  | 1,200 GB, 1 |",
    ]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (["what | {which}"], "'which'"),
        (["what | {what:.2f}"], "Unknown format code 'f'"),
        (["what | {}"], r"expected names of fields, got \{0\}"),
        (["what {what}"], "expected columns as 'heading | format'"),
        ([], "expected columns as 'heading | format'"),
    ],
)
def test_a_column_that_does_not_fit_is_an_error(
    tables: ModuleType, columns: list[str], complaint: str
) -> None:
    with pytest.raises((KeyError, ValueError), match=complaint.replace("|", r"\|")):
        list(tables.table(ROWS, columns))


def test_rows_are_selected_by_values(tables: ModuleType) -> None:
    assert tables.selected(ROWS, "") == ROWS
    assert tables.selected(ROWS, "kind=b") == ROWS[1:]
    assert tables.selected(ROWS, "kind = a; seconds=2.0") == ROWS[:1]
    assert tables.selected(ROWS, "kind=a or b") == ROWS
    for where in ("kind=c", "sort=a", "kind=a; seconds=3.0"):
        with pytest.raises(ValueError, match="got none"):
            tables.selected(ROWS, where)
    with pytest.raises(ValueError, match="expected FIELD=VALUE"):
        tables.selected(ROWS, "kind")


def test_rows_stand_beside_those_of_the_same_name(tables: ModuleType) -> None:
    others = [{"kind": "b", "seconds": 6.0, "error": 0.25}, {"kind": "a", "seconds": 1.0, "error": 0.5}]
    first, second = tables.beside(ROWS, others, ["kind"])
    assert (first["beside"], second["beside"]) == (others[1], others[0])
    assert (first["ratio"]["seconds"], first["ratio"]["error"]) == (2.0, None)
    assert (second["ratio"]["seconds"], second["ratio"]["error"]) == (0.5, 0.5)
    line = list(tables.table([second], ["now, then | {seconds:.0f}, {beside[seconds]:.0f}"]))[-1]
    assert line == "| 3, 6 |"
    with pytest.raises(ValueError, match=r"expected one row with \['a'\] beside, got 0"):
        tables.beside(ROWS, others[:1], ["kind"])
    with pytest.raises(ValueError, match="got 2"):
        tables.beside(ROWS, [*others, *others], ["kind"])
    with pytest.raises(KeyError, match="what"):
        tables.beside(ROWS, others, ["what"])


def test_commands_of_one_version_and_processor_stand_together(tables: ModuleType) -> None:
    about = {"processor": "abacus", "date": "2026-01-02"}
    old = about | {"version": "1", "commit": None, "cores": 1}
    new = about | {"version": "2", "commit": "abcdef0", "cores": 2}
    lines = list(tables.origins([new | {"command": "a"}, old | {"command": "b"}, new | {"command": "c"}]))
    assert lines == [
        "tio2nn 2 at abcdef0, abacus, 2 cores, 2026-01-02:\\",
        "`a`\\",
        "`c`\\",
        "tio2nn 1, abacus, 1 core, 2026-01-02:\\",
        "`b`",
    ]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: str(file.stem))
def test_every_result_can_be_shown(tables: ModuleType, file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    for rows in (content["rows"], content.get("table", content["rows"])):
        for row in rows:
            assert len(list(tables.table([row], [f"{name} | {{{name}}}" for name in row]))) == 3
    assert f"`{content['command']}`" in list(tables.origins([content]))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: str(file.stem))
def test_every_result_is_shown_on_a_page(file: Path) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "results").glob("*.md")]
    assert any(re.search(rf"(benchmark-table}}|:beside:).* {re.escape(file.name)}\b", page) for page in pages)


# --- pages --------------------------------------------------------------------------------------------------


def built(directory: Path, page: str) -> tuple[int, str, str]:
    """Exit code, what is said on stderr, and the page as HTML, of a documentation of one page."""
    source, target = directory / "source", directory / "built"
    source.mkdir()
    (source / "conf.py").write_text(
        'extensions = ["myst_parser", "benchmark_tables"]\nmyst_enable_extensions = ["colon_fence"]\n',
        encoding="utf-8",
    )
    (source / "index.md").write_text(page, encoding="utf-8")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(DOCS / "_ext")}
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    html = target / "index.html"
    return ended.returncode, ended.stderr, html.read_text(encoding="utf-8") if html.exists() else ""


def test_a_page_has_the_table_and_how_it_was_measured(tmp_path: Path) -> None:
    code, complaints, html = built(tmp_path, PAGE.replace("FIELD", "times_values"))
    assert (code, complaints) == (0, "")
    content = json.loads((TESTS / "benchmarks/results/derivatives.json").read_text(encoding="utf-8"))
    (row,) = (row for row in content["table"] if row["computed"] == "values and Jacobian")
    words = " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())
    assert f"computed ratio values and Jacobian {row['times_values']:.3f} times" in words
    assert (
        f"{content['processor']}, {content['cores']} cores, {content['date']}: {content['command']}" in words
    )
    assert 'class="benchmark-origin"' in html


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (PAGE, "index.md:3: cannot make the table: 'FIELD'"),
        (PAGE.replace("derivatives.json", "derivations.json"), "No such file or directory"),
        (
            PAGE.replace("and Jacobian", "and Jacobi"),
            "expected rows with computed=values and Jacobi, got none",
        ),
    ],
    ids=["field", "file", "row"],
)
def test_what_is_missing_ends_the_build(tmp_path: Path, page: str, complaint: str) -> None:
    code, complaints, html = built(tmp_path, page)
    assert code == 2
    assert complaint in complaints
    assert html == ""
