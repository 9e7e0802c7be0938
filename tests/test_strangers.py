"""Projects and lists of files that somebody else made: nothing outside is written, no input is lost."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from command_line import end, invoke, refusal, start
from projects import extracted_project, project_with_derivatives, structures, trained_project, write_files

from tio2nn.io.jacobians import JacobianLayout
from tio2nn.lock import FILE_NAME
from tio2nn.project import Project


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return trained_project(tmp_path_factory.mktemp("trained") / "p")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_bytes(b"what its owner needs\n" * 5000)
    return file


def test_a_lock_that_is_a_link_leads_to_no_other_file(tmp_path: Path, victim: Path) -> None:
    project = extracted_project(tmp_path / "p")
    before = victim.read_bytes()
    lock = project.root / FILE_NAME
    for target in (victim, tmp_path / "nothing"):
        lock.unlink(missing_ok=True)
        lock.symlink_to(target)
        message = refusal("featurize", "-C", project.root, code=3)
        assert message == f"{lock}: expected a file of tio2nn, got a link"
    assert victim.read_bytes() == before
    assert not (tmp_path / "nothing").exists()


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    lock = project.root / FILE_NAME
    lock.unlink(missing_ok=True)
    os.mkfifo(lock)
    message = refusal("featurize", "-C", project.root, code=3)
    assert message == f"{lock}: expected a file of tio2nn, got something else"


@pytest.mark.parametrize("suffix", ["", ".done"])
def test_derivatives_are_written_through_no_link(tmp_path: Path, victim: Path, suffix: str) -> None:
    project = project_with_derivatives(tmp_path / "p")
    file = project.features_directory / (JacobianLayout.read(project.jacobian_table).file + suffix)
    project.jacobian_table.unlink()
    file.unlink(missing_ok=True)
    file.symlink_to(victim)
    before = victim.read_bytes()
    _, err = invoke("featurize", "--forces", "-C", project.root, code=3)
    assert f"{file}: expected a file of tio2nn, got a link" in err
    assert victim.read_bytes() == before


@pytest.mark.parametrize("place", ["split.csv", "model/potential.npz", "model/metrics.json", "energies.csv"])
def test_a_pipe_in_a_project_is_not_waited_for(tmp_path: Path, place: str) -> None:
    project = extracted_project(tmp_path / "p")
    (project.root / "model").mkdir()
    (project.root / place).unlink(missing_ok=True)
    os.mkfifo(project.root / place)
    for arguments in (["status"], ["train"], ["predict", "nothing.xsf"]):
        message = refusal(*arguments, "-C", project.root, code=3)
        assert message == f"{project.root / place}: expected a file, got a pipe, a socket or a device", (
            arguments
        )


def test_a_potential_that_has_no_end_is_refused() -> None:
    message = refusal("predict", "nothing.xsf", "--potential", "/dev/zero", code=3)
    assert message == "/dev/zero: expected a potential written by tio2nn train, got no regular file"


@pytest.mark.parametrize("how", ["files", "folder", "pattern", "list"])
def test_predictions_are_not_written_over_what_is_still_to_be_predicted(
    tmp_path: Path, trained: Project, how: str
) -> None:
    first, second = structures()[:2]
    (target,) = write_files(tmp_path / "files", [second])
    (other,) = write_files(tmp_path / "other", [first])
    before = target.read_bytes()
    other = other.rename(other.with_name(target.name))  # its prediction would be called as `target` is
    named = {
        "files": [other, target],
        "folder": [other, target.parent],
        "pattern": [other, target.parent / "*.xsf"],
        "list": ["-"],
    }[how]
    options = ["--format", "xsf", "--output", target.parent, "--potential", trained.potential_file]
    _, err = invoke("predict", *named, *options, stdin=f"{other}\n{target}\n", code=3)
    assert target.read_bytes() == before
    assert f"{other}:3: expected another directory for --output, got that of {target}" in err


def test_predictions_of_before_are_written_over(tmp_path: Path, trained: Project) -> None:
    files = write_files(tmp_path / "files", structures()[:2])
    command = ["predict", *files, "--format", "xsf", "--output", tmp_path / "out"]
    for _ in range(2):
        invoke(*command, "--potential", trained.potential_file)
    assert len(list((tmp_path / "out").iterdir())) == 2


def archive_with(path: Path, name: str) -> Path:
    """Three structures, the second one of this name."""
    files = write_files(path.parent / "members", structures()[:3])
    with tarfile.open(path, "w") as tar:
        for file, member in zip(files, ("a.xsf", f"{name}.xsf", "b.xsf"), strict=True):
            data = file.read_bytes()
            about = tarfile.TarInfo(member)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def test_names_of_many_digits_are_names(tmp_path: Path) -> None:
    archive = archive_with(tmp_path / "digits.tar", "1" * 5000)
    invoke("init", tmp_path / "p")
    invoke("extract", archive, "-C", tmp_path / "p")
    assert len((tmp_path / "p" / "energies.csv").read_text().splitlines()) == 4


def test_a_name_that_no_file_can_have_does_not_stop_the_others(tmp_path: Path, trained: Project) -> None:
    archive = archive_with(tmp_path / "long.tar", "n" * 300)
    out = tmp_path / "out"
    code, _, err = end(
        start(tmp_path, "predict", archive, "--output", out, "--potential", trained.potential_file)
    )
    assert code == 3
    assert sorted(file.name for file in out.iterdir()) == ["a.tsv", "b.tsv"]
    assert ".xsf:3: expected a name that a file can have, got: File name too long" in err
