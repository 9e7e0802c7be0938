"""Messages that more than one command may end with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import invoke, refusal
from potentials import make_potential, nothing
from projects import PARAMETERS, small_project, structures, write_files

from tio2nn.cli import console
from tio2nn.project.project import Project


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "x.xsf", "--potential", "gone"),
        ("train", "-C", "p", "--split", "gone"),
        ("evaluate", "x.xsf", "--potential", "gone"),
    ],
)
def test_a_file_that_is_not_there_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_project(tmp_path / "p")
    assert refusal(*arguments, code=3) == "gone: no such file"


def test_a_source_without_a_name_is_shown_as_one(tmp_path: Path) -> None:
    Project.create(tmp_path, PARAMETERS)
    assert refusal("extract", "", "-C", tmp_path, code=3) == '"": no such file or folder'


def test_a_pickle_in_place_of_the_store_is_not_recommended(tmp_path: Path) -> None:
    project = small_project(tmp_path)
    project.structures_file.write_bytes(b"\x80\x04]\x94.")
    told = refusal("featurize", "-C", tmp_path, code=3)
    assert "expected a structure store, got another kind of file; run " in told
    assert "unsafe" not in told


def test_an_xsf_file_without_an_energy_shows_the_comment_that_it_lacks(tmp_path: Path) -> None:
    (file,) = write_files(tmp_path / "files", structures()[:1])
    text = file.read_text(encoding="utf-8")
    file.write_text(text[text.index("\n") + 1 :], encoding="utf-8")
    Project.create(tmp_path / "p", PARAMETERS)
    told = refusal("extract", file, "-C", tmp_path / "p", code=3)
    assert told.endswith("expected a comment '# total energy = ... eV', got none")


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    (file,) = write_files(tmp_path, structures()[:1])
    potential = make_potential(training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    potential.save(tmp_path / "potential.npz")
    _, err = invoke("predict", file, "--potential", tmp_path / "potential.npz")
    assert re.search(r"lies outside the training range by [1-9][0-9,]+ times its width;", err)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.01, "less than 0.1 s"), (0.06, "about 0.1 s"), (75.0, "about 1 min 15 s")]
)
def test_an_estimate_is_never_zero(seconds: float, expected: str) -> None:
    assert console.estimated(seconds) == expected
