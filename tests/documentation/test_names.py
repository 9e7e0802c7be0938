"""What README and documentation say of commands, options, files, columns and names is so."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import outputs
import pytest
from benchmarks.runner import THREADS, parse
from command_line import invoke
from pages import PAGES, blocks, calls, code, path_of, prose, table, text_of
from places import DOCS, README, ROOT
from projects import project_with_derivatives, structures, trained_project, write_files
from typer.main import get_command

import tio2nn
from tio2nn import errors
from tio2nn.cli.commands import app
from tio2nn.cli.interrupt import EXIT_CODE
from tio2nn.evaluation.kinds import COLUMNS as KINDS
from tio2nn.evaluation.residuals import COLUMNS
from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.io.read import read_structures
from tio2nn.parameters.fit_parameters import RECIPE_NAMES
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import PRESETS, preset
from tio2nn.parameters.schema import describe
from tio2nn.project import parts
from tio2nn.project.entries import ENTRIES
from tio2nn.project.project import Project
from tio2nn.workflow.train import train

MAIN = cast(Any, get_command(app))
PARSERS: dict[str, Any] = MAIN.commands
OPTIONS = {
    name: {
        option
        for param in parser.params
        if param.param_type_name == "option"
        for option in (*param.opts, *param.secondary_opts)
    }
    | {"-h", "--help"}
    for name, parser in PARSERS.items()
}
OF_THE_PROGRAM = {option for param in MAIN.params for option in param.opts} | {"-h", "--help"}
# pip, pytest and the like have options of their own
OF_OTHER_PROGRAMS = ("python ", "pip ", "ruff ", "sphinx-build ", "/usr/bin/time ", "dask ")
MOST_BYTES = 6_000


def unknown_options(command: str, words: list[str]) -> set[str]:
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word, re.IGNORECASE)}
    return given - OPTIONS[command]


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= MOST_BYTES


# --- commands and options -----------------------------------------------------------------------------------


@pytest.fixture
def program_markdown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes the generated pages."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    yield import_module("program_markdown")
    del sys.modules["program_markdown"]


def test_the_page_of_commands_has_every_command_and_every_option(program_markdown: Any) -> None:
    text = "\n".join(program_markdown.commands())
    sections = dict(re.findall(r"^## `([\w-]+)`$(.*?)(?=^\(command-|\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(PARSERS)
    for name, section in sections.items():
        shown = set(re.findall(r"`(--?[A-Za-z-]+)", section))
        assert shown | {"-h", "--help"} == OPTIONS[name]
    of_the_program = set(re.findall(r"`(--?[A-Za-z-]+)", "\n".join(program_markdown.options())))
    assert of_the_program | {"-h", "--help"} == OF_THE_PROGRAM


def test_the_page_of_parameters_has_every_field_with_its_meaning(program_markdown: Any) -> None:
    text = "\n".join([*program_markdown.fields(), *program_markdown.sections()])
    rows = describe(ParameterSet)
    assert len(rows) > 40
    for row in rows:
        assert f"`{row.path}`" in text
        assert row.meaning.replace("<", "&lt;") in text


def every_call() -> list[Any]:
    found = {" ".join(words): (page, words) for page in PAGES for words in calls(page)}
    return [pytest.param(words, id=f"{page}: {line}") for line, (page, words) in found.items()]


@pytest.mark.parametrize("words", every_call())
def test_every_call_names_a_command_and_options_that_exist(words: list[str]) -> None:
    # without a command `tio2nn` has options of its own
    if words[0].startswith("-"):
        assert words[0] in OF_THE_PROGRAM
    elif words[0] not in ("COMMAND", "..."):
        assert words[0] in PARSERS, words
        assert unknown_options(words[0], words[1:]) == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_anywhere_exists_in_some_command(page: str) -> None:
    known = OF_THE_PROGRAM.union(*OPTIONS.values())
    spans = [span for span in code(prose(page)) if not span.startswith(OF_OTHER_PROGRAMS)]
    named = {option for span in spans for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert named - known == set()


# --- names of the program -----------------------------------------------------------------------------------


def test_presets_recipes_and_columns_are_those_of_the_program() -> None:
    page = "docs/reference/parameters.md"
    presets = {code(row[0])[0]: int(row[2].split()[0]) for row in table(page, "preset")}
    assert presets == {name: preset(name, ("Ti", "O")).n_features for name in PRESETS}
    assert {code(row[0])[0] for row in table(page, "recipe")} == set(RECIPE_NAMES)


def test_the_table_of_files_has_every_part_of_a_project_and_the_command_that_makes_it() -> None:
    rows = table("docs/reference/project.md", "file")
    shown = {(code(row[0])[0].split("/")[0], code(row[1])[0]) for row in rows}
    assert shown == {(entry.path, entry.command) for entry in ENTRIES}


def test_the_states_of_a_part_are_those_of_the_program() -> None:
    sentence = prose("docs/reference/project.md").partition("lists every part as ")[2].partition(".")[0]
    assert code(sentence) == [parts.FRESH, parts.STALE, parts.MISSING, parts.BROKEN, parts.IN_PROGRESS]


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = {int(row[0]): row[1] for row in table("docs/reference/project.md", "code")}
    assert set(codes) == {
        0,
        errors.Tio2nnError.exit_code,
        errors.UsageError.exit_code,
        errors.InputError.exit_code,
        EXIT_CODE,
    }
    assert codes[errors.UsageError.exit_code].startswith("usage")
    assert codes[errors.InputError.exit_code].startswith("input")


@pytest.mark.parametrize(
    ("page", "block"), [(page, block) for page in PAGES for block in blocks(page, "json")], ids=str
)
def test_the_parameters_shown_are_a_parameter_set(tmp_path: Path, page: str, block: Any) -> None:
    (tmp_path / "params.json").write_text(block.text, encoding="utf-8")
    parameters = json.loads(Project(tmp_path).parameters().to_json())
    for section, fields in json.loads(block.text).items():
        if isinstance(fields, dict):
            assert {key: parameters[section][key] for key in fields} == fields, page


def test_the_python_page_has_every_name_of_the_front_door() -> None:
    documented = re.findall(r"::\s+tio2nn\.(\w+)(?:\(.*\))?$", text_of("docs/reference/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(name for name in tio2nn.__all__ if not name.startswith("__"))


# --- what commands write ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A committee trained on forces, and evaluated."""
    project = project_with_derivatives(tmp_path_factory.mktemp("evaluated") / "p")
    parameters = project.parameters().with_overrides(training={"forces": True, "members": 2, "epochs": 2})
    train(project, parameters, jobs=1)
    invoke("evaluate", "-C", project.root)
    labeled = project.root.parent / "labeled.xyz"
    frames = [replace(s, stress=0.01 * np.eye(3), config_type="any") for s in structures()[:2]]
    labeled.write_text("".join(exact_extxyz(structure, {}) for structure in frames), encoding="utf-8")
    invoke("evaluate", "-C", project.root, labeled)
    return project


def columns_in(page: str, heading: str) -> list[str]:
    """What is set as code in the section of a page, without its tables."""
    section = re.split(rf"^#+ {re.escape(heading)}$", prose(page), flags=re.MULTILINE)[1]
    return code(re.split(r"^#", section, flags=re.MULTILINE)[0])


def header_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[0].split(",")


def test_columns_of_residuals_and_history_are_those_of_the_files(evaluated: Project) -> None:
    page = "docs/reference/metrics.md"
    assert tuple(columns_in(page, "evaluation/residuals.csv")) == COLUMNS
    assert tuple(header_of(evaluated.residuals_file)) == COLUMNS
    assert columns_in(page, "model/history.csv") == header_of(evaluated.history_file)


def test_every_key_of_the_metrics_is_explained(evaluated: Project) -> None:
    files = (evaluated.evaluation_metrics_file, evaluated.other_evaluation_directory / "metrics.json")
    metrics, others = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    rows = table("docs/reference/metrics.md", "key")
    explained = {name for row in rows for name in code(row[0])}
    assert {"n_structures", "energy", "forces", "leakage", "spread"} <= explained
    assert (set(metrics) | set(others)) - explained == set()
    assert {"stress", "by_config_type"} <= set(others)
    assert set(code(next(row[1] for row in rows if row[0] == "`stress`"))) == set(others["stress"])
    kinds = tuple(columns_in("docs/reference/metrics.md", "evaluation/config_types.csv"))
    assert kinds == KINDS == tuple(others["by_config_type"][0])
    assert tuple(header_of(evaluated.other_evaluation_directory / "config_types.csv")) == KINDS
    of_energy, of_forces = (
        next(code(row[1]) for row in rows if row[0] == name) for name in ("`energy`", "`forces`")
    )
    assert set(of_energy) == set(metrics["energy"])
    assert set(of_forces) == set(metrics["forces"])


def test_every_figure_of_an_evaluation_is_explained(evaluated: Project) -> None:
    figures = {path.name for path in evaluated.evaluation_directory.glob("**/*.png")}
    assert {code(row[0])[0] for row in table("docs/reference/metrics.md", "file")} == figures
    content = next(row[2] for row in table("docs/reference/project.md", "file") if "evaluation" in row[0])
    assert figures <= set(code(content))


def test_the_columns_of_energies_csv_are_named(tmp_path: Path) -> None:
    (tmp_path / "vasprun.xml").write_text(outputs.vasprun())
    invoke("init", tmp_path / "p")
    frames = [replace(s, config_type="any", weight=2.0) for s in read_structures(tmp_path / "vasprun.xml")]
    text = "".join(exact_extxyz(structure, {}) for structure in frames)
    (tmp_path / "all.xyz").write_text(text, encoding="utf-8")
    invoke("extract", "-C", tmp_path / "p", tmp_path / "all.xyz")
    energies = tmp_path / "p/energies.csv"
    header, *rows = energies.read_text(encoding="utf-8").splitlines()
    energies.write_text("\n".join([f"{header},weight", *(f"{row},3" for row in rows)]), encoding="utf-8")
    invoke("extract", "-C", tmp_path / "p", tmp_path / "all.xyz")
    content = next(row[2] for row in table("docs/reference/project.md", "file") if "energies" in row[0])
    counts = {"n_Si", "n_O"}  # "atoms of each element"
    assert code(content) == [name for name in header_of(energies) if name not in counts]


@pytest.mark.parametrize("forces", [False, True])
def test_the_columns_of_predict_are_those_it_prints(tmp_path: Path, forces: bool) -> None:
    project = trained_project(tmp_path / "p")
    (file,) = write_files(tmp_path, structures()[:1])
    flags = ["--forces"] if forces else []
    page = prose("docs/reference/formats.md")
    tables = page.partition("### Tables")[2].partition("- `spread`")[0].split("With `--forces`")
    plain = [name for name in code(tables[0]) if not name.startswith(("--", "#"))]
    out, _ = invoke("predict", "-C", project.root, file, "--format", "csv", *flags)
    assert out.splitlines()[0].split(",") == [*plain, *(code(tables[1]) if forces else [])]
    out, _ = invoke("predict", "-C", project.root, file, "--format", "json", *flags)
    named = set(code(page.partition("### JSON")[2].partition("### Structures")[0]))
    assert set(json.loads(out)) <= named


# --- places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    links = [link for link in re.findall(r"\[[^\]]*\]\(([^)]+)\)", text_of(page)) if "://" not in link]
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    assert links
    assert [link for link in links if link not in anchors and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_pictures_exist(page: str) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text_of(page))
    assert [name for name in pictures if not (path_of(page).parent / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_repository_that_are_named_exist(page: str) -> None:
    # what Sphinx makes
    made = {"docs/_build"}
    spans = {word for span in code(text_of(page)) for word in span.split()}
    paths = {span for span in spans if re.fullmatch(r"(tests|tio2nn|docs|sample_data)/[\w./-]+", span)}
    assert sorted(path for path in paths - made if not (ROOT / path).exists()) == []


def benchmark_lines() -> list[str]:
    texts = [
        *(line for page in PAGES for block in blocks(page, "sh") for line in block.text.splitlines()),
        *(span for page in PAGES for span in code(prose(page))),
    ]
    return sorted({text for text in texts if re.match(r"python tests/\S+ ", text)})


@pytest.mark.parametrize("line", benchmark_lines())
def test_benchmarks_exist_and_take_what_is_shown(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    python, folder, *words = shlex.split(line)
    assert (python, folder) == ("python", "tests/benchmarks")
    parse(words)
