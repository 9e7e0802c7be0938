"""What README.md says of commands, options, files and names is so, and what can be run of it runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from command_line import invoke
from examples import reader_folder
from places import ROOT
from typer.main import get_command

from tio2nn.cli.commands import app
from tio2nn.parameters.fit_parameters import RECIPE_NAMES
from tio2nn.parameters.presets import PRESETS, preset
from tio2nn.project.project import ENTRIES, ENVIRONMENT_VARIABLE, Project

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAIN = cast(Any, get_command(app))
PARSERS: dict[str, Any] = MAIN.commands
OPTIONS = {
    name: {option for param in parser.params for option in (*param.opts, *param.secondary_opts)}
    | {"-h", "--help"}
    for name, parser in PARSERS.items()
}
OF_THE_PROGRAM = {option for param in MAIN.params for option in param.opts} | {"-h", "--help"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def table(header: str) -> list[list[str]]:
    """Cells of the table whose first column has this header; `|` inside a cell is written `\\|`."""
    lines = iter(README.splitlines())
    next(line for line in lines if line.startswith(f"| {header} |"))
    next(lines)
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return cells


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def calls() -> list[list[str]]:
    """The words of every call of tio2nn, from its name to the next pipe or the end."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    found = [part for line in lines for part in re.split(r"\||&&|>", line)]
    return [words[1:] for part in found if (words := shlex.split(part, comments=True))[:1] == ["tio2nn"]]


def unknown_options(command: str, text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text, re.IGNORECASE)) - OPTIONS[command]


# --- names --------------------------------------------------------------------------------------------------


def test_the_table_of_commands_has_a_row_for_every_command() -> None:
    rows = [code(row[0])[0].split() for row in table("command")]
    assert {words[0] for words in rows} == {"tio2nn"}
    assert sorted(words[1] for words in rows) == sorted(PARSERS)


@pytest.mark.parametrize("row", table("command"), ids=lambda row: code(row[0])[0].split()[1])
def test_every_option_in_the_table_of_commands_exists(row: list[str]) -> None:
    synopsis = code(row[0])[0]
    command = synopsis.split()[1]
    assert unknown_options(command, " ".join([synopsis, *code(row[1])])) == set()


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_every_call_in_an_example_names_a_command_and_options_that_exist(words: list[str]) -> None:
    assert words[0] in PARSERS, words
    assert unknown_options(words[0], " ".join(words[1:])) == set()


def test_every_option_that_is_named_anywhere_exists_in_some_command() -> None:
    known = OF_THE_PROGRAM.union(*OPTIONS.values())
    outside_of_examples = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    # other programs have options of their own
    texts = [text for text in code(outside_of_examples) if not text.startswith("python ")]
    named = {option for text in texts for option in re.findall(r"--[a-z][a-z-]+", text)}
    assert named - known == set()


def test_presets_recipes_and_columns_are_those_of_the_program() -> None:
    presets = {code(row[0])[0]: int(row[2].split()[0]) for row in table("preset")}
    assert presets == {name: preset(name, ("Ti", "O")).n_features for name in PRESETS}
    assert {code(row[0])[0] for row in table("recipe")} == set(RECIPE_NAMES)


def test_the_table_of_files_has_every_part_of_a_project_and_the_command_that_makes_it() -> None:
    shown = {(code(row[0])[0].split("/")[0], code(row[1])[0]) for row in table("file")}
    assert shown == {(entry.path, entry.command) for entry in ENTRIES}


def test_the_parameters_shown_are_a_parameter_set(tmp_path: Path) -> None:
    (example,) = blocks("json")
    (tmp_path / "params.json").write_text(example, encoding="utf-8")
    parameters = Project(tmp_path).parameters()
    assert parameters.training.epochs == json.loads(example)["training"]["epochs"]


def test_links_lead_to_files_of_the_repository() -> None:
    links = [link for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", README) if "://" not in link]
    headings = re.findall(r"^#+ (.+)$", README, flags=re.MULTILINE)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    assert links
    assert [link for link in links if link not in anchors and not (ROOT / link).exists()] == []


# --- examples -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory like that of a reader: a few of the sample data, and a trained project."""
    reader_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path


def test_the_steps_can_be_taken_one_after_the_other(here: Path) -> None:
    (steps,) = (block for block in blocks("sh") if block.startswith("tio2nn init my-project"))
    for line in steps.splitlines():
        words = shlex.split(line)[1:]
        # enough to be written and read again
        out, _ = invoke(*words, *(["--epochs", "2"] if words[0] == "train" else []))
        assert bool(out) == (words[0] in ("predict", "status"))
    assert "nothing to do" in out
    assert (here / "my-project/evaluation/parity.png").exists()


def test_the_examples_of_pipes_run(here: Path) -> None:
    (pipes,) = (block for block in blocks("sh") if "find sample_data" in block)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for line in pipes.splitlines():
        command = ["sh", "-c", line]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=here, env={**os.environ, "PATH": path}
        )
        assert re.search(r"sample_data/structure\d{4}\.xsf", ended.stdout)
        assert "Traceback" not in ended.stderr
