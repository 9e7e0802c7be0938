from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import InputError
from tio2nn.structures.split import LEFT_OUT, SETS, Split, covers, random_split, read_parts, read_split

NAMES = tuple(f"s{number}" for number in range(1, 41))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a list that a user gives."""

    def to_file(text: str) -> Path:
        path = tmp_path / "list"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def part_of(split: Split) -> dict[str, str]:
    return dict(zip(split.names, split.parts, strict=True))


def chance(seed: int = 0, validation: float = 0.1, test: float = 0.25) -> Split:
    return random_split(NAMES, NAMES, validation, test, seed)


# --- by chance ----------------------------------------------------------------------------------------------


def test_the_parts_have_the_sizes_that_are_asked_for() -> None:
    split = chance(validation=0.1, test=0.25)
    assert [len(split.indices(part)) for part in SETS] == [26, 4, 10]
    assert sorted(np.concatenate([split.indices(part) for part in SETS])) == list(range(40))


def test_one_seed_gives_one_split_and_another_seed_another() -> None:
    assert chance(seed=3) == chance(seed=3)
    splits = {chance(seed=seed).parts for seed in range(20)}
    assert len(splits) == 20


def test_every_structure_comes_into_the_test_part_for_some_seed() -> None:
    tested = {int(index) for seed in range(60) for index in chance(seed=seed).indices("test")}
    assert tested == set(range(40))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Names, and for each the name of its group."""
    groups = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=40))
    return [f"s{k}" for k in range(len(groups))], groups


fractions = st.floats(0.0, 0.49)


@given(grouped(), fractions, fractions, st.integers(0, 2**31 - 1))
def test_a_group_is_never_divided(
    structures: tuple[list[str], list[str]], validation: float, test: float, seed: int
) -> None:
    names, groups = structures
    parts = random_split(names, groups, validation, test, seed).parts
    assert len(set(zip(groups, parts, strict=True))) == len(set(groups))


@given(grouped(), fractions, fractions, st.integers(0, 2**31 - 1))
def test_groups_fill_no_part_above_its_size_and_leave_something_to_train_on(
    structures: tuple[list[str], list[str]], validation: float, test: float, seed: int
) -> None:
    names, groups = structures
    split = random_split(names, groups, validation, test, seed)
    sizes = {part: len(split.indices(part)) for part in SETS}
    assert sizes["train"] >= 1
    assert sizes["test"] <= round(test * len(names))
    wanted = round(validation * len(names))
    if sizes["validation"] > max(1, wanted):
        # all groups are larger than the part: the smallest of those that would train has to do
        left = [len(own) for own in members(split, groups, ("train", "validation"))]
        assert sizes["validation"] == min(left)
    if validation > 0 and len(members(split, groups, ("train", "validation"))) > 1:
        assert sizes["validation"] >= 1


def members(split: Split, groups: list[str], parts: tuple[str, ...]) -> list[list[int]]:
    """The groups in these parts, each as the positions of its structures."""
    chosen = {group for group, part in zip(groups, split.parts, strict=True) if part in parts}
    return [[k for k, own in enumerate(groups) if own == group] for group in sorted(chosen)]


@given(st.integers(1, 60), fractions, fractions, st.integers(0, 2**31 - 1))
def test_without_groups_every_size_is_exact(n: int, validation: float, test: float, seed: int) -> None:
    names = [f"s{k}" for k in range(n)]
    split = random_split(names, names, validation, test, seed)
    n_validation = min(n - 1, max(1, round(validation * n))) if validation > 0 else 0
    n_test = min(n - 1 - n_validation, round(test * n))
    assert [len(split.indices(part)) for part in SETS] == [n - n_validation - n_test, n_validation, n_test]


@given(grouped(), st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_the_order_of_the_structures_does_not_matter(
    structures: tuple[list[str], list[str]], seed: int, shuffler: random.Random
) -> None:
    names, groups = structures
    order = list(range(len(names)))
    shuffler.shuffle(order)
    expected = part_of(random_split(names, groups, 0.2, 0.3, seed))
    found = random_split([names[k] for k in order], [groups[k] for k in order], 0.2, 0.3, seed)
    assert part_of(found) == expected


def test_pairs_fill_their_parts_to_the_last_structure() -> None:
    split = random_split(NAMES, [str(k // 2) for k in range(40)], 0.1, 0.25, seed=1)
    assert [len(split.indices(part)) for part in SETS] == [26, 4, 10]


# --- split.csv ----------------------------------------------------------------------------------------------


def test_a_split_that_was_written_is_read_back(tmp_path: Path) -> None:
    split = chance()
    split = Split(split.names, (LEFT_OUT, *split.parts[1:]))
    split.write(tmp_path / "split.csv", [f"group of {name}" for name in NAMES])
    assert read_split(tmp_path / "split.csv", NAMES, 0.1, seed=0) == split
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["structure"] for row in rows] == list(NAMES)
    assert rows[4] == {"structure": "s5", "part": split.parts[4], "group": "group of s5"}


def test_a_split_covers_just_its_own_structures(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    chance().write(path, NAMES)
    assert covers(read_parts(path), NAMES)
    assert covers(read_parts(path), NAMES[::-1])
    assert not covers(read_parts(path), NAMES[:-1])
    assert not covers(read_parts(path), (*NAMES, "s41"))
    Split(NAMES, ("test",) * 40).write(path, NAMES)
    assert not covers(read_parts(path), NAMES)
    path.write_text("structure,part\ns1,trian\n", encoding="utf-8")
    with pytest.raises(InputError, match=r'split.csv:2: expected the part .*, got "trian"'):
        covers(read_parts(path), ("s1",))


# --- lists that a user gives --------------------------------------------------------------------------------


def test_a_table_names_the_parts_and_leaves_the_others_out(write: Callable[[str], Path]) -> None:
    path = write("note, part ,structure\nx,train,s3\ny,validation,s1\n\nz,test,s40\n,,s7\n")
    found = part_of(read_split(path, NAMES, 0.5, seed=0))
    named = {"s3": "train", "s1": "validation", "s40": "test"}
    assert found == {name: named.get(name, LEFT_OUT) for name in NAMES}


def test_a_bare_list_names_what_trains_and_validation_is_drawn_from_it(write: Callable[[str], Path]) -> None:
    listed = NAMES[10:30]
    path = write("\ufeff" + "".join(f"{name} \n\n" for name in listed))
    split = read_split(path, NAMES, 0.25, seed=0)
    assert [len(split.indices(part)) for part in SETS] == [15, 5, 0]
    assert {name for name, part in part_of(split).items() if part != LEFT_OUT} == set(listed)
    assert read_split(path, NAMES, 0.25, seed=0) == split
    assert len({read_split(path, NAMES, 0.25, seed=seed).parts for seed in range(10)}) == 10


def test_validation_is_drawn_from_the_training_part_of_a_table_without_it(
    write: Callable[[str], Path],
) -> None:
    rows = [f"{name},{'test' if k < 10 else 'train'}\n" for k, name in enumerate(NAMES[:30])]
    found = read_split(write("structure,part\n" + "".join(rows)), NAMES, 0.1, seed=0)
    assert found.parts[:10] == ("test",) * 10
    assert found.parts[30:] == (LEFT_OUT,) * 10
    assert sorted(found.parts[10:30]) == ["train"] * 18 + ["validation"] * 2


def test_names_may_be_those_of_files(write: Callable[[str], Path]) -> None:
    path = write("s1.xsf\ndata/s2.XSF.gz\ndata.tar.bz2:more/s3.extxyz\na/s5.xsf\ns6.0\n")
    names = ("s1", "s2", "s3", "s5", "a/s5.xsf", "s6.0", "s6")
    found = part_of(read_split(path, names, 0.01, seed=0))
    assert {name for name, part in found.items() if part == LEFT_OUT} == {"s5", "s6"}


@pytest.mark.parametrize("heading", ["structure", "part"])
def test_a_heading_of_a_bare_list_is_a_name_that_no_structure_has(
    write: Callable[[str], Path], heading: str
) -> None:
    assert read_split(write(f"{heading}\ns1\ns2\n"), NAMES, 0.5, seed=0).unknown == (heading,)


def test_names_that_the_store_does_not_have_are_passed_over_unless_there_are_no_others(
    write: Callable[[str], Path],
) -> None:
    found = read_split(write("s1\ns2\nrejected\n"), NAMES, 0.1, seed=0)
    assert sorted(part for part in found.parts if part) == ["train", "validation"]
    path = write("S1\nS2\n")
    with pytest.raises(InputError) as caught:
        read_split(path, NAMES, 0.1, seed=0)
    reason = 'expected names of extracted structures, got 2 unknown names: "S1", ...'
    assert str(caught.value) == f"{path}: {reason}"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (
            "structure,part\ns1,train\n\ns2,Train\n",
            4,
            'expected the part train, validation or test, got "Train"',
        ),
        ("structure,part\ns1,train\ns2,test\ns1,test\n", 4, 'expected each structure once, got "s1" twice'),
        ("s1\n\ns2\ns1.xsf\n", 4, 'expected each structure once, got "s1" twice'),
        ("structure,group,part\ns1,a,train\ns2,a\n", 3, "expected 3 columns, got 2"),
        ("", None, "expected names of structures, got an empty file"),
        ("\n  \n", None, "expected names of structures, got an empty file"),
        ("structure,part\n", None, "expected names of structures, got an empty file"),
        (
            "structure,part\ns1,test\ns2,validation\n",
            None,
            "expected at least one structure in the training set, got none",
        ),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_by_its_line(
    write: Callable[[str], Path], text: str, line: int | None, reason: str
) -> None:
    path = write(text)
    with pytest.raises(InputError) as caught:
        read_split(path, NAMES, 0.1, seed=0)
    assert (caught.value.file, caught.value.line, caught.value.reason) == (str(path), line, reason)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"s1\n\xff\xfe\n")
    for path, got in ((tmp_path / "list", "got another encoding"), (tmp_path / "none", "no such file")):
        with pytest.raises(InputError, match=got):
            read_parts(path)


def test_names_that_no_structure_has_are_reported(tmp_path: Path) -> None:
    given = tmp_path / "list.txt"
    given.write_text("s1\nnobody\ns2.xsf\nnothing.xsf\n", encoding="utf-8")
    split = read_split(given, ("s1", "s2", "s3"), 0.5, seed=0)
    assert split.unknown == ("nobody", "nothing")
    assert sorted(split.parts) == sorted(("train", "validation", LEFT_OUT))
