"""Reading data never runs code that lies in it.

Nothing in the package unpickles a file, evaluates text as code or loads a Keras model; one module writes a pickle, as
LAMMPS asks for one. Worker processes get their tasks by pickle, through pipes that only they and their parent hold, and
the machines of a Dask cluster exchange tasks and messages, which only those with its certificate can send: that is no
data from files.
"""

from __future__ import annotations

import ast
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from projects import PARAMETERS, small_project, trained_project

import tio2nn
from tio2nn.errors import InputError
from tio2nn.potential.potential import Potential
from tio2nn.project.feature_store import Manifest, read_shard
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.workflow.train import train

PACKAGE = Path(tio2nn.__file__).parent
FRONT_DOOR = PACKAGE / "__init__.py"
BETWEEN_MACHINES = PACKAGE / "parallel" / "parcels.py"
PICKLE_WRITER = PACKAGE / "interfaces" / "mliap.py"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# modules whose formats are programs, or that make code of text
MODULES = {
    "cloudpickle",
    "code",
    "codeop",
    "dill",
    "imp",
    "joblib",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
    "yaml",
}
BUILTINS = {"compile", "eval", "exec", "__import__"}
METHODS = {"import_module", "load_model", "load_weights", "read_hdf", "read_pickle", "unsafe_load"}


def offenses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and kind of all in a module that could run code from data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES
            )
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield node.lineno, str(node.module)
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in METHODS | MODULES)
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            if options.get("allow_pickle") != "False":
                yield node.lineno, "np.load without allow_pickle=False"
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "safe_mode"):
            wanted = "False" if node.arg == "allow_pickle" else "True"
            if ast.unparse(node.value) != wanted:
                yield node.value.lineno, f"{node.arg} that is not {wanted}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_runs_code_from_data(path: Path) -> None:
    found = list(offenses(ast.parse(path.read_text(encoding="utf-8"))))
    if path == FRONT_DOOR:
        # by a table in that file
        found = [offense for offense in found if offense[1] != "import_module"]
    if path in (PICKLE_WRITER, BETWEEN_MACHINES):
        found = [offense for offense in found if offense[1] != "pickle"]
    assert found == [], f"{path}: {found}"


def test_the_one_module_that_knows_pickle_only_writes() -> None:
    tree = ast.parse(PICKLE_WRITER.read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert used == {"dump"}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import marshal as m",
        "from pickle import loads",
        "from multiprocessing import pickle",
        "eval('1')",
        "run = exec",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=allowed)",
        "numpy.load(path, mmap_mode='r')",
        "np.savez(path, allow_pickle=True)",
        "keras.saving.load_model(path)",
        "from keras.saving import load_model",
        "open_model(path, safe_mode=False)",
        "pandas.read_pickle(path)",
    ],
)
def test_what_would_run_it_is_recognized(text: str) -> None:
    assert len(list(offenses(ast.parse(text)))) >= 1


@pytest.mark.parametrize(
    "text", ["np.load(path, allow_pickle=False)", "re.compile('x')", "json.load(handle)"]
)
def test_what_would_not_is_let_pass(text: str) -> None:
    assert list(offenses(ast.parse(text))) == []


# --- files that hold a program ------------------------------------------------------------------------------


class Program:
    """Unpickled, it makes a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return os.mkdir, (self.directory,)


def read_first_shard(project: Project) -> object:
    manifest = Manifest.read(project.features_manifest)
    # as before the manifest is written, which knows the checksum
    shard = replace(manifest.shards[0], checksum=None)
    return read_shard(project.features_directory, shard, len(manifest.feature_names))


def first_shard(project: Project) -> Path:
    return project.features_directory / Manifest.read(project.features_manifest).shards[0].file


FILES: dict[str, tuple[Callable[[Project], Path], Callable[[Project], object]]] = {
    "structures": (lambda p: p.structures_file, lambda p: read_store(p.structures_file)),
    "features": (first_shard, read_first_shard),
    "potential": (lambda p: p.potential_file, lambda p: Potential.load(p.potential_file)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_program_in_the_place_of_an_array_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    place, read = FILES[name]
    project = trained_project(tmp_path / "p")
    path, made = place(project), tmp_path / "made"
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays.files
    program = np.array([Program(made)], dtype=object)
    np.savez(path, **dict.fromkeys(names, program))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read(project)
    assert not made.exists()
    with np.load(path, allow_pickle=True) as arrays:
        arrays[names[0]]
    assert made.exists()  # the program is one


def test_a_program_in_the_place_of_a_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    project, made = small_project(tmp_path / "p"), tmp_path / "made"
    project.model_directory.mkdir()
    np.savez(project.checkpoint_file(1), about=np.array([Program(made)], dtype=object))
    train(project, PARAMETERS)
    assert project.potential_file.exists()
    assert not made.exists()


# --- the Keras model, which is written for others -----------------------------------------------------------


def test_the_saved_network_opens_in_the_safe_mode_of_keras(tmp_path: Path) -> None:
    import keras

    path = trained_project(tmp_path / "p").network_file(1)
    assert keras.saving.load_model(path, safe_mode=True).count_params() > 0
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {"config.json", "metadata.json", "model.weights.h5"}
        config = json.loads(archive.read("config.json"))
    assert config["registered_name"].startswith("tio2nn>")
    assert "__lambda__" not in json.dumps(config)  # Python's byte code, which the safe mode refuses
