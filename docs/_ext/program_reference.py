"""Directives that stand for what `program_markdown` makes when the pages are built.

    ```{tio2nn} commands
    ```

The names are those of its functions. A directive gives sections, or what belongs to no section, never both: MyST puts
sections first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import program_markdown
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("tio2nn", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Generated(SphinxDirective):
    """A directive that stands for Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = getattr(program_markdown, self.arguments[0])()
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)
