"""Which values of one label are the same but for rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tio2nn.io.agreement import agree

HEAVY = -5351234.5612  # eV, all electrons of ten atoms of gold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (-3.123456789, -3.1235),
        (-3.123456789, float(np.float32(-3.123456789))),
        (-69123.4412345, float(np.float32(-69123.4412345))),
        (-69123.4412345, float(str(np.float32(-69123.4412345)))),
        (HEAVY, float(np.float32(HEAVY))),
        ([[1.0, 2.00004, 3.0]], [[1.0, 2.0, 3.0]]),
        (1e300, 1e300),
        (np.nan, np.nan),
    ],
)
def test_rounding_is_no_difference(one: Any, other: Any) -> None:
    assert agree(one, other)
    assert agree(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (-3.1234, -3.1236),
        # another energy, whose single precision is no nearer
        (HEAVY, HEAVY + 0.1),
        (HEAVY, HEAVY + 0.4),
        (HEAVY, HEAVY + 0.5),
        (-69123.4412345, -69123.4452345),
        ([[1.0, 2.0001, 3.0]], [[1.0, 2.0, 3.0]]),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]] * 2),
        (1.0, np.nan),
        (1e300, 1e299),
    ],
)
def test_other_values_are_told(one: Any, other: Any) -> None:
    assert not agree(one, other)
    assert not agree(other, one)
