from __future__ import annotations

import numpy as np
import pytest

from tio2nn.leakage import fingerprints, nearest_in_training
from tio2nn.nn.dataset import AtomTable
from tio2nn.nn.whitening import Whitening

PLAIN = [Whitening(np.zeros(2), np.eye(2), np.zeros(2, dtype=np.bool_))] * 2


def test_a_fingerprint_is_the_mean_over_the_atoms_element_by_element() -> None:
    table = AtomTable(
        (np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[7.0, 8.0]])), np.array([[2, 0], [1, 1]])
    )
    np.testing.assert_allclose(fingerprints(table, PLAIN), [[2.0, 3.0, 0.0, 0.0], [2.5, 3.0, 3.5, 4.0]])


def test_a_doubled_cell_has_the_same_fingerprint() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 2))
    single = AtomTable((rows[:2], rows[2:]), np.array([[2, 1]]))
    double = AtomTable((np.repeat(rows[:2], 2, axis=0), np.repeat(rows[2:], 2, axis=0)), np.array([[4, 2]]))
    np.testing.assert_allclose(fingerprints(single, PLAIN), fingerprints(double, PLAIN))


@pytest.mark.parametrize("n_test", [1, 700])
def test_the_nearest_training_structure_is_found(n_test: int) -> None:
    rng = np.random.default_rng(n_test)
    test, training = rng.normal(size=(n_test, 6)), rng.normal(size=(50, 6))
    names = [f"t{k}" for k in range(50)]
    found = nearest_in_training(test, training, names, ["a"] * n_test, ["b"] * 49 + ["a"])
    distances = np.sqrt(((test[:, None] - training[None]) ** 2).mean(axis=2))
    assert [nearest.name for nearest in found] == [names[k] for k in distances.argmin(axis=1)]
    pairs = np.sqrt((((training[:, None] - training[None]) ** 2).mean(axis=2)).mean())
    np.testing.assert_allclose([nearest.distance for nearest in found], distances.min(axis=1) / pairs)
    assert all(nearest.same_group for nearest in found)


def test_a_twin_in_training_is_at_distance_zero_to_rounding() -> None:
    rows = 1e3 + np.random.default_rng(2).normal(size=(20, 6))
    (found,) = nearest_in_training(rows[7:8], rows, [str(k) for k in range(20)], ["a"], ["b"] * 20)
    assert found == ("7", 0.0, False)
