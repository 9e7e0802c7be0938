"""Type checkers have nothing to say of the Python of README and documentation; `test_examples` runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, blocks, python_of, text_of
from places import ROOT

import tio2nn

PYTHON = {page: code for page in PAGES if (code := python_of(text_of(page))).strip()}
# a check of the check
_WRONG = """
from tio2nn import Potential, read_structures
from tio2nn import Potental
Potential.load(3)
for structure in read_structures("a.xsf"):
    structure.nome
for item in read_structures("a.xsf", errors="yield"):
    item.name
"""
_COMPLAINTS = (
    'wrong.py:3: error: Module "tio2nn" has no attribute "Potental"',
    'wrong.py:4: error: Argument 1 to "load" of "Potential" has incompatible type "int"',
    'wrong.py:6: error: "Structure" has no attribute "nome"',
    'wrong.py:8: error: Item "InputError" of "Structure | InputError" has no attribute "name"',
)


def test_readme_has_examples() -> None:
    assert "README.md" in PYTHON


def test_lines_of_python_stay_where_they_are() -> None:
    markdown = [
        *("Text", "```python", "a = 1", "```"),
        *("- item", "  ```python", "  if a:", "      a = 2", "  ```"),
        *("```sh", "ls", "```", "```", "b", "```"),
    ]
    expected = ["", "", "a = 1", "", "", "", "if a:", "    a = 2"]
    assert python_of("\n".join(markdown)).rstrip().splitlines() == expected


@pytest.mark.parametrize("page", PYTHON)
def test_no_example_is_hidden_from_those_who_run_it(page: str) -> None:
    assert PYTHON[page].split() == "".join(block.text for block in blocks(page, "python")).split()


@pytest.mark.parametrize("page", PYTHON)
def test_examples_import_from_the_front_door(page: str) -> None:
    offered = set(tio2nn.__all__)
    found = re.findall(r"^\s*from (tio2nn\S*) import (.+)$", PYTHON[page], re.MULTILINE)
    around = [
        f"from {module} import {names}"
        for module, names in found
        if module != "tio2nn" and offered.intersection(re.findall(r"\w+", names))
    ]
    assert around == []


@pytest.mark.slow
def test_examples_have_no_type_errors(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    shown = {}
    for page, code in PYTHON.items():
        module = tmp_path / (re.sub(r"\W", "_", page) + ".py")
        module.write_text(code, encoding="utf-8")
        shown[module.name] = page
    (tmp_path / "wrong.py").write_text(_WRONG, encoding="utf-8")
    complaints = []
    for line in _mypy(tmp_path, pytestconfig).splitlines():
        file, _, complaint = line.partition(":")
        complaints.append(f"{shown.get(file, file)}:{complaint}")
    assert [line.startswith(known) for line, known in zip(complaints, _COMPLAINTS, strict=True)] == [True] * 4


def _mypy(directory: Path, pytestconfig: pytest.Config) -> str:
    """What mypy says of the modules in a folder, with the settings of the project; what it knows of others is kept."""
    kept = getattr(pytestconfig, "cache", None)  # there is none with -p no:cacheprovider
    cache = directory if kept is None else kept.mkdir("mypy")
    command = [
        *(sys.executable, "-m", "mypy", "--no-error-summary", "--config-file", str(ROOT / "pyproject.toml")),
        *("--cache-dir", str(cache), *sorted(path.name for path in directory.glob("*.py"))),
    ]
    environment = dict(os.environ)
    above = Path(tio2nn.__file__).parent.parent
    if above == ROOT:  # else it is installed, and mypy finds it by py.typed
        environment["MYPYPATH"] = str(above)
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=directory, env=environment
    )
    assert ended.stderr == ""
    return ended.stdout
