"""What running commands load: no help waits for a heavy library, and only training waits for Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import projects
import pytest
from heavy_libraries import HEAVY, TRAINING_ONLY

import tio2nn

PACKAGE = Path(tio2nn.__file__).parent


_LOADED_BY_HELP = """
import json, sys
from typer.main import get_command

heavy = set(sys.argv[1:])

def package_of(name):
    return str(name).partition(".")[0]

def run(app, name, *arguments):
    try:
        app([name, *arguments] if name else [*arguments])
    except SystemExit as end:
        return end.code

from tio2nn.cli.commands import app

found = {}
for name in [None, *get_command(app).commands]:
    code = run(app, name, "--help") or (0 if name else run(app, None, "--version"))
    modules = [(key, module) for key, module in sys.modules.items() if package_of(key) == "tio2nn"]
    users = {
        key
        for key, module in modules
        for value in vars(module).values()
        if package_of(getattr(value, "__module__", None) or getattr(value, "__name__", "")) in heavy
    }
    loaded = {package_of(key) for key in sys.modules} & heavy
    found[name or "tio2nn"] = {"code": code, "loaded": sorted(loaded), "users": sorted(users)}
print(json.dumps(found), file=sys.stderr)
"""


def test_no_help_loads_a_heavy_library() -> None:
    command = [sys.executable, "-c", _LOADED_BY_HELP, *HEAVY]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stderr)
    assert {"tio2nn", "init", "extract", "featurize", "train", "predict", "evaluate", "run"} <= set(found)
    assert found == {name: {"code": 0, "loaded": [], "users": []} for name in found}


_LOADED_BY_COMPLETION = """
import sys

from tio2nn.__main__ import main

sys.argv = ["tio2nn"]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"extract", "featurize", "train", "predict"}),
        ("tr", {"train"}),
        ("train --epochs many --mem", {"--member", "--members"}),
        ("train --tls ca certificate key --epochs=5 --for", {"--for", "--forces"}),
        ("predict a.xsf --format ", {"tsv", "csv", "json", "extxyz", "xsf"}),
        ("extract files --energy f", {"free_energy"}),
        ("evaluate files --report unfinished --strict --po", {"--potential"}),
        ("--ver", {"--version"}),
    ],
)
def test_completion_by_the_shell_loads_no_heavy_library(line: str, expected: set[str]) -> None:
    asked = {
        "_TIO2NN_COMPLETE": "complete_bash",
        "COMP_WORDS": f"tio2nn {line}",
        "COMP_CWORD": str(1 + line.count(" ")),
    }
    ended = subprocess.run(
        [sys.executable, "-c", _LOADED_BY_COMPLETION],
        capture_output=True,
        text=True,
        check=False,
        env=_environment() | asked,
    )
    assert ended.returncode == 0, ended.stderr
    words = set(ended.stdout.split())
    assert words == expected if line else expected < words
    assert not set(ended.stderr.split()) & set(HEAVY)


@pytest.fixture(scope="module")
def without_training_libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment, for worker processes too, in which importing Keras or TensorFlow is a bug."""
    directory = tmp_path_factory.mktemp("blocked")
    for library in TRAINING_ONLY:
        (directory / f"{library}.py").write_text(f'raise AssertionError("{library} was imported")\n', "utf-8")
    return _environment(str(directory))


def _environment(*path: str) -> dict[str, str]:
    entries = [*path, str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in entries if entry)}


def _run(environment: dict[str, str], *arguments: object) -> str:
    command = [sys.executable, "-m", "tio2nn", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_block_on_training_libraries_works(without_training_libraries: dict[str, str]) -> None:
    command = [sys.executable, "-c", "import keras"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=without_training_libraries
    )
    assert "keras was imported" in ended.stderr


def test_extract_featurize_predict_and_evaluate_run_without_keras(
    tmp_path: Path, without_training_libraries: dict[str, str]
) -> None:
    files = projects.write_files(tmp_path / "files", projects.structures())
    trained = projects.trained_project(tmp_path / "trained")
    projects.Project.create(tmp_path / "new", projects.PARAMETERS)
    _run(without_training_libraries, "extract", tmp_path / "files", "-C", tmp_path / "new")
    _run(without_training_libraries, "featurize", "-j", "2", "--csv", "-C", tmp_path / "new")
    lines = _run(without_training_libraries, "predict", files[0], "-C", trained.root).splitlines()
    assert len(lines) == 2
    _run(without_training_libraries, "evaluate", "-C", trained.root)
    _run(without_training_libraries, "status", "-C", trained.root)
