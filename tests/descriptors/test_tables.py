"""Tables of functions: how powers are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.descriptors.tables import power_recipe


@given(
    st.lists(
        st.tuples(st.sampled_from((-1, 1)), st.one_of(st.integers(1, 40).map(float), st.floats(1.0, 40.0))),
        min_size=1,
        max_size=8,
    ),
    st.floats(-1.0, 1.0),
)
def test_the_recipe_makes_every_power(powers: list[tuple[int, float]], cosine: float) -> None:
    recipe, exponents, rows = power_recipe(powers)
    made: list[float] = []
    for (a, b), exponent in zip(recipe, exponents, strict=True):
        if a < 0:
            made.append(0.5 * (1.0 + b * cosine))
        else:
            assert max(a, b) < len(made)
            made.append(made[a] ** exponent if b < 0 else made[a] * made[b])
    assert len(recipe) % 2 == 0
    for row, (lambda_, zeta) in zip(rows, powers, strict=True):
        assert made[row] == pytest.approx((0.5 * (1.0 + lambda_ * cosine)) ** zeta, rel=1e-12, abs=1e-300)


def test_the_powers_1_2_4_of_both_signs_cost_four_products() -> None:
    recipe, _, _ = power_recipe([(lambda_, zeta) for lambda_ in (-1, 1) for zeta in (1.0, 2.0, 4.0)])
    assert len(recipe) == 6
    assert (recipe[:, 0] >= 0).sum() == 4
