"""Projects and lists of files that somebody else made: nothing outside is written, no input is lost."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import end, invoke, refusal, start
from projects import extracted_project, project_with_derivatives, structures, trained_project, write_files

from tio2nn.files.lock import FILE_NAME
from tio2nn.project.jacobian_store import JacobianLayout
from tio2nn.project.project import Project


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
        assert message == f"{lock}: refusing to write through a symbolic link"
    assert victim.read_bytes() == before
    assert not (tmp_path / "nothing").exists()


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p")
    lock = project.root / FILE_NAME
    lock.unlink(missing_ok=True)
    os.mkfifo(lock)
    message = refusal("featurize", "-C", project.root, code=3)
    assert message == f"{lock}: expected a regular file, got another kind"


@pytest.mark.parametrize("suffix", ["", ".done"])
def test_derivatives_are_written_through_no_link(tmp_path: Path, victim: Path, suffix: str) -> None:
    project = project_with_derivatives(tmp_path / "p")
    file = project.features_directory / (JacobianLayout.read(project.jacobian_table).file + suffix)
    project.jacobian_table.unlink()
    file.unlink(missing_ok=True)
    file.symlink_to(victim)
    before = victim.read_bytes()
    _, err = invoke("featurize", "--forces", "-C", project.root, code=3)
    assert f"{file}: refusing to write through a symbolic link" in err
    assert victim.read_bytes() == before


@pytest.mark.parametrize("place", ["split.csv", "model/potential.npz", "model/metrics.json", "energies.csv"])
def test_a_pipe_in_a_project_is_not_waited_for(tmp_path: Path, place: str) -> None:
    project = extracted_project(tmp_path / "p")
    (project.root / "model").mkdir()
    (project.root / place).unlink(missing_ok=True)
    os.mkfifo(project.root / place)
    for arguments in (["status"], ["train"], ["predict", "nothing.xsf"]):
        message = refusal(*arguments, "-C", project.root, code=3)
        assert (
            message == f"{project.root / place}: expected a regular file, got a pipe, a socket or a device"
        ), arguments


def test_a_potential_that_has_no_end_is_refused() -> None:
    message = refusal("predict", "nothing.xsf", "--potential", "/dev/zero", code=3)
    assert message == "/dev/zero: expected a regular file, got another kind"


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
    assert (
        f"{other}:3: refusing to overwrite the input file {target}; choose another --output directory" in err
    )


def test_an_empty_line_in_a_list_names_no_folder(
    tmp_path: Path, trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_files(tmp_path / "files", structures()[:2])
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time over the files of the first
        lines = "".join(f"{file}\n\n" for file in files)
        options = ["--format", "xsf", "--output", "out", "--potential", trained.potential_file]
        invoke("predict", "-", *options, stdin=lines)
    assert len(list((tmp_path / "out").iterdir())) == 2


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
    assert ".xsf:3: expected a valid file name, got: File name too long" in err


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "content", [NESTED, '{"inputs": {}, "members": 1, "validation_rmse_meV_per_atom": 1%s}' % ("0" * 400)]
)
def test_strange_numbers_and_brackets_in_a_project_are_no_bug(tmp_path: Path, content: str) -> None:
    project = trained_project(tmp_path / "p")
    for file in (project.training_metrics_file, project.features_manifest, project.evaluation_metrics_file):
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    invoke("status", "-C", project.root)
    _, err = invoke("train", "-C", project.root, code=3)
    assert f"{project.features_manifest}:" in err
    assert "bug" not in err


def test_what_a_stranger_wrote_does_not_reach_the_terminal(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    metrics = json.loads(project.training_metrics_file.read_text(encoding="utf-8"))
    metrics["members"] = "\x1b[2J1\nall is well"
    project.training_metrics_file.write_text(json.dumps(metrics), encoding="utf-8")
    out, err = invoke("status", "-C", project.root)
    assert "\x1b" not in out + err
    assert "\nall is well" not in out + err


# --- potentials ---------------------------------------------------------------------------------------------


def rewritten(project: Project, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    with np.load(project.potential_file) as stored:
        arrays = dict(stored)
    header = json.loads(str(arrays["header"]))
    change(header, arrays)
    np.savez(project.potential_file, **arrays | {"header": np.array(json.dumps(header))})
    return project.potential_file


STRANGE_HEADERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a record that is a list": (lambda h: h.update(about=[1]), "expected a record of its training"),
    "no record": (lambda h: h.update(about=None), "expected a record of its training"),
    "inputs that are a list": (lambda h: h["about"].update(inputs=[1]), "expected a record of its training"),
    "a long format": (lambda h: h.update(format="x" * 100_000), "expected an integer as its format"),
    "a far cutoff": (lambda h: h["parameters"].update(cutoff=1e300), "cutoff: expected a number > 0 and <="),
    "an activation": (lambda h: h.update(activations=[[["\x1b[2J\n"]]]), r"got '\x1b[2J\n'"),
}


@pytest.mark.parametrize("name", STRANGE_HEADERS)
def test_a_potential_with_a_strange_header_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    change, expected = STRANGE_HEADERS[name]
    project = trained_project(tmp_path / "p")
    file = rewritten(project, lambda header, _: change(header))
    message = refusal("evaluate", "-C", project.root, code=3)
    assert message.startswith(f"{file}: ")
    assert expected in message
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize("part", ["bias", "kernel", "reference"])
def test_numbers_beyond_those_of_a_computer_are_no_prediction(tmp_path: Path, part: str) -> None:
    project = trained_project(tmp_path / "p")

    def change(header: dict[str, Any], arrays: dict[str, Any]) -> None:
        if part == "reference":
            header["reference_energies_eV"] = dict.fromkeys(header["reference_energies_eV"], 1e308)
        for name in arrays:
            if name.endswith(part):
                arrays[name] = np.full(arrays[name].shape, 1e308)

    rewritten(project, change)
    (file,) = write_files(tmp_path / "files", structures()[:1])
    for options in ([], ["--forces"]):
        out, err = invoke("predict", file, *options, "-C", project.root, code=3)
        assert len(out.splitlines()) == 1
        # weights of 1e308 times features near zero stay below the largest number, but not below any that is physical
        refusals = ["cannot predict the energy: the result is not finite"]
        if part == "kernel":
            refusals += [
                "cannot predict the energy: the result, ",
                "cannot predict the forces: the result is not finite",
            ]
        said = err.splitlines()
        assert len(said) == 1
        assert said[0].startswith(tuple(f"{file}:3: {refusal}" for refusal in refusals))
