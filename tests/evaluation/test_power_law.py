"""Laws of learning curves, of points that follow one."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.evaluation.power_law import Curve, fit_curve

SIZES = np.repeat([50, 100, 200, 500, 1000], 2)


def law(n: float, floor: float = 0.0) -> float:
    return float(floor + 50.0 * n**-0.6)


def fitted(n: list[int], floor: float = 0.0, scatter: float = 0.0, seed: int = 0) -> Curve:
    rng = np.random.default_rng(seed)
    found = fit_curve(n, [law(one, floor) * float(np.exp(scatter * rng.normal())) for one in n])
    assert found is not None
    return found


def test_a_law_is_found_again() -> None:
    found = fitted(SIZES.tolist())
    assert found.law.floor == 0.0
    assert (found.law.factor, found.law.exponent) == (pytest.approx(50.0), pytest.approx(0.6))
    assert found.at(2000).value == pytest.approx(law(2000))
    assert found.falls


def test_a_floor_is_found_again() -> None:
    found = fitted(SIZES.tolist(), floor=1.0)
    assert found.law.floor == pytest.approx(1.0, rel=1e-3)
    assert found.law.exponent == pytest.approx(0.6, rel=1e-3)
    assert found.law.formula().startswith("1 + 50 N^-0.6")


@pytest.mark.parametrize("floor", [0.0, pytest.param(0.3, marks=pytest.mark.slow), 1.0])
def test_the_interval_of_twice_the_data_has_the_truth_as_often_as_it_says(floor: float) -> None:
    """95 of 100 times, and hardly less where five sizes cannot tell that there is a floor."""
    hits = 0
    for seed in range(100):
        low, high = fitted(SIZES.tolist(), floor, 0.1, seed).at(2000)[1:]
        hits += low <= law(2000, floor) <= high
    assert hits >= 88


def test_the_interval_of_the_exponent_has_the_truth_as_often_as_it_says() -> None:
    found = [fitted(SIZES.tolist(), 0.0, 0.1, seed).law.exponent_interval for seed in range(100)]
    assert sum(low <= 0.6 <= high for _, low, high in found) >= 88


def test_few_points_say_little() -> None:
    one, other = fitted([100, 200, 400], scatter=0.1), fitted(SIZES.tolist(), scatter=0.1)
    assert one.at(800).high / one.at(800).low > 2 * other.at(2000).high / other.at(2000).low
    assert fit_curve([100, 100, 200, 200], [3.0, 2.9, 2.0, 2.1]) is None


def test_errors_that_do_not_fall_are_not_said_to_fall() -> None:
    found = fit_curve([100, 200, 400, 800, 1600], [2.0, 1.9, 2.1, 2.0, 1.95])
    assert found is not None
    assert not found.falls
    assert found.at(3200).low < 2.0 < found.at(3200).high
