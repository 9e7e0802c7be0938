"""Parts of a job array, as processes at once: some are killed, and the bits are those of one plain command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import end, invoke, refusal, start
from commands import features_of, jacobian_of, potential_of, text_of
from job_arrays import kill_after, start_part
from projects import (
    PARAMETERS,
    extracted_project,
    no_pool,
    project_with_derivatives,
    small_project,
    structures_with_forces,
)

from tio2nn.potential.potential import Potential
from tio2nn.project.preparation import Preparation
from tio2nn.project.project import Project
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.members import fit_member, prepare_members
from tio2nn.workflow.train import train

FEATURIZE = ("featurize", "--forces", "-j", 1)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the project `one`, whose features and derivatives one command computed, and `array`, without."""
    extracted_project(tmp_path / "array", chosen=structures_with_forces())
    shutil.copytree(tmp_path / "array", tmp_path / "one")
    code, _, err = end(start_part(tmp_path, *FEATURIZE, "-C", "one"))
    assert code == 0, err
    return tmp_path


@pytest.mark.slow
def test_parts_at_once_and_one_that_was_killed_give_the_bits_of_one_command(here: Path) -> None:
    features = here / "array/features"
    pattern = "shard-00002-*.npz"
    parts = {
        k: start_part(
            here, *FEATURIZE, "-C", "array", "--part", f"{k}/4", halt_after=pattern if k == 3 else ""
        )
        for k in (1, 2, 3)
    }
    kill_after(parts.pop(3), features, pattern)
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


@pytest.mark.slow
def test_a_part_that_was_killed_resumes_and_the_last_command_computes_nothing(here: Path) -> None:
    features = here / "array/features"
    part = (*FEATURIZE, "-C", "array", "--part", "2/2")
    kill_after(start_part(here, *part, halt_after="jacobian-*.piece"), features, "jacobian-*.piece")
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


def test_a_part_without_structures_says_so_and_leaves_nothing_beside_what_is_done(tmp_path: Path) -> None:
    parameters = PARAMETERS.with_overrides(training={"forces": "auto"})
    project = extracted_project(tmp_path / "p", parameters, structures_with_forces())
    invoke("featurize", "-C", project.root)
    before = sorted(project.features_directory.iterdir())
    _, err = invoke("featurize", "-C", project.root, "--part", "9/9")
    assert err.splitlines()[:2] == [
        "symmetry functions of part 9 of 9: nothing to do, it has no structures",
        "derivatives of part 9 of 9: nothing to do, it has no structures",
    ]
    assert sorted(project.features_directory.iterdir()) == before


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


@pytest.mark.slow
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


# --- train ---------------------------------------------------------------------------------------------------


SETTINGS = ("--forces", "--epochs", 300, "--members", 3)


@pytest.mark.slow
def test_members_fitted_one_by_one_and_one_that_was_killed_give_the_bits_of_one_training(
    tmp_path: Path,
) -> None:
    made = project_with_derivatives(tmp_path / "array")
    one = Project(tmp_path / "one")
    shutil.copytree(made.root, one.root)
    invoke("train", "-C", one.root, "-j", 1, *SETTINGS)
    invoke("train", "-C", made.root, "--prepare", *SETTINGS)
    out, _ = invoke("status", "-C", made.root)
    assert "prepared; none of 3 members fitted" in out
    first = start(tmp_path, "train", "-C", "array", "--member", 1)
    second = start_part(tmp_path, "train", "-C", "array", "--member", 2, halt_after="checkpoint-2.npz")
    kill_after(second, made.model_directory, "checkpoint-2.npz")
    code, _, err = end(first)
    assert code == 0, err
    # a folder that has moved, as it has on a machine that mounts it elsewhere
    moved = Project(tmp_path / "elsewhere/array")
    moved.root.parent.mkdir()
    made.root.rename(moved.root)
    code, _, err = end(start(tmp_path, "train", "-C", moved.root, "--member", 3))
    assert code == 0, err
    assert err.splitlines()[-1].endswith("members 1 and 3 of 3 fitted")
    out, _ = invoke("status", "-C", moved.root)
    assert "prepared; members 1 and 3 of 3 fitted" in out
    _, err = invoke("train", "-C", moved.root)
    assert err.splitlines()[0] == "warning: member 2 of 3 not fitted; fitting here what is missing"
    assert potential_of(moved) == potential_of(one)


def test_a_member_needs_a_preparation_and_is_one_of_it(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    line = refusal("train", "-C", project.root, "--member", 1, code=3)
    assert line == f'no preparation in {project.root}; run "tio2nn train -C {project.root} --prepare" first'
    invoke("train", "-C", project.root, "--prepare", "--members", 2, "--epochs", 2)
    for member, expected in ((0, "from 1"), (-1, "from 1"), (3, "from 1 to 2, as prepared")):
        line = refusal("train", "-C", project.root, "--member", member, code=2)
        assert line == f"--member: expected a number {expected}, got {member}"
    for option in (
        ("--epochs", 3),
        ("--seed", 1),
        ("--new-split",),
        ("--forces",),
        ("--tuned",),
        ("--prepare",),
    ):
        line = refusal("train", "-C", project.root, "--member", 1, *option, code=2)
        assert line == "--member takes its settings from the preparation; give them to --prepare"
    with project.joined("train --member 2"):
        line = refusal("train", "-C", project.root, "--member", 2, code=3)
        assert "cannot start: tio2nn train --member 2 (process " in line
        line = refusal("train", "-C", project.root, code=3)
        assert "cannot start: tio2nn train --member 2 (process " in line
        invoke("train", "-C", project.root, "--member", 1)


@pytest.mark.usefixtures("eager")
def test_a_preparation_of_another_state_is_refused_and_begun_anew(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    prepare = ("train", "-C", project.root, "--prepare", "--members", 2, "--epochs", 2)
    invoke(*prepare)
    text = text_of(project.parameters_file)
    project.parameters_file.write_text(text.replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    line = refusal("train", "-C", project.root, "--member", 1, code=3)
    again = f'run "tio2nn train -C {project.root} --prepare" again'
    assert line == f"the preparation in {project.root} was made with other settings; {again}"
    _, err = invoke("train", "-C", project.root, "--epochs", 2)
    assert err.startswith("warning: the project has changed since its members were prepared; starting over\n")
    invoke(*prepare)
    invoke("train", "-C", project.root, "--member", 1)
    _, err = invoke("train", "-C", project.root, "--epochs", 3)
    assert err.startswith("warning: the members were prepared with other settings; starting over\n")
    invoke(*prepare)
    invoke("train", "-C", project.root, "--member", 1)
    header, first, *rows = text_of(project.split_file).splitlines()
    other = first.replace("train", "validation") if "train" in first else first.replace("validation", "train")
    (mine := tmp_path / "mine.csv").write_text("\n".join([header, other, *rows]) + "\n", encoding="utf-8")
    _, err = invoke(*prepare[:3], "--members", 2, "--epochs", 2, "--split", mine)
    assert err.startswith("warning: the members were prepared with another split; starting over\n")
    assert not list(project.model_directory.glob("prepar*"))
    assert not list(project.model_directory.glob("checkpoint*"))


def test_reference_energies_and_whitening_are_those_that_the_members_saw(tmp_path: Path) -> None:
    """Another processor may compute others, with which the weights would be worthless."""
    project = small_project(tmp_path / "p")
    invoke("train", "-C", project.root, "--prepare", "--members", 1, "--epochs", 2)
    found = Preparation.read(project.preparation_file)
    turned = tuple(replace(w, matrix=-w.matrix, metric=-w.metric) for w in found.whitenings)
    shifted = {element: value + 1.0 for element, value in found.reference.items()}
    replace(found, whitenings=turned, reference=shifted).write(project.preparation_file)
    train(project, jobs=1)
    potential = Potential.load(project.potential_file)
    assert potential.reference_energies == shifted
    for whitening, expected in zip(potential.whitenings, turned, strict=True):
        np.testing.assert_array_equal(whitening.matrix, expected.matrix)


# --- from Python ---------------------------------------------------------------------------------------------


def test_parts_and_members_from_python(tmp_path: Path) -> None:
    one = project_with_derivatives(tmp_path / "one")
    train(one, jobs=1)
    array = extracted_project(tmp_path / "array", chosen=structures_with_forces())
    for part in ((1, 2), (2, 2)):
        featurize(array, forces=True, part=part, jobs=1)
    assert featurize(array, forces=True, jobs=1).n_computed == 0
    assert jacobian_of(array) == jacobian_of(one)
    prepare_members(array)
    assert fit_member(array, 1).fitted == [1]
    train(array, jobs=1)
    assert potential_of(array) == potential_of(one)


@pytest.mark.parametrize(
    ("part", "kind"), [((0, 2), ValueError), ((3, 2), ValueError), ("1/2", TypeError), ((1, 2.0), TypeError)]
)
def test_a_part_that_is_none_is_refused_in_python(tmp_path: Path, part: Any, kind: type[Exception]) -> None:
    project = extracted_project(tmp_path / "p")
    with pytest.raises(kind, match="part: expected"):
        featurize(project, part=part)


def test_the_last_command_starts_no_process_for_members_that_are_fitted(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    prepare_members(project, project.parameters().with_overrides(training={"members": 2, "epochs": 2}))
    for member in (1, 2):
        fit_member(project, member)
    summary = train(project, jobs=2, make_executor=no_pool)
    assert summary.members == 2
