from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.structures.coverage import rare_elements, with_every_kind_in_training
from tio2nn.structures.split import SETS, Split, random_split

NAMES = [f"s{k}" for k in range(40)]
SIZES = [34, 2, 4]  # of train, validation, test


def metals(rare: dict[int, list[int]], n: int = 40) -> np.ndarray:
    """Structures of copper, but for a few: numbers of atoms of copper and two other elements."""
    counts = np.tile([4, 0, 0], (n, 1))
    for index, row in rare.items():
        counts[index] = row
    return counts


def draw(seed: int, compositions: np.ndarray | None, groups: list[str] = NAMES) -> Split:
    return random_split(NAMES, groups, 0.05, 0.1, seed, compositions)


def sizes(split: Split) -> list[int]:
    return [len(split.indices(part)) for part in SETS]


@pytest.mark.parametrize("seed", range(20))
def test_the_only_structure_of_an_element_is_trained_on_and_one_other_takes_its_place(seed: int) -> None:
    before, after = draw(seed, None), draw(seed, metals({7: [3, 1, 0]}))
    assert after.parts[7] == "train"
    assert sizes(after) == sizes(before) == SIZES
    moved = [k for k in range(40) if before.parts[k] != after.parts[k]]
    assert len(moved) == (0 if before.parts[7] == "train" else 2)


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_composition_of_common_elements_is_trained_on(seed: int) -> None:
    counts = np.tile([4, 4, 0], (40, 1))
    counts[20:] = [8, 4, 0]
    counts[11] = [2, 6, 0]
    split = draw(seed, counts)
    assert split.parts[11] == "train"
    assert sizes(split) == SIZES


def test_ratios_count_and_not_the_numbers_of_atoms() -> None:
    counts = np.tile([4, 4, 0], (40, 1))
    counts[11] = [16, 16, 0]
    for seed in range(10):
        assert draw(seed, counts) == draw(seed, None)


def test_where_every_composition_is_another_the_split_is_left_as_it_is() -> None:
    counts = np.random.default_rng(0).multinomial(30, [0.4, 0.3, 0.3], 40)
    for seed in range(10):
        assert draw(seed, counts) == draw(seed, None)


def test_structures_that_are_not_used_neither_need_nor_fill_a_place() -> None:
    counts = metals({7: [3, 1, 0], 8: [3, 1, 0]})
    counts[8] = 0
    for seed in range(10):
        assert draw(seed, counts).parts[7] == "train"
    assert [draw(seed, metals({7: [0, 0, 0]})) for seed in range(5)] == [
        draw(seed, None) for seed in range(5)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_groups_stay_together_when_they_change_places(seed: int) -> None:
    groups = [f"g{k // 2:02d}" for k in range(40)]
    split = draw(seed, metals({7: [3, 1, 0]}), groups)
    assert len(set(zip(groups, split.parts, strict=True))) == 20
    assert split.parts[7] == "train"
    assert sizes(split) == SIZES


def test_an_element_is_trained_on_even_where_nothing_can_take_its_place() -> None:
    parts = with_every_kind_in_training(["train", "test"], [[0], [1]], np.array([[1, 0], [0, 1]]))
    assert parts == ["train", "train"]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40),
    st.integers(0, 1000),
    st.integers(1, 4),
)
def test_every_element_is_in_training_whatever_the_set(
    rows: list[tuple[int, int, int]], seed: int, together: int
) -> None:
    counts = np.array(rows)
    names = [f"s{k}" for k in range(len(rows))]
    groups = [f"g{k // together}" for k in range(len(rows))]
    split = random_split(names, groups, 0.2, 0.3, seed, counts)
    training = counts[split.indices("train")]
    assert ((training > 0).any(axis=0) == (counts > 0).any(axis=0)).all()
    assert len(set(zip(groups, split.parts, strict=True))) == len(set(groups))
    before = Counter(random_split(names, groups, 0.2, 0.3, seed).parts)
    assert all(Counter(split.parts)[part] <= before[part] for part in ("validation", "test"))


@pytest.mark.parametrize("seed", range(20))
def test_the_only_structure_with_forces_is_trained_on(seed: int) -> None:
    has_forces = np.arange(40) == 7
    counts = metals({})
    before, after = draw(seed, counts), random_split(NAMES, NAMES, 0.05, 0.1, seed, counts, has_forces)
    assert after.parts[7] == "train"
    assert sizes(after) == sizes(before) == SIZES
    # where all have some, or none, nothing changes
    for same in (np.ones(40, np.bool_), np.zeros(40, np.bool_)):
        assert random_split(NAMES, NAMES, 0.05, 0.1, seed, counts, same) == before


def test_elements_of_next_to_no_structure_are_named() -> None:
    copper = [{"Cu": 4}] * 37
    found = rare_elements([*copper, {"Cu": 3, "Au": 1}, {"Ag": 2}, {"Ag": 3, "Cu": 1}])
    assert found is not None
    assert found.startswith("rare elements: Ag in 2 and Au in 1 of 40 structures, too few")
    assert rare_elements([*copper, *[{"Cu": 3, "Au": 1}] * 3]) is None
    assert rare_elements([{"Cu": 4}, {"Au": 4}, {"Ag": 4}]) is None
    assert rare_elements([]) is None
