"""The Python interface as pages: docstrings in the form of this project, and links to the front door.

Types link to the name by which they are imported from `tio2nn`, wherever they are defined; types that are not offered
there are shown without a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sphinx.ext.napoleon import Config, GoogleDocstring

import tio2nn

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# types of attributes are in their descriptions, with shapes and units
_SECTIONS = Config(
    napoleon_use_rtype=False,
    napoleon_attr_annotations=False,
    napoleon_custom_sections=[("Attributes", "params_style")],
)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _sections_to_fields)
    app.connect("missing-reference", _by_its_public_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _sections_to_fields(
    app: Sphinx, what: str, name: str, obj: object, _options: object, lines: list[str]
) -> None:
    """`Args:`, `Returns:`, `Raises:` and `Attributes:` as fields.

    The extension napoleon would do it, but takes the words before a colon in the docstring of a property for its type.
    """
    if what not in ("attribute", "property"):
        lines[:] = GoogleDocstring(lines, _SECTIONS, app, what, name, obj).lines()


def _by_its_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """`tio2nn.structures.structure.Structure`, or `Structure` in a docstring, is `tio2nn.Structure`."""
    target = str(node.get("reftarget", ""))
    name = target.rpartition(".")[2]
    if node.get("refdomain") != "py" or not (target.startswith("tio2nn.") or target == name):
        return None
    if name in getattr(tio2nn, "__all__", ()) and target != f"tio2nn.{name}":
        python = env.domains["py"]
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"tio2nn.{name}", node, content)
    return content if target.count(".") > 1 else None
