from __future__ import annotations

import errno
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import ase.io
import pytest
from command_line import invoke, refusal
from potentials import POTENTIAL
from projects import (
    ATOMIC_ENERGIES,
    PARAMETERS,
    extracted_project,
    small_project,
    structures,
    write_files,
)
from typer.main import get_command
from typer.testing import CliRunner

from tio2nn.cli import extract, featurize
from tio2nn.cli.commands import app
from tio2nn.errors import InputError
from tio2nn.parameters.fit_parameters import RECIPE_NAMES
from tio2nn.parameters.presets import PRESETS
from tio2nn.project.project import ENVIRONMENT_VARIABLE, Project
from tio2nn.project.structure_store import write_store
from tio2nn.version import __version__

PARSERS: dict[str, Any] = cast(Any, get_command(app)).commands
COMMANDS = (
    "init",
    "extract",
    "featurize",
    "tune",
    "train",
    "predict",
    "evaluate",
    "select",
    "learning-curve",
    "convert",
    "merge",
    "export",
    "run",
    "status",
    "schema",
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no project named in the environment, for every test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path


# --- help and version ---------------------------------------------------------------------------------------


def test_the_version_is_printed() -> None:
    assert invoke("--version") == (f"tio2nn {__version__}\n", "")


def test_without_a_command_help_is_shown_and_names_all_commands() -> None:
    ended = CliRunner().invoke(app, [])
    assert ended.exit_code == 2
    shown = ended.stdout + ended.stderr
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)
    assert set(PARSERS) == set(COMMANDS)


def test_no_summary_of_a_command_is_cut_in_a_terminal_of_80_columns() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=78).stdout  # Click leaves a margin of 2
    of_commands = shown[shown.index("Commands:") :].splitlines()[1:]
    assert len(of_commands) == len(COMMANDS)
    assert [line for line in of_commands if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(command: str) -> None:
    found = PARSERS[command]
    assert found.help
    assert found.help.splitlines()[0].endswith(".")
    assert [param.name for param in found.params if not getattr(param, "help", None)] == []
    assert invoke(command, "-h") == invoke(command, "--help")


@pytest.mark.parametrize(("option", "names"), [("preset", PRESETS), ("recipe", dict.fromkeys(RECIPE_NAMES))])
def test_the_help_names_every_preset_and_every_recipe(option: str, names: dict[str, object]) -> None:
    found = PARSERS["run"]
    text = next(param.help for param in found.params if param.name == option)
    assert all(name in text for name in names)


# --- exit code 2: usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason", "command"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "tio2nn"),
        (["train", "--epoch-count", "3"], "No such option: --epoch-count", "tio2nn train"),
        (["train", "--epochs"], "Option '--epochs' requires an argument", "tio2nn train"),
        (["extract"], "Missing argument 'SOURCE", "tio2nn extract"),
        (["featurize", "-j", "0"], "Invalid value for '--jobs' / '-j': ", "tio2nn featurize"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs': ", "tio2nn train"),
        (
            ["predict", "--format", "xml", "a.xsf"],
            "Invalid value for '--format' / '-f': 'xml' is not one of ",
            "tio2nn predict",
        ),
        (
            ["status", ": Value error, x"],
            "Got unexpected extra argument(s) (: Value error, x)",
            "tio2nn status",
        ),
        (["status", "more"], "Got unexpected extra argument", "tio2nn status"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_ends_with_2_in_one_line(
    arguments: list[str], reason: str, command: str
) -> None:
    line = refusal(*arguments, code=2)
    assert line.startswith(reason)
    assert line.endswith(f" see {command} --help")


def test_a_command_line_without_words_shows_the_help() -> None:
    _, err = invoke(code=2)
    assert err.startswith("Usage: tio2nn ")
    assert "learning-curve" in err


@pytest.mark.parametrize("option", ["-C", "--jobs", "--members=3"])
def test_an_option_before_the_command_is_told_its_place(option: str) -> None:
    line = refusal("--debug", option, "p", "status", code=2)
    name = option.partition("=")[0]
    assert line == f"No such option: {name} (options stand after the command); see tio2nn --help"


def test_an_option_of_no_command_is_simply_unknown() -> None:
    line = refusal("--colour", "status", code=2)
    assert line.startswith("No such option: --colour")
    assert "stand after" not in line


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_split_file_is_read_before_tensorflow_starts(here: Path, command: str) -> None:
    small_project(here / "p")
    assert refusal(command, "-C", "p", "--split", "nowhere.csv", code=3) == "nowhere.csv: no such file"


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("POSCAR", "no suffix"),
        ("XDATCAR_3", "no suffix"),
        ("a.cif", "the suffix '.cif'"),
        ("CONTCAR.1", "the suffix '.1'"),
    ],
)
def test_other_formats_of_structures_are_sent_to_ase(here: Path, name: str, got: str) -> None:
    (here / name).write_text("TiO2", encoding="utf-8")
    Project.create(here / "p", PARAMETERS)
    said = refusal("extract", name, "-C", "p", code=3)
    assert said.startswith(f"{name}: expected a structure file (")
    assert said.endswith(f"got {got} and content of no known format; ASE converts it to extended XYZ")
    (here / "notes.txt").write_text("TiO2", encoding="utf-8")
    assert refusal("extract", "notes.txt", "-C", "p", code=3).endswith(
        "got the suffix '.txt' and content of no known format"
    )


def test_foreign_elements_are_all_named_and_rejections_of_a_file_shown_up_to_ten(here: Path) -> None:
    POTENTIAL.save(here / "potential.npz")
    foreign = [replace(s, elements=("Cu", "Au", *s.elements[2:])) for s in structures()[:12]]
    write_files(here / "files", [structures()[12], *foreign])
    out, err = invoke("predict", "files", "--potential", "potential.npz", code=3)
    assert len(out.splitlines()) == 2
    assert err.count("got Au, Cu") == 12
    ase.io.write(here / "frames.xyz", [structure.to_ase() for structure in foreign], format="extxyz")
    _, err = invoke("predict", "frames.xyz", "--potential", "potential.npz", code=3)
    lines = err.splitlines()
    assert len(lines) == 11
    for line in lines[:10]:
        assert re.fullmatch(r"frames\.xyz:\d+: expected the elements Ti, O, got Au, Cu", line)
    assert lines[10] == "frames.xyz: ... and 2 more structures"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["init", "--preset", "artrith-urban-2014"],
            'auto, extended, rili-2024, got "artrith-urban-2014", did you mean "artrith-urban-2016"?',
        ),
        (["init", "--elements", "Ti,Oo"], 'elements[1]: expected a chemical symbol, got "Oo"'),
        (["init", "--elements", ","], "elements: expected "),
        (["run", "files", "--elements", "Ti,Xx"], 'elements[1]: expected a chemical symbol, got "Xx"'),
        (["run", "files", "--preset", "rili-2042"], 'did you mean "rili-2024"?'),
        (["run", "files", "--recipe", "quik"], 'did you mean "quick"?'),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_made(
    here: Path, arguments: list[str], expected: str
) -> None:
    write_files(here / "files", structures()[:3])
    assert expected in refusal(*arguments, code=2)
    assert [path.name for path in here.iterdir()] == ["files"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--recipe", "recrod"], 'did you mean "record"?'),
        (
            ["train", "--split", "list.txt", "--split-by", "grouped"],
            "--split cannot be combined with --split-by",
        ),
        (["train", "--split", "list.txt", "--new-split"], "--split cannot be combined with --split-by"),
        (["train", "--split-by", "chance"], '--split-by: expected "random" or "grouped", got "chance"'),
        (["tune", "--strategy", "gird"], "--strategy: expected "),
    ],
)
def test_a_flag_with_a_value_that_the_field_does_not_take_is_a_usage_error(
    here: Path, arguments: list[str], expected: str
) -> None:
    Project.create(here, PARAMETERS)
    assert expected in refusal(*arguments, code=2)


# --- exit code 3: input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["extract", "x.xsf"], ["featurize"], ["train"], ["tune"], ["predict", "x.xsf"], ["status"]]
)
def test_without_a_project_init_is_named(arguments: list[str]) -> None:
    expected = 'no params.json in the current directory or above; run "tio2nn init" first'
    assert refusal(*arguments, code=3) == expected
    expected = 'no params.json in elsewhere; run "tio2nn init elsewhere" first'
    assert refusal(*arguments, "-C", "elsewhere", code=3) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["featurize"], 'no structures in p; run "tio2nn extract -C p SOURCE..." first'),
        (["train"], 'no structures in p; run "tio2nn extract -C p SOURCE..." first'),
        (["tune"], 'no structures in p; run "tio2nn extract -C p SOURCE..." first'),
        (["train", "--tuned"], 'no tuning results in p; run "tio2nn tune -C p" first'),
        (["predict", "x.xsf"], 'no model in p; run "tio2nn train -C p" first'),
        (["evaluate"], 'no model in p; run "tio2nn train -C p" first'),
    ],
)
def test_missing_input_names_the_command_that_makes_it(arguments: list[str], expected: str) -> None:
    Project.create(Path("p"), PARAMETERS)
    assert refusal(*arguments, "-C", "p", code=3) == expected


@pytest.mark.parametrize("command", ["train", "tune"])
def test_missing_features_are_noticed_before_tensorflow_is_started(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tio2nn.workflow.train", "tio2nn.workflow.tune"):
        monkeypatch.setitem(sys.modules, module, None)
    extracted_project(Path("p"))
    assert refusal(command, "-C", "p", code=3) == 'no features in p; run "tio2nn featurize -C p" first'


@pytest.mark.parametrize("what", ["parameters", "structures"])
def test_stale_features_are_refused(what: str) -> None:
    project = small_project(Path("p"))
    if what == "parameters":
        changed = json.loads(project.parameters_file.read_text(encoding="utf-8")) | {"cutoff": 3.5}
        project.parameters_file.write_text(json.dumps(changed), encoding="utf-8")
        made = "with another parameter set (elements, cutoff or functions)"
    else:
        write_store(project.structures_file, structures()[:20], reference_energies=ATOMIC_ENERGIES)
        made = "from other structures"
    out, err = invoke("train", "-C", "p", code=3)
    assert out == ""
    assert err.splitlines()[-1] == f'the features in p were made {made}; run "tio2nn featurize -C p" again'


def test_all_problems_of_the_parameters_are_one_line(here: Path) -> None:
    content = json.loads(PARAMETERS.to_json()) | {"cutof": 4.0, "cutoff": -1}
    (here / "params.json").write_text(json.dumps(content), encoding="utf-8")
    message = refusal("status", code=3)
    assert message.startswith("params.json: ")
    assert "cutoff: expected a number > 0 and <= 1000, got -1" in message
    assert 'did you mean "cutoff"?' in message


def test_a_file_of_the_system_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "p/energies.csv")

    Project.create(Path("p"), PARAMETERS)
    monkeypatch.setattr(extract, "perform", full)
    message = refusal("extract", "files", "-C", "p", code=3)
    assert message == "p/energies.csv: No space left on device"


# --- exit codes 1 and 130 -----------------------------------------------------------------------------------


def test_a_bug_is_one_line_and_a_traceback_with_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError("a\nb")

    Project.create(Path("p"), PARAMETERS)
    monkeypatch.setattr(featurize, "perform", wrong)
    assert "a bug in tio2nn; please report" in refusal("featurize", "-C", "p", code=1)
    ended = CliRunner().invoke(app, ["--debug", "featurize", "-C", "p"])
    assert isinstance(ended.exception, ZeroDivisionError)
    assert "a bug in tio2nn; please report" in refusal("featurize", "-C", "p", code=1)


def test_a_lack_of_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    class ResourceExhaustedError(Exception):
        """As TensorFlow calls it."""

    Project.create(Path("p"), PARAMETERS)
    for error in (MemoryError("3 GB"), ResourceExhaustedError("failed to allocate\nmemory")):
        monkeypatch.setattr(featurize, "perform", Mock(side_effect=error))
        assert refusal("featurize", "-C", "p", code=3).startswith("out of memory: ")


def test_debug_shows_the_traceback_of_a_users_error_too() -> None:
    assert isinstance(CliRunner().invoke(app, ["--debug", "status"]).exception, InputError)


@pytest.mark.parametrize("within", ["", "cause", "context"])
def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, within: str) -> None:
    def interrupted(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            if not within:
                raise
            # as compiled code does in which it arrives
            failed = SystemError("returned a result with an exception set")
            raise failed from (error if within == "cause" else failed.__cause__)

    Project.create(Path("p"), PARAMETERS)
    monkeypatch.setattr(featurize, "perform", interrupted)
    message = refusal("--debug", "featurize", "-C", "p", code=130)
    assert message == "interrupted; finished work is kept"


# --- finding the project ------------------------------------------------------------------------------------


def test_the_project_is_that_of_the_option_or_of_the_environment_or_the_nearest_above(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".", "named", "environment", "environment/inner"):
        Project.create(here / name, PARAMETERS)
    (here / "environment/inner/deep/deeper").mkdir(parents=True)

    def root(*arguments: object) -> Path:
        return Path(json.loads(invoke("status", "--json", *arguments)[0])["root"]).resolve()

    assert root() == here.resolve()
    monkeypatch.chdir(here / "environment/inner/deep/deeper")
    assert root() == (here / "environment/inner").resolve()
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(here / "environment"))
    assert root() == (here / "environment").resolve()
    assert root("-C", here / "named") == root("--project", here / "named") == (here / "named").resolve()


def test_paths_in_arguments_are_relative_to_the_current_directory_and_not_to_the_project(here: Path) -> None:
    files = write_files(here / "files", structures()[:4])
    Project.create(here / "p", PARAMETERS)
    invoke("extract", "files", "files/structure0001.xsf", "-C", "p")
    table = (here / "p/energies.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [
        [path.stem, f"files/{path.name}"] for path in files
    ]


def test_help_lists_commands_in_the_order_in_which_they_are_used() -> None:
    order = (
        "init extract featurize tune train predict evaluate select learning-curve convert merge export run status "
        "schema"
    )
    assert list(PARSERS) == order.split()
