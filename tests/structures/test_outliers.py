from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.structures.outliers import FEWEST, GROSS_ENERGY, beyond_factor, beyond_gap


def test_what_stands_alone_is_separated_on_either_side() -> None:
    values = np.array([*np.linspace(-0.1, 0.1, 20), 500.0, -30.0])
    np.testing.assert_array_equal(np.flatnonzero(beyond_gap(values, GROSS_ENERGY)), [20, 21])


def test_a_long_tail_is_not_separated_from_its_body() -> None:
    # as TiO2: most within 1 eV/atom, the last at 30
    tail = np.geomspace(0.7, 30.0, 60)
    assert not beyond_gap(np.concatenate([np.linspace(-0.7, 0.7, 600), tail]), GROSS_ENERGY).any()


def test_a_gap_narrower_than_the_rest_is_spread_separates_nothing() -> None:
    wide = np.linspace(0.0, 100.0, 21)
    assert not beyond_gap(np.array([*wide, 190.0]), GROSS_ENERGY).any()
    assert beyond_gap(np.array([*wide, 210.0]), GROSS_ENERGY).tolist() == [False] * 21 + [True]


def test_two_halves_are_both_kept() -> None:
    assert not beyond_gap(np.array([0.0] * 10 + [1000.0] * 10), GROSS_ENERGY).any()


def test_of_few_none_is_separated() -> None:
    assert not beyond_gap(np.array([0.0] * (FEWEST - 2) + [1e6]), GROSS_ENERGY).any()
    assert beyond_gap(np.array([0.0] * (FEWEST - 1) + [1e6]), GROSS_ENERGY).sum() == 1


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.floats(0.1, 100.0))
def test_at_most_a_quarter_is_separated_on_a_side_and_none_but_the_outermost(
    values: list[float], smallest: float
) -> None:
    array = np.array(values)
    chosen = beyond_gap(array, smallest)
    rest = array[~chosen]
    assert len(rest) >= len(array) - 2 * (len(array) // 4)
    for value in array[chosen]:
        assert value < rest.min() - smallest or value > rest.max() + smallest
    np.testing.assert_array_equal(chosen[::-1], beyond_gap(array[::-1], smallest))


@pytest.mark.parametrize(("largest", "expected"), [(90.0, 0), (1e4, 1)])
def test_a_force_is_absurd_beyond_a_factor_and_a_bound(largest: float, expected: int) -> None:
    forces = np.array([*np.linspace(0.0, 2.0, 20), largest, np.nan])
    found = beyond_factor(forces, factor=100.0, smallest=100.0)
    assert found.sum() == expected
    assert not found[-1]


def test_relaxed_structures_make_those_that_are_not_no_outliers() -> None:
    assert not beyond_factor(np.array([1e-4] * 20 + [50.0]), 100.0, 100.0).any()
    assert not beyond_factor(np.array([1e-4] * 20 + [50.0] * 20 + [1.0, 4000.0]), 100.0, 100.0).any()
