"""Rows of a matrix in a file are those of the matrix in memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.files.rows import FileRows, scratch_beside

MATRIX = np.random.default_rng(0).normal(size=(17, 5))


@pytest.fixture
def rows(tmp_path: Path) -> FileRows:
    path = tmp_path / "matrix"
    np.concatenate([np.full(7, np.nan), MATRIX.ravel(), np.full(3, np.nan)]).tofile(path)
    return FileRows.of(path, 7, MATRIX.shape, "<f8")


def test_rows_of_all_kinds_are_those_of_the_matrix(rows: FileRows) -> None:
    mask = np.arange(17) % 3 == 1
    columns = np.array([4, 1])
    for own, expected in (
        (rows, MATRIX),
        (rows[mask], MATRIX[mask]),
        (rows[:, columns], MATRIX[:, columns]),
        (rows[mask][:, columns], MATRIX[mask][:, columns]),
        (rows[:, columns][mask], MATRIX[:, columns][mask]),
        (rows[:, columns][:, np.array([1])], MATRIX[:, [1]]),
    ):
        assert own.shape == expected.shape
        assert len(own) == len(expected)
        for some in (slice(0, 3), slice(2, 100), slice(4, 4), np.array([3, 0, 3]), np.array([], np.int64)):
            np.testing.assert_array_equal(own[some], expected[some])


def test_nothing_is_read_before_rows_are_asked_for(rows: FileRows) -> None:
    chosen = rows[np.arange(17) > 3][:, np.array([0])]
    rows.path.unlink()
    with pytest.raises(FileNotFoundError, match="matrix"):
        chosen[:2]


def test_rows_can_be_written(rows: FileRows) -> None:
    rows[5:7] = np.zeros((2, 5))
    expected = MATRIX.copy()
    expected[5:7] = 0.0
    np.testing.assert_array_equal(rows[:], expected)
    assert rows.path.stat().st_size == 8 * (7 + MATRIX.size + 3)


def test_a_file_that_became_shorter_is_refused(rows: FileRows) -> None:
    os.truncate(rows.path, 8 * 30)
    with pytest.raises(InputError, match=r"matrix: expected 680 bytes from byte 56 on, got 184"):
        rows[:]


def test_a_scratch_file_is_there_in_its_block_alone(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "new" / "x.f32") as scratch:
        assert scratch is not None
        assert scratch.parent == tmp_path / "new"
        assert scratch.exists()
    assert not scratch.exists()
    with scratch_beside(None) as nothing:
        assert nothing is None
