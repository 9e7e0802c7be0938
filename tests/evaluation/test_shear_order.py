"""The order of components is told by predictions, kind by kind."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tio2nn.evaluation.residuals import EvaluatedStress
from tio2nn.evaluation.shear_order import other_orders

NAMES = ("yz", "xz", "xy")


def stresses(n: int, order: tuple[int, ...] = (0, 1, 2), error: float = 0.1) -> list[EvaluatedStress]:
    """Predictions of 0.01 eV/Å³ with an error, of labels whose shears are written in another order."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(n):
        true = 0.01 * rng.normal(size=6)
        written = np.concatenate([true[:3], true[3:][list(order)]])
        made.append(EvaluatedStress(written, true + 0.01 * error * rng.normal(size=6)))
    return made


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_every_order_is_named(order: tuple[int, ...]) -> None:
    (found,) = other_orders(["bulk"] * 10, stresses(10, order))
    assert found.order == ("xx", "yy", "zz", *(NAMES[k] for k in order))
    assert found.rmse < 0.3 < found.rmse_as_read
    assert found.message().startswith(
        f"shear stresses of 10 structures (bulk) seem to be in the order {' '.join(found.order)}: "
    )


def test_another_order_of_the_diagonal_is_named() -> None:
    written = [EvaluatedStress(s.true[[2, 0, 1, 3, 4, 5]], s.predicted) for s in stresses(10)]
    (found,) = other_orders([""] * 10, written)
    assert found.order == ("zz", "xx", "yy", "yz", "xz", "xy")
    assert found.message().startswith(
        "normal stresses of 10 structures seem to be in the order zz xx yy yz xz xy: "
    )


def test_each_kind_is_looked_at() -> None:
    mixed = [*stresses(10), *stresses(9, (1, 0, 2)), None]
    (found,) = other_orders(["a"] * 10 + ["b"] * 9 + ["b"], mixed)
    assert (found.config_type, found.n) == ("b", 9)


def test_right_orders_and_poor_or_few_predictions_are_left_alone() -> None:
    assert other_orders([""] * 10, stresses(10)) == []
    assert other_orders([""] * 10, stresses(10, (1, 0, 2), error=3.0)) == []
    assert other_orders([""] * 7, stresses(7, (1, 0, 2))) == []
