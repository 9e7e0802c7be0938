"""Advice on files that have to be converted."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import outputs
import pytest
from ase.db import connect
from ase.io import read

BY_ASE = "write extended XYZ, for example through ASE"
MLIP = "BEGIN_CFG\n Size\n    1\n Supercell\n 5.0 0.0 0.0\n"


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, coords=np.zeros((1, 3)))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npz", arrays(), f"arrays of NumPy: {BY_ASE}"),
        ("a.npy", b"\x93NUMPY", f"arrays of NumPy: {BY_ASE}"),
        ("a.pt", b"PK\x03\x04" + bytes(100), f"data of PyTorch: {BY_ASE}"),
        ("a.pckl.gzip", gzip.compress(b"\x80\x04"), f"pickled data: {BY_ASE}"),
        ("a.pkl", b"\x80\x04", f"pickled data: {BY_ASE}"),
        ("a.h5", b"\x89HDF\r\n", f"data in HDF5: {BY_ASE}"),
        ("a.aselmdb", bytes(100), f"data in LMDB: {BY_ASE}"),
        ("a.parquet", b"PAR1", f"a Parquet table: {BY_ASE}"),
        *(
            (
                name,
                MLIP.encode(),
                "configurations of MLIP (BEGIN_CFG): write extended XYZ with their energies and forces",
            )
            for name in ("train.cfg", "train.mtp")
        ),
    ],
)
def test_what_has_to_be_converted_is_told(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    (problem,) = outputs.problems(tmp_path / name)
    assert problem.endswith(f" or a tar archive, got {expected}")


def test_a_database_of_ase_in_json_becomes_one_that_is_read(tmp_path: Path) -> None:
    with connect(tmp_path / "a.json") as base:
        for frame in outputs.frames():
            base.write(frame)
    (problem,) = outputs.problems(tmp_path / "a.json")
    assert problem.endswith(
        'got a database of ASE in JSON: convert it with "ase db FILE.json --insert-into FILE.db"'
    )
    with connect(tmp_path / "a.db") as base:
        for frame in read(tmp_path / "a.json", index=":"):
            base.write(frame)
    assert len(outputs.found(tmp_path / "a.db")) == 2
    (tmp_path / "b.json").write_text('{"1": [1, 2], "cell": 3}')
    assert outputs.problems(tmp_path / "b.json")[0].endswith(
        "got the suffix '.json' and content of no known format"
    )
