"""Floors and rooms: which module may import which, and where heavy libraries may come in.

Both are tables below. A new module gets its place in `FLOORS`; a module imports from its own floor or a lower one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from heavy_libraries import TRAINING_ONLY
from places import DOCS, ROOT, SAMPLE_DATA, TESTS

import tio2nn

PACKAGE = Path(tio2nn.__file__).parent
MOST_LINES = 400
MOST_ARGUMENTS = 8

# From the ground to the roof. A folder stands for all of its modules; "" is the package tio2nn itself, the front door,
# which offers names of every floor and which no module of the package goes through.
FLOORS = (
    # the ground: what everything may import
    ("array_types", "cores", "errors", "job_part", "memory", "version", "wording"),
    # how bytes reach the disk and come back
    ("files",),
    # atoms in a cell, and what can be said of them as they are
    ("structures",),
    ("parameters",),
    # formats of structure files
    ("io",),
    # from structures to features, from features to energies
    ("descriptors",),
    ("potential",),
    # potentials in formats of other programs
    ("export",),
    # a project: its paths, its stores, how its parts hang together
    ("project",),
    ("parallel",),
    ("training",),
    ("tuning",),
    ("evaluation",),
    # the verbs
    ("workflow",),
    # wrappers: other programs' view of a potential
    ("interfaces",),
    # what people see
    ("cli",),
    ("__main__",),
    ("",),
)

# Where a library may be imported: modules, or folders with all of theirs. A library that is not in the table may be
# imported anywhere.
ROOMS = {
    "ase": (
        "io.database",
        "interfaces.ase",
        "interfaces.lammps",
        "structures.structure",
        "structures.geometry",
    ),
    "dask": ("parallel",),
    "dpdata": ("io.outputs.foreign",),
    "distributed": ("parallel", "cli.pools"),
    "filelock": ("files.lock",),
    "jinja2": ("evaluation.html_report",),
    "keras": ("training", "tuning.trial"),
    "keras_tuner": ("tuning.oracles",),
    "lammps": ("interfaces.lammps",),
    "llvmlite": ("descriptors.kernels.lane_code", "descriptors.kernels.lanes", "descriptors.processor"),
    "matplotlib": ("evaluation.plots", "evaluation.curve_plot", "evaluation.error_plots"),
    "openmm": ("interfaces.openmm",),
    "numba": (
        "descriptors.compile_notice",
        "descriptors.kernels.compiling",
        "descriptors.kernels.lane_code",
        "descriptors.kernels.lanes",
        "training.force_kernels",
    ),
    "pandas": ("evaluation.plots",),
    "pydantic": ("parameters",),
    "pydantic_core": ("parameters",),
    "rich": ("cli.console",),
    "scipy": (
        "descriptors.neighbors",
        "evaluation.nearest",
        "evaluation.power_law",
        "export.aenet",
        "potential.loops",
        "potential.merged",
        "structures.contradictions",
        "structures.geometry",
        "structures.groups",
    ),
    "tensorflow": ("training", "tuning.trial"),
    "typer": ("cli",),
    "psutil": ("parallel.hosting",),
    # a file that runs code when it is read is no file format; LAMMPS asks for one. Between the machines of a cluster,
    # which run what they are sent, tasks and their messages travel so.
    "pickle": ("interfaces.mliap", "parallel.parcels"),
}

# modules that must be of use without the libraries of training
WITHOUT_TRAINING = (
    "",
    "interfaces.ase",
    "interfaces.lammps",
    "interfaces.mliap",
    "interfaces.openmm",
    "potential.potential",
    *(
        f"workflow.{verb}"
        for verb in ("extract", "featurize", "predict", "merge", "export", "evaluate", "select", "status")
    ),
)

# folders of tests of what is no part of the package
OTHER_TESTS = ("benchmarks", "documentation")


class Import(NamedTuple):
    """One imported name."""

    line: int
    module: str  # as far as it is a module: "tio2nn.io.read", "numpy.typing"
    at_run_time: bool  # not only for type checkers


@cache
def sources() -> dict[str, Path]:
    """Each module, without the leading "tio2nn.", and its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(sources()[module].read_text(encoding="utf-8")), at_run_time=True))


def _imports(node: ast.AST, at_run_time: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(node.lineno, alias.name, at_run_time)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: expected an absolute import, got a relative one"
        for alias in node.names:
            # `from tio2nn import console` imports a module, `from tio2nn.errors import InputError` a name of one
            name = f"{node.module}.{alias.name}"
            yield Import(node.lineno, name if _inside(name) in sources() else str(node.module), at_run_time)
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for child in node.body:
            yield from _imports(child, at_run_time=False)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, at_run_time)


def _inside(name: str) -> str | None:
    """The module of this package that a full name means, "" for the package itself; None for other packages."""
    package, _, module = name.partition(".")
    return module if package == "tio2nn" else None


def _is_within(module: str, place: str) -> bool:
    return module == place or (place != "" and module.startswith(f"{place}."))


def floor(module: str) -> int:
    floors = [
        (len(place), number)
        for number, places in enumerate(FLOORS)
        for place in places
        if _is_within(module, place)
    ]
    assert floors, f"tio2nn.{module} has no floor: give it a place in FLOORS of {Path(__file__).name}"
    return max(floors)[1]


def neighbors(module: str, *, at_run_time_only: bool = False) -> set[str]:
    """The modules of this package that a module imports, anywhere in its text."""
    named = (item for item in imports(module) if item.at_run_time or not at_run_time_only)
    found = {inside for item in named if (inside := _inside(item.module)) is not None}
    return found - {module}


@pytest.mark.parametrize("module", sources())
def test_a_module_imports_only_from_its_own_floor_or_a_lower_one(module: str) -> None:
    upward = [
        f"{sources()[module]}:{item.line}: {module} imports {inside}"
        for item in imports(module)
        if (inside := _inside(item.module)) is not None and floor(inside) > floor(module)
    ]
    assert not upward, "expected imports from the own floor or a lower one, got " + "; ".join(upward)


def test_every_place_in_the_table_of_floors_exists_once() -> None:
    places = [place for floor_ in FLOORS for place in floor_]
    assert {module.partition(".")[0] for module in sources()} == set(places)
    assert len(set(places)) == len(places)
    assert [place for place in places if place not in sources()] == []


def test_the_documentation_shows_every_folder_from_the_roof_to_the_ground() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    block = page.split("```")[1].removeprefix("text\n")
    names = [word.rstrip("/") for line in block.splitlines() for word in line.partition("  ")[0].split()]
    assert sorted(names) == sorted(place for floor_ in FLOORS for place in floor_ if place)
    floors = [floor(name) for name in names]
    assert floors == sorted(floors, reverse=True)


def _defined(module: ast.Module) -> Iterator[str]:
    """The functions, classes, constants and types of a module."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Name) and target.id[0].isupper():
                yield target.id


def test_no_name_stands_on_more_than_two_floors() -> None:
    places: dict[str, set[str]] = {}
    for module, path in sources().items():
        room, _, name = module.partition(".")
        public = [
            own for own in _defined(ast.parse(path.read_text(encoding="utf-8"))) if not own.startswith("_")
        ]
        for own in [name.rpartition(".")[2], *public]:
            places.setdefault(own, set()).add(room)
    crowded = {name: sorted(rooms) for name, rooms in places.items() if name and len(rooms) > 2}
    assert crowded == {}


def test_tests_mirror_the_package() -> None:
    """What tests more than one folder lies above all of them."""
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in sources().values()}
    of_tests = {path.parent.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    assert of_tests - rooms == set(OTHER_TESTS)
    assert [room for room in sorted(rooms) if not list((TESTS / room).glob("test_*.py"))] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    # a package imports its own modules to offer them, and they import each other past it
    graph = {module: neighbors(module) for module in sources()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("expected no circle, got " + " → ".join(error.args[1]))


@pytest.mark.parametrize("library", ROOMS)
def test_a_library_is_imported_only_in_its_rooms(library: str) -> None:
    elsewhere = [
        f"{sources()[module]}:{item.line}"
        for module in sources()
        for item in imports(module)
        if item.at_run_time
        and item.module.split(".")[0] == library
        and not any(_is_within(module, place) for place in ROOMS[library])
    ]
    assert not elsewhere, (
        f"expected {library} only in {', '.join(ROOMS[library]) or 'no module'}, got {elsewhere}"
    )


@pytest.mark.parametrize("module", WITHOUT_TRAINING)
def test_no_path_of_imports_leads_from_a_module_that_does_not_train_to_keras(module: str) -> None:
    reached = {module: module}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        # importing a module imports the packages that it lies in
        packages = {current.rpartition(".")[0], ""}
        for neighbor in (neighbors(current, at_run_time_only=True) | packages) - set(reached):
            reached[neighbor] = f"{reached[current]} → {neighbor}"
            waiting.append(neighbor)
    heavy = [
        f"{path} → {item.module}"
        for end, path in reached.items()
        for item in imports(end)
        if item.at_run_time and item.module.split(".")[0] in TRAINING_ONLY
    ]
    assert not heavy, f"expected no way to {', '.join(TRAINING_ONLY)}, got {'; '.join(heavy)}"


@pytest.mark.parametrize("module", sources())
def test_a_file_is_short_enough_to_be_read(module: str) -> None:
    n_lines = len(sources()[module].read_text(encoding="utf-8").splitlines())
    assert n_lines <= MOST_LINES, f"expected at most {MOST_LINES} lines in {sources()[module]}, got {n_lines}"


def test_files_beside_the_package_are_short_too() -> None:
    # environments lie in folders of .ci
    paths = [*(ROOT / ".ci").glob("*.py"), *(p for d in (TESTS, DOCS, SAMPLE_DATA) for p in d.rglob("*.py"))]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sorted(paths)}
    assert {path: n_lines for path, n_lines in lengths.items() if n_lines > MOST_LINES} == {}


def _arguments(module: str) -> Iterator[tuple[str, int]]:
    """Each function of a module, but for commands, and the number of its arguments, but for `self` and `cls`."""
    for node in ast.walk(ast.parse(sources()[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        if any(isinstance(item, ast.Name) and item.id == "command" for item in decorators):
            # one for each option
            continue
        own = node.args
        arguments = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
        name = f"line {node.lineno}" if isinstance(node, ast.Lambda) else node.name
        yield name, len([item for item in arguments if item.arg not in ("self", "cls")])


@pytest.mark.parametrize("module", sources())
def test_a_function_has_few_arguments(module: str) -> None:
    many = {name: n for name, n in _arguments(module) if n > MOST_ARGUMENTS}
    assert not many, f"expected at most {MOST_ARGUMENTS} arguments in {sources()[module]}, got {many}"
