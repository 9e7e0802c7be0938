"""Sphinx builds the documentation from this folder: `sphinx-build -W -n -b html docs docs/_build`.

Nothing is fetched from the network, neither while it is built nor while it is read.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "tio2nn"
author = "the authors of tio2nn"
release = version = version_of("tio2nn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "benchmark_tables",
    "program_reference",
    "python_reference",
    "mathml",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_typehints_format = "short"
# in docstrings of this project `name` is code
default_role = "literal"

# types of other libraries: their inventories are on the network
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|ase|pathlib|collections|concurrent|os|typing|enum|types|pydantic)\..*"),
    (
        r"py:.*",
        r"(NDArray|ArrayLike|FloatArray|IntArray|Path|PathLike|Iterable|Iterator|Mapping|Sequence|Executor)",
    ),
    (r"py:class", r"Atoms"),
    (r"py:exc", r"CalculationFailed|CalculatorSetupError|PropertyNotImplementedError"),
]

html_theme = "furo"
html_title = f"tio2nn {release}"
html_static_path = ["_static"]
html_css_files = ["tio2nn.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"
