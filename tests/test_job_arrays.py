"""Parts of a job array, as processes at once: some are killed, and the bits are those of one plain command."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import end, invoke, refusal
from commands import features_of, jacobian_of, text_of
from job_arrays import start_part
from projects import extracted_project, structures_with_forces

from tio2nn.project.project import Project

FEATURIZE = ("featurize", "--forces", "-j", 1)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the project `one`, whose features and derivatives one command computed, and `array`, without."""
    extracted_project(tmp_path / "array", chosen=structures_with_forces())
    shutil.copytree(tmp_path / "array", tmp_path / "one")
    code, _, err = end(start_part(tmp_path, *FEATURIZE, "-C", "one"))
    assert code == 0, err
    return tmp_path


def kill_when(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    """Kill a process as soon as it has written a file."""
    while not list(folder.glob(pattern)) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_parts_at_once_and_one_that_was_killed_give_the_bits_of_one_command(here: Path) -> None:
    features = here / "array/features"
    parts = {k: start_part(here, *FEATURIZE, "-C", "array", "--part", f"{k}/4") for k in (1, 2, 3)}
    kill_when(parts.pop(3), features, "shard-00002-*.npz")
    for part in parts.values():
        code, _, err = end(part)
        assert code == 0, err
        assert 'after all of them run "tio2nn featurize -C array --forces"' in err
    # machines write into files of their own
    assert list(features.glob("jacobian-*.piece"))
    assert not list(features.glob("jacobian-*.f32"))
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "array"))
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("warning")]
    assert told == [
        "warning: symmetry functions: parts 3 and 4 of 4 did not finish; computing here what is missing",
        "warning: derivatives: parts 3 and 4 of 4 did not finish; computing here what is missing",
    ]
    assert jacobian_of(Project(here / "array")) == jacobian_of(Project(here / "one"))
    for name in ("manifest.json", "jacobian.json"):
        assert text_of(features / name) == text_of(here / "one/features" / name)


def test_a_part_that_was_killed_resumes_and_the_last_command_computes_nothing(here: Path) -> None:
    features = here / "array/features"
    kill_when(start_part(here, *FEATURIZE, "-C", "array", "--part", "2/2"), features, "jacobian-*.piece")
    pieces = {path: path.stat().st_mtime_ns for path in features.glob("jacobian-*.piece")}
    for k in (1, 2):
        code, _, err = end(start_part(here, *FEATURIZE, "-C", "array", "--part", f"{k}/2"))
        assert code == 0, err
    assert pieces == {path: path.stat().st_mtime_ns for path in pieces}
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "array"))
    assert code == 0, err
    assert err.splitlines()[:2] == [
        "symmetry functions: nothing to do, all 24 structures are there",
        "derivatives: nothing to do, all 23 structures are there",
    ]
    assert jacobian_of(Project(here / "array")) == jacobian_of(Project(here / "one"))


@pytest.mark.parametrize("part", ["0/20", "21/20", "x/20", "3", "3/0", "-1/4", "1/2/3", ""])
def test_a_part_that_is_none_is_refused_in_one_line(tmp_path: Path, part: str) -> None:
    project = extracted_project(tmp_path / "p")
    line = refusal("featurize", "-C", project.root, "--part", part, code=2)
    assert line == f"--part: expected K/N with K from 1 to N, such as 3/20, got {part}"


def test_a_part_takes_no_option_that_concerns_the_others(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    for option in (("--csv",), ("--for", "lammps")):
        assert "--part cannot be combined" in refusal(
            "featurize", "-C", project.root, "--part", "1/2", *option, code=2
        )


def test_two_jobs_of_a_part_and_a_command_beside_jobs_are_refused_but_other_jobs_are_not(
    tmp_path: Path,
) -> None:
    project = extracted_project(tmp_path / "p")
    with project.joined("featurize --part 1/2"):
        line = refusal("featurize", "-C", project.root, "--part", "1/2", code=3)
        assert "cannot start: tio2nn featurize --part 1/2 (process " in line
        for command in (("featurize",), ("extract", "files"), ("train",)):
            line = refusal(*command, "-C", project.root, code=3)
            assert "cannot start: tio2nn featurize --part 1/2 (process " in line
        invoke("featurize", "-C", project.root, "--part", "2/2")
    with project.locked("extract"):
        line = refusal("featurize", "-C", project.root, "--part", "1/2", code=3)
        assert "cannot start: tio2nn extract (process " in line
    invoke("featurize", "-C", project.root)
    assert not list(project.root.glob(".tio2nn.job-*"))


def test_status_says_which_parts_are_done_and_which_are_at_work(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    invoke("featurize", "-C", project.root, "--part", "1/3")
    out, _ = invoke("status", "-C", project.root)
    assert "features    missing     parts 1 to 3 of 3 done" in out  # one shard in all
    with project.joined("featurize --part 2/3"):
        code, out, _ = end(start_part(tmp_path, "status", "-C", "p"))
    assert code == 0
    assert "in progress" in out
    assert "tio2nn featurize --part 2/3 (process " in out
    assert out.splitlines()[-1].endswith("is running; wait until it ends")


def test_parts_of_other_parameters_are_named(here: Path) -> None:
    array = Project(here / "array")
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "array", "--part", "1/2"))
    assert code == 0, err
    text = text_of(array.parameters_file)
    array.parameters_file.write_text(text.replace('"cutoff": 4.0', '"cutoff": 4.2'), encoding="utf-8")
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "array", "--part", "2/2"))
    assert code == 0, err
    assert err.splitlines()[0] == "warning: part 1 of 2 had other parameters or structures; run it again"
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "array"))
    assert code == 0, err
    assert "part 1 of 2 had other parameters or structures; computing here what is missing" in err
    one = Project(here / "one")
    shutil.copy(array.parameters_file, one.parameters_file)
    code, _, err = end(start_part(here, *FEATURIZE, "-C", "one"))
    assert code == 0, err
    assert features_of(array) == features_of(one)
    assert jacobian_of(array) == jacobian_of(one)
