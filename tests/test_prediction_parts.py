"""Parts of a prediction: joined, also after one of them was killed, to what one command prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import end, invoke, refusal, start
from commands import text_of
from job_arrays import kill_after, start_part
from projects import structures, trained_project, write_files

from tio2nn.io.extxyz_text import Predicted, write_extxyz


@pytest.fixture
def potential(tmp_path: Path) -> Path:
    return trained_project(tmp_path / "p").potential_file


@pytest.mark.parametrize("form", ["tsv", "csv", "json", "extxyz"])
def test_parts_of_a_prediction_are_joined_to_what_one_command_prints(
    tmp_path: Path, potential: Path, form: str
) -> None:
    write_files(tmp_path / "files", structures())
    (tmp_path / "files/structure0005.xsf").write_text("nothing", encoding="utf-8")
    common = ("predict", tmp_path / "files", "--potential", potential, "--forces", "-f", form)
    expected, _ = invoke(*common, code=3)
    joined = tmp_path / f"all.{form}"
    for k in (1, 3, 4):
        invoke(*common, "--to", joined, "--part", f"{k}/4", code=3 if k == 1 else 0)
    assert not joined.exists()
    _, err = invoke(*common, "--to", joined, code=3)
    assert err.splitlines()[:2] == [
        "warning: part 2 of 4 did not finish; predicting here what is missing",
        "part 1 of 4 could not use 1 file or structure; see its messages",
    ]
    assert joined.read_text(encoding="utf-8") == expected
    assert [path.name for path in tmp_path.glob("*all*")] == [joined.name]
    _, err = invoke(*common, "--to", joined, code=3)
    assert joined.read_text(encoding="utf-8") == expected


def test_the_structures_of_a_long_trajectory_are_divided_too(tmp_path: Path, potential: Path) -> None:
    text = "".join(write_extxyz(structure, Predicted(0.0, None, None, None)) for structure in structures())
    (tmp_path / "long.xyz").write_text(text, encoding="utf-8")
    common = ("predict", tmp_path / "long.xyz", "--potential", potential)
    expected, _ = invoke(*common)
    told = []
    for k in range(1, 6):
        _, err = invoke(*common, "--to", tmp_path / "all.tsv", "--part", f"{k}/5")
        told.append(err.split("; ")[0])
    assert told[0] == "part 1 of 5: 4 structures"
    assert sum(int(line.split()[4]) for line in told) == 24
    _, err = invoke(*common, "--to", tmp_path / "all.tsv")
    assert err.startswith("wrote 24 structures to ")
    assert (tmp_path / "all.tsv").read_text(encoding="utf-8") == expected


@pytest.mark.slow
def test_parts_of_a_prediction_at_once_and_one_that_was_killed(tmp_path: Path, potential: Path) -> None:
    write_files(tmp_path / "files", structures())
    common = ("predict", "files", "--potential", potential)
    code, expected, err = end(start(tmp_path, *common))
    assert code == 0, err
    pattern = ".all.tsv.part-2-of-3.*"
    parts = {
        k: start_part(
            tmp_path, *common, "--to", "all.tsv", "--part", f"{k}/3", halt_after=pattern if k == 2 else ""
        )
        for k in (1, 2, 3)
    }
    kill_after(parts.pop(2), tmp_path, pattern)
    for part in parts.values():
        code, _, err = end(part)
        assert code == 0, err
    code, out, err = end(start(tmp_path, *common, "--to", "all.tsv"))
    assert (code, out) == (0, ""), err
    assert text_of(tmp_path / "all.tsv") == expected
    assert [path.name for path in tmp_path.glob("*all*")] == ["all.tsv"]


def test_parts_by_another_potential_or_of_other_files_are_not_joined(tmp_path: Path, potential: Path) -> None:
    files = write_files(tmp_path / "files", structures())
    common = ("predict", tmp_path / "files", "--potential", potential)
    to = ("--to", tmp_path / "all.tsv")
    invoke(*common, *to, "--part", "1/2")
    files[0].unlink()
    invoke(*common, *to, "--part", "2/2")
    _, err = invoke(*common, *to)
    assert err.startswith(
        "warning: part 1 of 2 had another potential, other files or options; predicting here"
    )
    expected, _ = invoke(*common)
    assert text_of(tmp_path / "all.tsv") == expected


def test_a_part_of_a_prediction_has_to_know_its_file(tmp_path: Path, potential: Path) -> None:
    (file,) = write_files(tmp_path / "files", structures()[:1])
    common = ("predict", file, "--potential", potential)
    line = refusal(*common, "--part", "1/2", code=2)
    assert line == "--part needs --to FILE, the file that all parts write for"
    for option in (("-o", tmp_path), ("-f", "xsf")):
        line = refusal(*common, "--to", tmp_path / "all", *option, code=2)
        assert line == "--to cannot be combined with --output or --format xsf"
    line = refusal(*common, "--to", file, code=2)
    assert line == f"refusing to overwrite the input file {file}; choose another file with --to"
    assert "--part: expected K/N" in refusal(*common, "--to", tmp_path / "all", "--part", "3/2", code=2)
