from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from memory import peak_bytes
from numpy.typing import NDArray

from tio2nn.evaluation import leakage, nearest
from tio2nn.evaluation.leakage import fingerprints, fingerprints_of, nearest_in_training
from tio2nn.potential.whitening import Whitening
from tio2nn.training.atom_table import AtomTable

FloatArray = NDArray[np.float64]

PLAIN = [Whitening(np.zeros(2), np.eye(2), np.zeros(2, dtype=np.bool_), np.eye(2))] * 2


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


def _brute_force(test: FloatArray, training: FloatArray) -> FloatArray:
    """(n_test, n_training) rms of the differences, in units of that of two training structures."""
    pairs = np.sqrt((((training[:, None] - training[None]) ** 2).mean(axis=2)).mean())
    return np.asarray(np.sqrt(((test[:, None] - training[None]) ** 2).mean(axis=2)) / pairs)


@pytest.mark.parametrize("worth_all", [nearest._WORTH_ALL, 1])
@pytest.mark.parametrize("together", [16_384, 7])
@pytest.mark.parametrize(("n_test", "n_columns"), [(1, 6), (700, 6), (700, 1), (60, 60)])
def test_the_nearest_training_structure_is_found(
    n_test: int, n_columns: int, together: int, worth_all: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with 1, the tree may be asked for all of them
    monkeypatch.setattr(nearest, "_WORTH_ALL", worth_all)
    monkeypatch.setattr(nearest, "_OF_TRAINING", together)
    rng = np.random.default_rng(n_test)
    test, training = rng.normal(size=(n_test, n_columns)), rng.normal(size=(50, n_columns))
    names = [f"t{k}" for k in range(50)]
    found = nearest_in_training(test, training, names, ["a"] * n_test, ["b"] * 49 + ["a"])
    distances = _brute_force(test, training)
    assert [one.name for one in found] == [names[k] for k in distances.argmin(axis=1)]
    np.testing.assert_allclose([one.distance for one in found], distances.min(axis=1))
    assert all(one.same_group for one in found)


def _frames(n: int, rng: np.random.Generator) -> FloatArray:
    """Fingerprints of 60 features as data sets have them: geometries with 25 frames each, which vary in all directions,
    in the later ones less."""
    widths = 0.8 ** np.arange(60)
    frames = np.repeat(rng.normal(size=(n // 25, 60)), 25, axis=0) + 0.1 * rng.normal(size=(n, 60))
    return np.asarray(rng.permutation(frames * widths))


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_of_many_frames_is_found(seed: int) -> None:
    rows = 5.0 + _frames(1000, np.random.default_rng(seed))
    test, training = rows[:200], rows[200:]
    names = [str(k) for k in range(800)]
    found = nearest_in_training(test, training, names, ["a"] * 200, ["b"] * 800)
    distances = _brute_force(test, training)
    assert [int(one.name) for one in found] == distances.argmin(axis=1).tolist()
    np.testing.assert_allclose([one.distance for one in found], distances.min(axis=1))


def _compared(test: FloatArray, training: FloatArray, monkeypatch: pytest.MonkeyPatch) -> float:
    """Training structures that each test structure is compared with."""
    n = 0

    def counting(
        compare: Callable[..., FloatArray], n_pairs: Callable[..., int]
    ) -> Callable[..., FloatArray]:
        def counted(*arguments: Any) -> Any:
            nonlocal n
            n += n_pairs(*arguments)
            return compare(*arguments)

        return counted

    with monkeypatch.context() as patched:
        few = counting(nearest._distances, lambda *arguments: arguments[-1].size)
        patched.setattr(nearest, "_distances", few)
        of_all = counting(nearest._closest_of_all, lambda part, _, chosen: len(part) * len(chosen))
        patched.setattr(nearest, "_closest_of_all", of_all)
        names = [str(k) for k in range(len(training))]
        nearest_in_training(test, training, names, ["a"] * len(test), ["b"] * len(training))
    return n / len(test)


def test_a_structure_is_compared_with_as_many_others_in_a_larger_training_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = _frames(42_000, np.random.default_rng(0))
    test = rows[:2000]
    of_few, of_many = (_compared(test, rows[2000 : 2000 + n], monkeypatch) for n in (5_000, 40_000))
    assert of_many < 50
    assert of_many < 1.5 * of_few


def test_a_structure_is_not_compared_with_all_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    equal = np.repeat(rng.normal(size=(10, 60)), 1000, axis=0)
    noise = 1e-12 * rng.normal(size=equal.shape)
    for training in (equal, equal + noise):
        assert _compared(training[::100], training, monkeypatch) < 50


def test_what_has_no_order_is_compared_in_products_of_matrices_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # in 60 equal directions all are about equally far
    rng = np.random.default_rng(0)
    training = rng.normal(size=(3000, 60))
    assert _compared(rng.normal(size=(300, 60)), training, monkeypatch) < 1.1 * len(training)


def test_a_twin_in_training_is_at_distance_zero_to_rounding() -> None:
    rows = 1e3 + np.random.default_rng(2).normal(size=(20, 6))
    (found,) = nearest_in_training(rows[7:8], rows, [str(k) for k in range(20)], ["a"], ["b"] * 20)
    assert found == ("7", 0.0, False)


def test_of_several_twins_in_training_the_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_OF_TRAINING", 2)
    rows = np.array([[0.0, 0.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0]])
    (found,) = nearest_in_training(rows[4:], rows, list("abcde"), ["a"], ["b"] * 5)
    assert found.name == "b"


def test_memory_for_the_nearest_does_not_grow_with_the_training_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_OF_TRAINING", 100)
    rng = np.random.default_rng(0)
    test, training = rng.normal(size=(200, 3)), rng.normal(size=(5000, 3))
    names = [str(k) for k in range(5000)]
    peak = peak_bytes(lambda: nearest_in_training(test, training, names, ["a"] * 200, ["b"] * 5000))
    # all distances at once are 8 MB
    assert peak < 2_000_000


def _blocks(n_structures: int) -> Iterator[np.ndarray]:
    """Two features of the three atoms of structures, five structures at a time."""
    for first in range(0, n_structures, 5):
        yield np.random.default_rng(first).normal(size=(15, 2))


@pytest.mark.parametrize("together", [65_536, 40])
def test_fingerprints_from_blocks_are_those_of_all_structures(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leakage, "_ATOMS_TOGETHER", together)
    elements, n_atoms = np.tile([0, 1, 0], 100), np.full(100, 3)
    parts = [np.array([0, 1, 7, 50, 99]), np.arange(2, 98)]
    found = fingerprints_of(parts, _blocks(100), elements, n_atoms, PLAIN)
    table = AtomTable.from_rows(np.concatenate(list(_blocks(100))), elements, n_atoms, 2)
    for own, part in zip(found, parts, strict=True):
        np.testing.assert_allclose(own, fingerprints(table.select(part), PLAIN), rtol=1e-12)


def test_fingerprints_need_few_features_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "_ATOMS_TOGETHER", 1000)
    n, n_features = 400, 20
    plain = Whitening(
        np.zeros(n_features), np.eye(n_features), np.zeros(n_features, dtype=np.bool_), np.eye(n_features)
    )
    blocks = (np.full((500, n_features), float(k)) for k in range(n // 10))
    arguments = (np.zeros(50 * n, int), np.full(n, 50), [plain])
    peak = peak_bytes(lambda: fingerprints_of([np.arange(n)], blocks, *arguments))
    assert peak < 8 * n_features * 50 * n / 3
