"""Which structures have derivatives, where not all can: each element, composition and group first."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.project.derivative_budget import plan_derivatives


def plan(
    sizes: list[int],
    budget: int,
    groups: list[str] | None = None,
    compositions: list[list[int]] | None = None,
    seed: int = 0,
) -> list[int]:
    n = len(sizes)
    chosen = plan_derivatives(
        np.array(sizes),
        np.ones(n, dtype=bool),
        groups or [str(k) for k in range(n)],
        np.array(compositions or [[1, 1]] * n),
        seed,
        budget,
    )
    return np.flatnonzero(chosen).tolist()


def test_all_are_chosen_where_all_fit() -> None:
    assert plan([3, 4, 5], 12) == [0, 1, 2]


def test_structures_without_forces_are_never_chosen() -> None:
    has_forces = np.array([True, False, True, False])
    arguments = (has_forces, ["a"] * 4, np.ones((4, 1)), 0)
    assert plan_derivatives(np.ones(4, int), *arguments, 4).tolist() == has_forces.tolist()
    assert plan_derivatives(np.ones(4, int), *arguments, 1).sum() == 1


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1),
    st.integers(0, 800),
    st.integers(0, 2**31 - 1),
)
def test_what_is_chosen_fits_and_nothing_that_would_fit_is_left(
    rows: list[tuple[int, int, int, bool]], budget: int, seed: int
) -> None:
    sizes, groups, kinds, has_forces = map(np.array, zip(*rows, strict=True))
    compositions = np.array([[kind, 4 - kind] for kind in kinds])
    chosen = plan_derivatives(sizes, has_forces, [str(g) for g in groups], compositions, seed, budget)
    again = plan_derivatives(sizes, has_forces, [str(g) for g in groups], compositions, seed, budget)
    np.testing.assert_array_equal(chosen, again)
    assert not (chosen & ~has_forces).any()
    left = budget - sizes[chosen].sum()
    assert left >= 0
    assert (sizes[has_forces & ~chosen] > left).all()


def test_another_seed_draws_others() -> None:
    assert len({tuple(plan([1] * 40, 10, seed=seed)) for seed in range(5)}) == 5


def test_each_element_comes_first_however_rare_it_is() -> None:
    compositions = [[2, 0, 0]] * 97 + [[2, 1, 0], [2, 0, 1], [1, 1, 0]]
    for seed in range(10):
        chosen = plan([1] * 100, 3, compositions=compositions, seed=seed)
        assert (np.array(compositions)[chosen].sum(axis=0) > 0).all()


def test_each_composition_is_represented_and_then_in_proportion_to_its_number() -> None:
    kinds = [0] * 80 + [1] * 19 + [2]
    compositions = [[kind + 1, 4] for kind in kinds]
    for seed in range(10):
        counts = Counter(kinds[k] for k in plan([1] * 100, 20, compositions=compositions, seed=seed))
        assert counts[2] == 1
        assert counts[0] in (14, 15, 16)


def test_no_group_comes_twice_before_all_came_once() -> None:
    groups = ["scan"] * 90 + [f"alone {k}" for k in range(10)]
    for seed in range(10):
        chosen = plan([1] * 100, 14, groups, seed=seed)
        assert Counter(groups[k] for k in chosen)["scan"] == 4
        assert set(chosen) >= set(range(90, 100))
