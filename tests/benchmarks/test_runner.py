"""All benchmarks have one form, and what they measure outlives them."""

from __future__ import annotations

import argparse
import inspect
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmarks import alloys, epochs, few_stresses, materials, runner, scale
from benchmarks.record import Record, Row
from benchmarks.runner import NAMES, THREADS, parse
from places import ROOT, SAMPLE_DATA

from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure
from tio2nn.version import __version__

HERE = Path(__file__).parent
RESULTS = sorted((HERE / "results").glob("*.json"))
ORIGIN = ("benchmark", "command", "version", "commit", "processor", "cores", "date")
RECORD = Record(("made-up",), "1.2.3", None, "abacus", 1, "2026-01-02")
# does nothing but what a benchmark reads
OTHER_PROGRAM = """
import csv, json, pathlib, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("tio2nn 9.8.7")
elif words[0] == "run":
    with open(words[words.index("--split") + 1]) as handle:
        tested = [name for name, part in csv.reader(handle) if part == "test"]
    folder = pathlib.Path(words[words.index("-C") + 1]) / "evaluation"
    folder.mkdir(parents=True)
    with open(folder / "residuals.csv", "w") as handle:
        rows = csv.writer(handle)
        rows.writerow(["structure", "energy_eV", "predicted_eV"])
        rows.writerows([name, 0.0, 0.006] for name in tested)
    print(json.dumps({"energy": {"mae_meV_per_atom": len(tested), "rmse_meV_per_atom": 2.0 * len(tested)}}))
"""


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What benchmarks set where nothing is set ends with the test."""
    for name in THREADS:
        monkeypatch.setenv(name, "1")


@pytest.fixture
def program(tmp_path: Path) -> str:
    script = tmp_path / "other.py"
    script.write_text(OTHER_PROGRAM, encoding="utf-8")
    return shlex.join([sys.executable, str(script)])


def call(*words: object) -> list[str]:
    return [sys.executable, "tests/benchmarks", *map(str, words)]


def measured(capsys: pytest.CaptureFixture[str], *words: object) -> list[Row]:
    """The rows of a benchmark, in this process."""
    benchmark, arguments = parse([str(word) for word in words])
    rows = list(benchmark.measure(arguments))
    assert capsys.readouterr().out == ""
    return rows


# --- the form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_the_interface(name: str) -> None:
    benchmark = runner.module(name)
    assert inspect.isgeneratorfunction(benchmark.measure)
    assert list(inspect.signature(benchmark.measure).parameters) == ["arguments"]
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    assert len(parser.format_help()) > 0
    assert not hasattr(benchmark, "main")
    assert not hasattr(benchmark, "print")


def test_every_benchmark_is_listed() -> None:
    found = {path.stem for path in HERE.glob("*.py") if "\ndef measure(" in path.read_text(encoding="utf-8")}
    assert found == {name.replace("-", "_") for name in NAMES}


def test_only_the_runner_reads_command_lines_and_prints_rows() -> None:
    for path in HERE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        # forces.py serves itself in a process of another version, ranks.py starts ranks
        allowed = ("runner.py", "forces.py", "ranks.py", Path(__file__).name)
        assert ("sys.argv" in text) == (path.name in allowed), path.name
        prints = [line for line in text.splitlines() if line.strip().startswith("print(")]
        if path.name not in ("record.py", *allowed):
            assert [line for line in prints if "sys.stderr" not in line] == [], path.name


def test_help_lists_the_benchmarks_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in NAMES:
        assert f"  {name:20}{(runner.module(name).__doc__ or '').splitlines()[0]}" in shown


@pytest.mark.parametrize("words", [[], ["accuracies"], ["derivatives"], ["scale", "--divisions", "3"]])
def test_wrong_command_lines_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert "usage: python tests/benchmarks" in capsys.readouterr().err


# --- what is kept -------------------------------------------------------------------------------------------


def made_up(file: Path, seen: list[Any]) -> ModuleType:
    """A benchmark that looks into its file before each row but the first."""
    benchmark = ModuleType("made_up")

    def measure(_: argparse.Namespace) -> Iterator[Row]:
        yield {"what": "first", "seconds": 1.0}
        seen.append(json.loads(file.read_text(encoding="utf-8")))
        yield {"what": "second", "seconds": 3.0}
        seen.append(json.loads(file.read_text(encoding="utf-8")))
        raise KeyboardInterrupt

    vars(benchmark).update(measure=measure, summarize=lambda rows: [{"rows": len(rows)}])
    return benchmark


def test_the_file_has_each_row_as_soon_as_it_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, seen = tmp_path / "new/results.json", list[Any]()
    with pytest.raises(KeyboardInterrupt):
        runner.run(made_up(file, seen), argparse.Namespace(), RECORD, file)
    assert [[row["what"] for row in content["rows"]] for content in seen] == [["first"], ["first", "second"]]
    assert [content["table"] for content in seen] == [[{"rows": 1}], [{"rows": 2}]]
    assert json.loads(file.read_text(encoding="utf-8")) == seen[-1]
    assert {name: seen[0][name] for name in ORIGIN} == {
        "benchmark": "made-up",
        "command": "python tests/benchmarks made-up",
        "version": "1.2.3",
        "commit": None,
        "processor": "abacus",
        "cores": 1,
        "date": "2026-01-02",
    }
    assert list(file.parent.iterdir()) == [file]
    assert capsys.readouterr().out.splitlines() == [
        "python tests/benchmarks made-up",
        "tio2nn 1.2.3, abacus, 1 core, 2026-01-02",
        "",
        "what   seconds",
        "first        1",
        "second        3",
    ]


@pytest.mark.slow
def test_a_benchmark_that_is_killed_leaves_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "derivatives.json"
    words = call("derivatives", SAMPLE_DATA / "structure0001.xsf", "--repeats", 10**9, "--json", file)
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if file.exists() and len(json.loads(file.read_text(encoding="utf-8"))["rows"]) >= 6:
                break
            time.sleep(0.05)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["command"] == (
        "python tests/benchmarks derivatives sample_data/structure0001.xsf --repeats 1000000000"
    )
    assert content["version"] == __version__
    assert len(content["rows"]) >= 6
    assert content["rows"][0]["functions"] == 70
    assert [row["computed"] for row in content["table"]] == [
        "values",
        "values and Jacobian",
        "values and gradient",
    ]


def test_a_command_line_is_kept_without_paths_of_the_machine(tmp_path: Path, program: str) -> None:
    outside = tmp_path / "a set.xyz"
    outside.touch()
    words = [
        *("materials", str(outside), str(SAMPLE_DATA), "--types=/a/b", f"--options=--split {tmp_path}/a.csv"),
        *("--program", program, "--json", str(tmp_path / "a.json"), f"--json={tmp_path}", "--by", "config"),
    ]
    assert Record.new(words, program).words == (
        *("materials", "a set.xyz", "sample_data", "--types=b", "--options=--split a.csv"),
        *("--program", "PROGRAM", "--by", "config"),
    )


def test_the_version_is_that_of_the_measured_program(program: str) -> None:
    assert Record.new(["materials"], program)[1:3] == ("9.8.7", None)
    assert Record.new(["materials"]).version == __version__


# --- what is measured ---------------------------------------------------------------------------------------


def test_materials_splits_each_data_set_and_takes_means(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [SAMPLE_DATA / f"structure{number:04}.xsf" for number in (1, 2)]
    rows = measured(capsys, "materials", SAMPLE_DATA, data[0], "--splits", 2, "--program", program)
    assert [(row["data"], row["structures"], row["split"]) for row in rows] == [
        *(("sample_data", 300, split) for split in (0, 1)),
        *(("structure0001.xsf", 1, split) for split in (0, 1)),
    ]
    assert rows[0]["elements"] == "O Ti"
    assert rows[0]["energy_mae_meV_per_atom"] == 60
    assert rows[0]["by_config_type"][""][0] == 60
    first, second = materials.summarize(rows)
    assert (
        first["splits"],
        first["energy_mae_meV_per_atom"],
        first["energy_mae_meV_per_atom_deviation"],
    ) == (
        2,
        60.0,
        0.0,
    )
    assert first["force_mae_eV_per_A"] is None
    assert second["energy_rmse_meV_per_atom_worst"] == 0.0


def test_summaries_tell_mean_deviation_and_worst() -> None:
    about: Row = {"data": "a", "elements": "Li", "structures": 9, "held_out": "x", "options": ""}
    rows = [
        about | dict.fromkeys(materials.ERRORS, value) | {"cpu_seconds": 2.0} for value in (1.0, 2.0, 6.0)
    ]
    (row,) = materials.summarize(rows)
    assert row["energy_mae_meV_per_atom"] == 3.0
    assert row["energy_mae_meV_per_atom_deviation"] == pytest.approx(7**0.5, rel=1e-4)
    assert row["force_rmse_eV_per_A_worst"] == 6.0
    (alone,) = materials.summarize(rows[:1])
    assert alone["energy_mae_meV_per_atom_deviation"] is None
    about = {"elements": 3, "structures": 60, "options": "--energies-only", "force_mae_eV_per_A": 1.0}
    rows = [about | {"energy_rmse_over_spread": value, "cpu_seconds": 1.0} for value in (0.25, 0.75)]
    (row,) = alloys.summarize(rows)
    assert (row["energy_rmse_over_spread"], row["energy_rmse_over_spread_worst"]) == (0.5, 0.75)
    assert row["force_mae_eV_per_A"] is None


def test_few_stresses_compares_fits_to_the_same_structures() -> None:
    about: Row = {"data": "alloys of 7", "structures": 60, "held_out": "random", "options": ""}
    rows = [
        about | {"split": split, "fit": fit} | dict.fromkeys(few_stresses.RATIOS, value)
        for split, values in enumerate([(1.0, 2.0), (8.0, 4.0)])
        for fit, value in zip(few_stresses.ARMS, values, strict=True)
    ]
    assert few_stresses.summarize(rows[:1]) == []
    assert few_stresses.summarize(rows[:3]) == few_stresses.summarize(rows[:2])
    (row,) = few_stresses.summarize(rows)
    assert (row["splits"], row["force_rmse_eV_per_A_ratio"]) == (2, 1.0)
    assert row["energy_rmse_meV_per_atom_ratio_worst"] == 2.0


def test_scale_draws_a_line_through_the_two_largest() -> None:
    def row(structures: int, command: str, cpu: float) -> Row:
        memory, disk = 100.0 + 2e-3 * structures, 5e-4 * structures
        about = {"structures": structures, "atoms": 5 * structures, "command": command}
        return about | {"cpu_seconds": cpu, "memory_MB": memory, "disk_MB": disk}

    rows = [row(100_000, "predict DATA", 61.0), row(1_000_000, "predict DATA --potential POTENTIAL", 601.0)]
    linear, alone = scale.summarize([*rows, row(10_000, "predict DATA", 9.0), row(1000, "status", 3.6)])
    assert (linear["command"], linear["up_to"], linear["atoms_per_structure"]) == (
        "predict DATA",
        1_000_000,
        5.0,
    )
    assert (linear["cpu_ms"], linear["memory_kB"], linear["disk_kB"]) == (0.6, 2.0, 0.5)
    assert (linear["fixed_cpu_seconds"], linear["fixed_memory_MB"], linear["fixed_disk_MB"]) == (
        1.0,
        100.0,
        0.0,
    )
    assert [linear[f"cpu_hours_of_{million}"] for million in (1, 10, 100)] == [0.167, 1.67, 16.7]
    assert [linear[f"memory_GB_of_{million}"] for million in (1, 10, 100)] == [2.1, 20.1, 200.0]
    assert linear["growth"] == 0.99
    # of one size alone nothing is known about the start
    assert (alone["cpu_ms"], alone["fixed_cpu_seconds"], alone["growth"]) == (3.6, 0.0, None)


def test_scale_makes_the_same_archive_again_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    arguments = argparse.Namespace(potential=None)
    for name in ("one.tar", "other.tar"):
        scale._files(tmp_path / name, 60, scale.CELLS["small"], arguments)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    structures = [item for item in read_structures([tmp_path / "one.tar"]) if isinstance(item, Structure)]
    assert len(structures) == 60
    assert {structure.n_atoms for structure in structures} <= {2, 3, 6, 8}
    (tmp_path / "other.tar").write_bytes(b"")
    assert scale._files(tmp_path / "other.tar", 60, scale.CELLS["small"], arguments)["DATA"] == [
        str(tmp_path / "other.tar")
    ]
    assert (tmp_path / "other.tar").read_bytes() == b""


def test_accuracy_makes_a_fit_for_each_choice_of_options(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = tmp_path / "split.csv"
    split.write_text("structure,part\na,train\nb,test\nc,test\n", encoding="utf-8")
    words = ("--options", "--recipe forces", "--options=--energies-only", "--program", program)
    rows = measured(capsys, "accuracy", SAMPLE_DATA, "--split", split, *words)
    assert [row["options"] for row in rows] == ["--recipe forces", "--energies-only"]
    assert [(row["held_out"], row["energy_mae_meV_per_atom"]) for row in rows] == [(2, 2), (2, 2)]
    assert all(row["cpu_seconds"] > 0 for row in rows)


def test_commands_run_in_turn_on_the_data(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = [SAMPLE_DATA / f"structure{number:04}.xsf" for number in (1, 2)]
    rows = measured(capsys, "commands", *data, "--train", "--epochs 7", "--program", program)
    assert [row["command"] for row in rows] == [
        *("extract DATA", "featurize", "train --epochs 7", "predict DATA", "evaluate", "status"),
    ]
    assert {row["structures"] for row in rows} == {2}
    assert all(row["seconds"] > 0 and row["memory_MB"] > 0 for row in rows)


def test_epochs_cost_what_more_of_them_add(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (tmp_path, "--other", program, tmp_path, "--repeats", 1, "--program", program)
    rows = measured(capsys, "epochs", *words)
    expected = [(1, "here"), (1, "there"), (4, "here"), (4, "there")]
    assert [(row["members"], row["version"]) for row in rows] == expected
    assert all(abs(row["cpu_seconds"]) < 1 and row["memory_MB"] > 0 for row in rows)


def test_epochs_compare_devices_but_not_one_that_was_too_small(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = tmp_path / "model" / "metrics.json"
    metrics.parent.mkdir()
    metrics.write_text('{"device": "gpu"}', encoding="utf-8")
    words = ("--devices", "cpu", "gpu", "--members", 1, "--repeats", 1, "--program", program)
    rows = measured(capsys, "epochs", tmp_path, *words)
    assert [row["device"] for row in rows] == ["cpu", "gpu"]
    assert [row["device"] for row in epochs.summarize(rows)] == ["cpu", "gpu"]
    metrics.write_text('{"device": "cpu"}', encoding="utf-8")
    with pytest.raises(SystemExit, match="trained on the cpu, which is not in the table"):
        measured(capsys, "epochs", tmp_path, *words)


def test_a_program_that_fails_ends_the_benchmark_with_what_it_says() -> None:
    benchmark, arguments = parse(
        ["commands", str(SAMPLE_DATA / "structure0001.xsf"), "--program", "python -c 1/0"]
    )
    with pytest.raises(SystemExit, match=r"ended with 1: (.|\n)*ZeroDivisionError"):
        list(benchmark.measure(arguments))


# --- what is committed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: str(file.stem))
def test_results_name_their_command_and_add_up(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    assert list(content)[: len(ORIGIN)] == list(ORIGIN)
    python, folder, *words = shlex.split(content["command"])
    assert (python, folder, words[0]) == ("python", "tests/benchmarks", content["benchmark"])
    benchmark, _ = parse(words)
    assert content["rows"]
    # nobody has edited the figures of a table
    summary = benchmark.summarize(content["rows"]) if hasattr(benchmark, "summarize") else None
    assert content.get("table") == summary
