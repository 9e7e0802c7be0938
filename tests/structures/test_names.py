from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.structures.names import natural_key, sorted_by_name, stem
from tio2nn.structures.structure import Structure


def structure(file: str, name: str | None = None) -> Structure:
    return Structure(name or stem(file), ("O",), np.zeros((1, 3)), np.eye(3), file=file)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("structure0001.xsf", "structure0001"),
        ("Ti/O.2/structure.1.xsf", "structure.1"),
        ("md.extxyz.gz", "md"),
        ("MD.XYZ.GZ", "MD"),
        ("data.tar.bz2:a/b.xsf", "b"),
        ("data.tar:b.xsf.gz", "b"),
        ("half:past.xsf", "half:past"),
    ],
)
def test_the_stem_is_the_name_of_the_file_alone(file: str, expected: str) -> None:
    assert stem(file) == expected


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["md-10", "md-9", "md", "10", "9a", "md-9b", "md-010"]
    assert sorted(names, key=natural_key) == ["9a", "10", "md", "md-9", "md-9b", "md-010", "md-10"]


@given(st.lists(st.text(alphabet="a1-20"), unique=True), st.randoms())
def test_the_order_of_names_does_not_depend_on_how_they_come(names: list[str], random: Random) -> None:
    shuffled = names.copy()
    random.shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


def names_of(structures: list[Structure]) -> list[str]:
    return [s.name for s in sorted_by_name(structures)]


def test_a_stem_of_one_file_is_its_name() -> None:
    assert names_of([structure("b/x10.xsf"), structure("a/x9.xsf")]) == ["x9", "x10"]


def test_files_that_share_a_stem_are_called_by_their_paths() -> None:
    files = ["a/x.xsf", "b.tar:x.xsf", "a/x.xyz", "a/y.xsf"]
    expected = ["a/x.xsf", "a/x.xyz", "b.tar:x.xsf", "y"]
    assert names_of([structure(file) for file in files]) == expected
    assert names_of([structure(file) for file in reversed(files)]) == expected


def test_all_frames_of_a_file_are_called_alike() -> None:
    frames = [structure("a/md.xyz", f"md-{k}") for k in (1, 2, 3)] + [structure("b/md.xyz", "md-1")]
    assert names_of(frames) == ["a/md.xyz-1", "a/md.xyz-2", "a/md.xyz-3", "b/md.xyz-1"]


def test_a_file_that_is_called_like_a_frame_is_told_from_it() -> None:
    frames = [structure("md.xyz", "md-1"), structure("md.xyz", "md-2"), structure("md-1.xsf")]
    assert names_of(frames) == ["md-1.xsf", "md.xyz-1", "md.xyz-2"]
