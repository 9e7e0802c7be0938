"""A folder of broken and strange files, as a user would give it to a command."""

from __future__ import annotations

import csv
import os
import re
import resource
from pathlib import Path

import pytest
from command_line import end, invoke, refusal, rows, start
from corpus import BAD, BAD_FOLDERS, GOOD, STRANGE
from places import DOCS
from projects import PARAMETERS, structures, trained_project, write_files
from rights import can_give_up_rights, give_up_rights

from tio2nn.io.read import read_structures
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.structure import Structure

# 300 MB of zeros shrink to 300 kB; whoever expands them without a look needs more than this
_MEMORY = 3 * 2**30


def write(folder: Path, files: dict[str, bytes]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [f"{folder.name}/{name}" for name in files]


def write_folders(folder: Path) -> list[str]:
    """Data sets that are folders."""
    for name, files in BAD_FOLDERS.items():
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return [f"{folder.name}/{name}" for name in BAD_FOLDERS]


def strange_places(folder: Path) -> list[str]:
    """What is no file at all."""
    (folder / "directory.xsf").mkdir()
    (folder / "loop.xsf").symlink_to("loop.xsf")
    (folder / "dangling.xsf").symlink_to("nowhere.xsf")
    os.mkfifo(folder / "pipe.xsf")
    os.mkfifo(folder / "pipe.tar.gz")
    (folder / "to-pipe.xyz").symlink_to("pipe.xsf")
    (folder / "device.xsf").symlink_to("/dev/zero")
    names = ["directory.xsf", "loop.xsf", "dangling.xsf", "gone.xsf"]
    names += ["pipe.xsf", "pipe.tar.gz", "to-pipe.xyz", "device.xsf"]
    if os.geteuid() != 0 or can_give_up_rights():  # root may read everything
        (folder / "unreadable.xsf").write_text(GOOD)
        (folder / "unreadable.xsf").chmod(0)
        names.append("unreadable.xsf")
    return [f"{folder.name}/{name}" for name in names]


def command(here: Path, *arguments: object) -> tuple[int, str, str]:
    """A command in a process with little memory, and bound by permissions."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        if bound:
            give_up_rights()

    bound = can_give_up_rights()

    return end(start(here, *arguments, preexec_fn=limited))


def test_the_corpus_is_large() -> None:
    assert len(BAD) >= 60
    guarantees = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    assert (
        f"`tests/corpus.py` holds {len(BAD)} broken files and {len(BAD_FOLDERS)} broken folders" in guarantees
    )


def test_extract_names_each_bad_file_once_and_takes_the_others(tmp_path: Path) -> None:
    Project.create(tmp_path / "p", PARAMETERS)
    bad = [
        *write(tmp_path / "files", BAD),
        *write_folders(tmp_path / "files"),
        *strange_places(tmp_path / "files"),
    ]
    good = write(tmp_path / "files", {"good.xsf": GOOD.encode(), **STRANGE})
    before = {path for path in tmp_path.rglob("*") if tmp_path / "p" not in path.parents}
    code, out, err = command(tmp_path, "extract", *bad, *good, "-C", "p")
    assert (code, out) == (3, "")
    assert "Traceback" not in err
    with (tmp_path / "p" / "rejected.csv").open(encoding="utf-8", newline="") as handle:
        reasons = [(row["file"], row["reason"]) for row in csv.DictReader(handle)]
    named = [re.sub(r"(\.tar(\.gz)?):.*", r"\1", file) for file, _ in reasons]
    assert sorted(named) == sorted(bad)
    assert all(reason and "\n" not in reason and len(reason) < 400 for _, reason in reasons), reasons
    assert len(read_store(tmp_path / "p" / "structures" / "structures.npz")) == len(good)
    # nothing was unpacked or otherwise written outside of the project
    assert {path for path in tmp_path.rglob("*") if tmp_path / "p" not in path.parents} == before
    assert not Path("/tmp/absolute-path-member.xsf").exists()


@pytest.mark.parametrize("name", [name for name in STRANGE if name != "left-handed.xsf"])  # another cell
def test_a_strange_file_says_the_same_as_the_plain_one(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"good.xsf": GOOD.encode(), name: STRANGE[name]})
    found = list(read_structures([tmp_path / "good.xsf", tmp_path / name], errors="yield"))
    plain, strange = (item for item in found if isinstance(item, Structure))
    assert (strange.energy, strange.elements) == (plain.energy, plain.elements)
    assert strange.cell.tobytes() == plain.cell.tobytes()
    shift = (strange.positions - plain.positions) / 4.0
    assert (shift == shift.round()).all()


@pytest.mark.slow
def test_predict_goes_around_what_is_bad(tmp_path: Path) -> None:
    trained_project(tmp_path / "p")
    bad = {name: content for name, content in BAD.items() if name != "no-energy.xsf"}
    names = [
        *write(tmp_path / "files", bad),
        *write_folders(tmp_path / "files"),
        *strange_places(tmp_path / "files"),
    ]
    code, out, err = command(tmp_path, "predict", *names, *write(tmp_path / "files", STRANGE), "-C", "p")
    assert code == 3
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if not line.startswith(("warning: ", "... and"))]
    for name in names:
        assert sum(line.startswith((f"{name}:", f"{name} ")) for line in errors) == 1, name
    assert len(errors) == len(names)
    assert len(rows(out)) == 1 + len(STRANGE)
    assert "nan" not in {cell for row in rows(out) for cell in (*row[2:4], row[5])}


# --- what a project is made of ------------------------------------------------------------------------------

PARAMS = {
    "empty": b"",
    "noise": bytes(range(256)),
    "no json": b"elements: [Ti]",
    "cut": b'{"elements": ["Ti", "O"], "cutoff"',
    "a list": b"[]",
    "a number": b"1e400",
    "nan": b'{"elements": ["Ti", "O"], "cutoff": NaN, "radial": [{"eta": 1.0}], "angular": []}',
    "infinite": b'{"elements": ["Ti", "O"], "cutoff": 1e999, "radial": [{"eta": 1.0}], "angular": []}',
    "twice": b'{"elements": ["Ti"], "elements": ["O"], "cutoff": 6, "radial": [{"eta": 1.0}], "angular": []}',
    "unknown key": b'{"elements": ["Ti"], "cutof": 6, "radial": [{"eta": 1.0}], "angular": []}',
    "negative": b'{"elements": ["Ti"], "cutoff": -6, "radial": [{"eta": 1.0}], "angular": []}',
    "text": b'{"elements": ["Ti"], "cutoff": "6", "radial": [{"eta": 1.0}], "angular": []}',
    "no element": b'{"elements": ["Xx"], "cutoff": 6, "radial": [{"eta": 1.0}], "angular": []}',
    "deep": b"[" * 100_000,
    "utf-16": '{"elements": ["Ti"]}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_that_cannot_be_used_are_one_line_with_their_file(tmp_path: Path, name: str) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    project.parameters_file.write_bytes(PARAMS[name])
    assert refusal("featurize", "-C", project.root, code=3).startswith(f"{project.parameters_file}:")


SPLITS = {
    "empty": b"",
    "noise": bytes(range(256)),
    "no such part": b"structure,part\nstructure0001,training\n",
    "no columns": b"structure0001;train\n",
    "in two parts": b"structure,part\nstructure0001,train\nstructure0001,test\n",
    "nobody known": b"structure,part\nnobody,train\n",
    "too few columns": b"structure,part\nstructure0001\n",
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_that_cannot_be_used_is_one_line_with_its_file(tmp_path: Path, name: str) -> None:
    project = trained_project(tmp_path / "p")
    given = tmp_path / "given.csv"
    given.write_bytes(SPLITS[name])
    _, err = invoke("train", "-C", project.root, "--split", given, code=3)
    assert err.splitlines()[-1].startswith(f"{given}:")
    assert "Traceback" not in err


POTENTIALS = {
    "empty": b"",
    "noise": bytes(range(256)) * 16,
    "an archive of nothing": b"PK\x05\x06" + bytes(18),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a structure": GOOD.encode(),
}


@pytest.mark.parametrize("name", POTENTIALS)
def test_a_potential_that_is_none_is_one_line_with_its_file(tmp_path: Path, name: str) -> None:
    given = tmp_path / "given.npz"
    given.write_bytes(POTENTIALS[name])
    (path,) = write_files(tmp_path, structures()[:1])
    assert refusal("predict", path, "--potential", given, code=3).startswith(f"{given}: expected a potential")
