"""Files of other programs that are damaged or made to harm: nothing runs, expands or takes long."""

from __future__ import annotations

import gzip
import io
import time
from pathlib import Path

import numpy as np
import outputs
import pytest
from ase.io import read as ase_read
from ase.io import write
from outputs import FILES

from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

BOMB = "<!DOCTYPE modeling [" + "".join(
    f'<!ENTITY a{k} "{f"&a{k - 1};" * 10 if k else "ha"}">' for k in range(12)
)


@pytest.mark.parametrize("head", [BOMB + "]>", '<!DOCTYPE modeling SYSTEM "file:///etc/passwd">'])
def test_no_entity_is_expanded(tmp_path: Path, head: str) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(outputs.vasprun(1, head=head).replace("<atominfo>", "<atominfo>&a11;"))
    (problem,) = outputs.problems(path)
    assert problem == (
        ":2: expected no document type, which VASP does not write and which may declare entities"
    )


def test_databases_compute_nothing_and_are_left_as_they_are(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
    view = f"CREATE VIEW systems AS {endless} SELECT x AS id FROM c"
    path = tmp_path / "a.db"
    path.write_bytes(outputs.database(1, "ALTER TABLE systems RENAME TO others", view))
    assert outputs.problems(path) == [": expected a table named systems, got none"]
    grown = outputs.database(
        1,
        "ALTER TABLE information RENAME TO others",
        f"CREATE VIEW information AS {endless} SELECT 'version' AS name, max(x) AS value FROM c",
    )
    path.write_bytes(grown)
    (problem,) = outputs.problems(path)
    assert problem.startswith(": expected a database of ASE, got ")
    assert path.read_bytes() == grown
    assert [child.name for child in tmp_path.iterdir()] == ["a.db"]


def test_forces_of_a_database_are_those_of_all_atoms(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(FILES["a.db"])
    assert (ase_read(path).get_forces()[0] == 0.0).all()  # held
    forces = outputs.found(path)[0].forces
    assert forces is not None
    np.testing.assert_array_equal(forces[0], outputs.FORCES[0])


def test_a_pickled_trajectory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.traj"
    path.write_bytes(b"PickleTrajectory" + b"\x80\x02c" + bytes(100))
    (problem,) = outputs.problems(path)
    assert problem.startswith(
        ": expected a trajectory of ASE 3.9 or later, got a pickled one, which could run code"
    )


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.traj"
    path.write_bytes(FILES["a.traj"].replace(b'"float64"', b'"object" '))
    assert [problem.split(", ")[1] for problem in outputs.problems(path)] == ["got 'object'"] * 2


@pytest.mark.parametrize("excess", [0, 1, 8, 30])
def test_a_truncated_trajectory_is_told_in_one_line(tmp_path: Path, excess: int) -> None:
    path = tmp_path / "a.traj"
    content = outputs.trajectory(12)
    table = int.from_bytes(content[40:48], "little")
    places = np.frombuffer(content[table : table + 8 * 12], "<i8")
    assert table < places[5]
    path.write_bytes(content[: places[5] + excess])
    (problem,) = outputs.problems(path)
    assert problem == "#6: expected 12 frames, got 5 and the end of the file: truncated?"
    assert len([item for item in read_structures(path, errors="yield") if isinstance(item, Structure)]) == 5


def test_lines_about_frames_of_a_trajectory_name_them(tmp_path: Path) -> None:
    path = tmp_path / "a.traj"
    images = outputs.frames(3)
    images[0].positions[0] = images[0].positions[1]  # overlap
    images[2].positions[0] = np.nan
    write(path, images)
    overlap, nan = outputs.problems(path)
    assert overlap.startswith("#1: expected atoms at least")
    assert nan == "#3: expected finite positions, got NaN or infinity"


@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere_ends_in_lines_and_structures_only(tmp_path: Path, name: str) -> None:
    outputs.check_damaged(tmp_path / name, FILES[name], 150, b"\0 9-\n<>eN\xff\x7f")


def test_frames_are_read_one_by_one() -> None:
    """No more of the file is read than the frames that were asked for need."""
    from tio2nn.io.outputs.espresso import iter_espresso
    from tio2nn.io.outputs.vasprun import iter_vasprun

    for text, reader in ((outputs.espresso(400), iter_espresso), (outputs.vasprun(400), iter_vasprun)):
        stream = io.BytesIO(text.encode())
        next(reader(stream, file="x"))
        assert stream.tell() < len(text) / 3


# a gigabyte of nothing, of which the first megabytes must do
_HEADS = {
    "x.pwo": outputs.espresso(1)[:60],
    "aims.out": outputs.aims()[:60],
    "vasprun.xml": "<modeling>",
    "input.data": "",
}


@pytest.mark.parametrize("name", _HEADS)
def test_a_small_file_that_expands_to_nothing_but_blank_lines_is_refused_early(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / f"{name}.gz"
    blank = gzip.compress(b"\n" * 2**24)
    path.write_bytes(gzip.compress(_HEADS[name].encode()) + blank * 60)
    begin = time.process_time()
    (problem,) = outputs.problems(path)
    assert time.process_time() - begin < 3.0
    assert "expected at most" in problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "filling"), [("x.pwo", b"a\n"), ("input.data", b"#\n"), ("vasprun.xml", b"<a/>")]
)
def test_a_small_file_that_expands_to_nothing_of_interest_is_refused(
    tmp_path: Path, name: str, filling: bytes
) -> None:
    path = tmp_path / f"{name}.gz"
    nothing = gzip.compress(filling * (2**24 // len(filling)))
    path.write_bytes(gzip.compress(_HEADS[name].encode()) + nothing * 30)
    (problem,) = outputs.problems(path)
    assert problem.endswith(("lines, got none", "beside its ionic steps, got more"))
