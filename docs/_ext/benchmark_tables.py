"""A directive that makes a table of what benchmarks have left in `tests/benchmarks/results/`.

    :::{benchmark-table} FILE...
    :where: FIELD=VALUE; FIELD=VALUE
    :beside: FILE...
    :by: FIELD, FIELD
    heading | {FIELD:.2f} and {ANOTHER}
    :::

Each line is a column: its heading, and a format of the fields of a row. The rows are those of the summary, of the files
one after the other; with `:each:` they are the single ones that it was made of. `:where:` takes some of them; a value
may be several, with ` or ` between them.

With `:beside:` a row stands beside the one of other files with the same values in the fields of `:by:`, whose fields
are `{beside[FIELD]}`; `{ratio[FIELD]}` is a number of the row divided by that of the other. A value that was not
measured is a dash, and `{FIELD:code}` is set as code. Below the table stands how it was measured. What does not fit
ends the build.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

RESULTS = Path(__file__).parents[2] / "tests/benchmarks/results"
Row = dict[str, Any]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("benchmark-table", BenchmarkTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class BenchmarkTable(SphinxDirective):
    """A table, and how it was measured."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {  # noqa: RUF012  # docutils asks for a dict
        "where": directives.unchanged_required,
        "beside": directives.unchanged_required,
        "by": directives.unchanged_required,
        "each": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        try:
            found = self.parse_text_to_nodes("\n".join(self._markdown()))
        except (OSError, ValueError, KeyError) as error:
            source, line = self.get_source_info()
            raise ExtensionError(f"{source}:{line}: cannot make the table: {error}") from error
        for paragraph in found:
            if isinstance(paragraph, nodes.paragraph):
                paragraph["classes"].append("benchmark-origin")
        return found

    def _markdown(self) -> Iterator[str]:
        files = [self._read(name) for name in self.arguments[0].split()]
        others = [self._read(name) for name in self.options.get("beside", "").split()]
        rows = selected(self._rows(files), self.options.get("where", ""))
        if others:
            names = [name.strip() for name in self.options["by"].split(",")]
            rows = beside(rows, self._rows(others), names)
        yield from table(rows, self.content)
        yield ""
        yield from origins([*files, *others])

    def _read(self, name: str) -> Row:
        self.env.note_dependency(str(RESULTS / name))
        content: Row = json.loads((RESULTS / name).read_text(encoding="utf-8"))
        return content

    def _rows(self, files: Sequence[Row]) -> list[Row]:
        key = "rows" if "each" in self.options else "table"
        return [row for file in files for row in file.get(key, file["rows"])]


def selected(rows: Sequence[Row], where: str) -> list[Row]:
    """The rows with certain values.

    Raises:
        ValueError: no row has them.
    """
    wanted = [tuple(map(str.strip, part.split("=", 1))) for part in where.split(";") if part.strip()]
    if any(len(pair) != 2 for pair in wanted):
        raise ValueError(f"expected FIELD=VALUE, got {where!r}")
    found = [row for row in rows if all(str(row.get(name)) in value.split(" or ") for name, value in wanted)]
    if not found:
        raise ValueError(f"expected rows with {where or 'anything'}, got none")
    return found


def beside(rows: Sequence[Row], others: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Rows with `beside` and `ratio`.

    Raises:
        KeyError: a row lacks a field by which they are told apart.
        ValueError: there is not one other row with the same values.
    """
    found = []
    for row in rows:
        key = [row[name] for name in names]
        own = [other for other in others if [other[name] for name in names] == key]
        if len(own) != 1:
            raise ValueError(f"expected one row with {key} beside, got {len(own)}")
        ratios = {name: _ratio(value, own[0].get(name)) for name, value in row.items()}
        found.append(row | {"beside": own[0], "ratio": ratios})
    return found


def _ratio(a: object, b: object) -> float | None:
    return a / b if isinstance(a, float | int) and isinstance(b, float | int) and b else None


def table(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    """Markdown of a table.

    Raises:
        KeyError: a row lacks a field.
        ValueError: a column has no format, or one that does not fit its value.
    """
    pairs = [tuple(map(str.strip, column.split("|", 1))) for column in columns if column.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"expected columns as 'heading | format', got {list(columns)}")
    yield _line(heading for heading, _ in pairs)
    yield _line("---" for _ in pairs)
    formatter = _Formatter()
    for row in rows:
        yield _line(formatter.vformat(form, (), row) for _, form in pairs)


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


class _Formatter(string.Formatter):
    """Formats fields; nothing is a dash."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(key, int):
            raise ValueError(f"expected names of fields, got {{{key}}}")
        return super().get_value(key, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return "–"
        if format_spec == "code":
            return f"`{value}`" if value else ""
        text = str(super().format_field(value, format_spec))
        # 2.7e+02 is correct, and hard to read beside 58
        return f"{float(text):,.0f}" if "e+" in text else text


def origins(files: Sequence[Row]) -> Iterator[str]:
    """Markdown of the commands, and under each other those of one version, processor and day."""
    commands: dict[str, list[str]] = {}
    for file in files:
        commit = f" at {file['commit']}" if file["commit"] else ""
        cores = f"{file['cores']} core{'s' if file['cores'] > 1 else ''}"
        about = f"tio2nn {file['version']}{commit}, {file['processor']}, {cores}, {file['date']}"
        commands.setdefault(about, []).append(f"`{file['command']}`")
    lines = [line for about, own in commands.items() for line in (f"{about}:", *own)]
    yield from "\\\n".join(lines).splitlines()
