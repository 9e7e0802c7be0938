"""What `import tio2nn` offers, and what it loads."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import tio2nn

OFFERED = {
    "AngularFunction": "tio2nn.parameters.parameter_set",
    "BehlerParrinello": "tio2nn.interfaces.ase",
    "ExtrapolationError": "tio2nn.interfaces.watch",
    "ExtrapolationWarning": "tio2nn.interfaces.watch",
    "InputError": "tio2nn.errors",
    "MissingInputError": "tio2nn.errors",
    "ParameterError": "tio2nn.errors",
    "ParameterSet": "tio2nn.parameters.parameter_set",
    "Potential": "tio2nn.potential.potential",
    "Prediction": "tio2nn.potential.prediction",
    "Project": "tio2nn.project.project",
    "RadialFunction": "tio2nn.parameters.parameter_set",
    "ReadOptions": "tio2nn.io.labels",
    "StaleError": "tio2nn.errors",
    "Structure": "tio2nn.structures.structure",
    "SymmetryCalculator": "tio2nn.descriptors.symmetry_functions",
    "Tio2nnError": "tio2nn.errors",
    "UsageError": "tio2nn.errors",
    "Watch": "tio2nn.interfaces.watch",
    "__version__": "tio2nn.version",
    "preset": "tio2nn.parameters.presets",
    "read_n2p2": "tio2nn.export.read_n2p2",
    "read_structures": "tio2nn.io.read",
}
# beside those of Python itself only these may be loaded, and so nothing that is heavy
OWN_MODULES = ["tio2nn"]

_LOADED = """
import json, sys
before = set(sys.modules)
import tio2nn
print(json.dumps(sorted(set(sys.modules) - before)))
"""
_LOADED_BY_NAME = """
import json, sys
import tio2nn
getattr(tio2nn, sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ended.stdout)
    return found


def test_these_names_are_offered() -> None:
    assert tio2nn.__all__ == sorted(OFFERED)
    assert dir(tio2nn) == sorted(OFFERED)


@pytest.mark.parametrize("name", OFFERED)
def test_a_name_is_that_of_its_module(name: str) -> None:
    assert getattr(tio2nn, name) is getattr(importlib.import_module(OFFERED[name]), name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(tio2nn.__file__).read_text(encoding="utf-8"))
    (branch, _) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    seen = {
        alias.asname: node.module
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # or it would not be offered again
    }
    assert seen == OFFERED


def test_all_names_can_be_imported_at_once() -> None:
    namespace: dict[str, object] = {}
    exec("from tio2nn import *", namespace)
    assert set(OFFERED) <= set(namespace)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'tio2nn' has no attribute 'Potental'$") as caught:
        tio2nn.Potental  # type: ignore[attr-defined]  # noqa: B018
    # Python asks with these whether Potential was meant
    assert caught.value.name == "Potental"
    assert caught.value.obj is tio2nn
    with pytest.raises(ImportError, match="cannot import name 'Potental' from 'tio2nn'"):
        exec("from tio2nn import Potental")


def test_importing_the_package_loads_nothing_but_itself() -> None:
    loaded = [name for name in run(_LOADED) if name.partition(".")[0] not in sys.stdlib_module_names]
    assert loaded == OWN_MODULES


@pytest.mark.parametrize(
    ("name", "not_loaded"),
    [
        ("Tio2nnError", {"numpy"}),
        ("ParameterSet", {"numpy"}),
        ("Project", {"numpy"}),
        ("Structure", {"ase", "scipy", "numba"}),
        ("read_structures", {"ase", "numba"}),
        ("Potential", {"ase", "pandas", "matplotlib", "tensorflow", "keras"}),
        ("BehlerParrinello", {"pandas", "tensorflow", "keras"}),
    ],
)
def test_a_name_loads_no_library_that_it_does_not_need(name: str, not_loaded: set[str]) -> None:
    assert not_loaded.isdisjoint(run(_LOADED_BY_NAME, name))


def test_the_package_says_that_it_has_types() -> None:
    assert (Path(tio2nn.__file__).parent / "py.typed").read_bytes() == b""


def test_the_version_is_stated_once() -> None:
    stated = [
        path
        for path in (ROOT / "pyproject.toml", *sorted((ROOT / "tio2nn").rglob("*.py")))
        if f'"{tio2nn.__version__}"' in path.read_text(encoding="utf-8")
    ]
    assert stated == [ROOT / "tio2nn" / "version.py"]
