from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import peak_bytes
from threadpoolctl import threadpool_limits

from tio2nn.array_types import FloatArray
from tio2nn.potential import whitening as module
from tio2nn.potential.whitening import NATURAL_FRACTION, Whitening, floor_of

FLOOR = 1e-2


def _correlated(n_atoms: int = 400, seed: int = 3) -> FloatArray:
    """Four columns of very different scale and offset, each a mixture of all."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n_atoms, 4)) @ rng.normal(size=(4, 4))
    return mixed * [1e-4, 1.0, 30.0, 2e3] + [5.0, -3.0, 1e3, 0.0]


def _covariance(features: FloatArray) -> FloatArray:
    centered = features - features.mean(axis=0)
    return np.asarray(centered.T @ centered / len(features))


def test_whitened_features_are_uncorrelated_with_unit_variance() -> None:
    features = _correlated()
    whitening = Whitening.fit(features, FLOOR)
    whitened = whitening(features)
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-10)
    variances = np.linalg.eigvalsh(np.corrcoef(features.T))
    np.testing.assert_allclose(
        _covariance(whitened), np.diag((variances / (variances + FLOOR)) ** 2), atol=1e-8
    )
    np.testing.assert_allclose(
        _covariance(Whitening.fit(features, floor=1e-9)(features)), np.eye(4), atol=1e-6
    )
    assert not whitening.constant.any()


@pytest.mark.parametrize(
    ("n_atoms", "n_structures", "floor"),
    [
        (1, 1, 1.0),
        (490, 10, 1.0),
        (19_600, 1, 0.125),
        (1_960, 10, 0.125),
        (10_000, 196, 1.25e-4),
        (100_000, 5_000, 1e-6),
    ],
)
def test_the_floor_falls_with_atoms_and_with_structures(
    n_atoms: int, n_structures: int, floor: float
) -> None:
    assert floor_of(n_atoms, n_structures) == pytest.approx(floor, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.floats(-100.0, 100.0))
def test_scale_and_offset_of_a_column_do_not_matter(seed: int, scale: float, offset: float) -> None:
    features = _correlated(50, seed)
    changed = features * [1.0, scale, 1.0, 1.0] + [0.0, offset * scale, 0.0, 0.0]
    first, second = Whitening.fit(features)(features), Whitening.fit(changed)(changed)
    # the sign of an eigenvector is free, so distances between atoms are compared
    np.testing.assert_allclose(first @ first.T, second @ second.T, rtol=1e-5, atol=1e-5)


def test_what_labels_tell_of_beside_the_atoms_is_not_turned_down() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(300, 3)) * [1.0, 1.0, 0.0] + rng.normal(size=(300, 1)) * [0.0, 0.0, 1.0]
    # the third column almost follows from the first two
    features[:, 2] = features[:, 0] + features[:, 1] + 1e-3 * features[:, 2]
    thin = np.array([1.0, 1.0, -1.0])
    plain = Whitening.fit(features, FLOOR)
    aware = Whitening.fit(features, FLOOR, beside=0.5**2 * np.outer(thin, thin))
    gain, aware_gain = (float(np.linalg.norm(thin @ own.matrix)) for own in (plain, aware))
    assert gain < 0.5
    assert aware_gain == pytest.approx(2.0, rel=0.3)
    np.testing.assert_array_equal(plain.metric, aware.metric)
    np.testing.assert_array_equal(plain.mean, aware.mean)


def test_constant_columns_stay_out_whatever_labels_tell_of() -> None:
    features = np.hstack([_correlated(), np.full((400, 1), 3.0)])
    aware = Whitening.fit(features, FLOOR, beside=np.ones((5, 5)))
    assert aware.constant.tolist() == [False] * 4 + [True]
    assert not aware.matrix[4].any()


def test_new_atoms_are_seen_with_the_moments_of_the_training_atoms() -> None:
    features = _correlated()
    whitening = Whitening.fit(features)
    shifted = whitening(features[:7] + 2.0) - whitening(features[:7])
    np.testing.assert_allclose(shifted, np.tile(2.0 * whitening.matrix.sum(axis=0), (7, 1)), rtol=1e-6)


@pytest.mark.parametrize("thickness", [1e-2, 1e-3, 1e-5])
def test_what_training_hardly_spans_is_turned_down_in_the_network_but_not_in_distances(
    thickness: float,
) -> None:
    rng = np.random.default_rng(4)
    common, noise = rng.normal(size=(2, 500))
    features = np.stack([common, common + thickness * noise], axis=1)
    whitening = Whitening.fit(features, FLOOR)
    # of standardized columns, the thin direction has the variance thickness²/2
    variance = thickness**2 / 2
    variances = np.sort(whitening(features).var(axis=0))
    np.testing.assert_allclose(variances, [(variance / (variance + FLOOR)) ** 2, 1.0], rtol=0.2)
    off = np.array([[1.0, -1.0]])
    step = whitening(off) - whitening(0.0 * off)
    assert np.linalg.norm(step) < np.sqrt(2.0) * 1.1 * np.sqrt(variance) / FLOOR + 1e-9
    far = np.linalg.norm(whitening.points(off) - whitening.points(0.0 * off))
    assert far == pytest.approx(np.sqrt(2.0 / (variance + FLOOR)), rel=0.1)


def test_no_direction_is_blown_up_beyond_half_the_root_of_the_floor() -> None:
    features = np.random.default_rng(1).normal(size=(12, 40)) @ np.diag(np.geomspace(1e-9, 1e3, 40))
    whitening = Whitening.fit(features, floor=1e-2)
    gains = np.linalg.svd(features.std(axis=0)[:, None] * whitening.matrix, compute_uv=False)
    assert gains.max() <= 0.5 / np.sqrt(1e-2) * (1.0 + 1e-9)


def test_a_column_that_was_almost_zero_in_training_stays_small_where_it_is_not() -> None:
    """Of aligned molecules all functions of bent ones are rounding."""
    features = _correlated()
    features[:, 2] = 1e-9 * np.random.default_rng(0).random(len(features))
    bent = features[:1] + np.array([0.0, 0.0, 0.05, 0.0])
    sizes = np.array([1e-3, 1.0, 0.5, 1e3])
    blind, seeing = Whitening.fit(features, FLOOR), Whitening.fit(features, FLOOR, sizes)
    assert np.abs(blind(bent) - blind(features[:1])).max() > 1e6
    assert np.abs(seeing(bent) - seeing(features[:1])).max() < 1e-2
    assert np.abs(seeing.points(bent) - seeing.points(features[:1])).max() > 10.0
    plain = Whitening.standardization(features, sizes)
    assert np.abs(plain(bent) - plain(features[:1])).max() < 0.05 / (NATURAL_FRACTION * 0.5) * 1.01


def test_the_floor_is_a_choice() -> None:
    rng = np.random.default_rng(4)
    common, noise = rng.normal(size=(2, 500))
    features = np.stack([common, common + 1e-3 * noise], axis=1)
    whitened = Whitening.fit(features, floor=1e-12)(features)
    np.testing.assert_allclose(whitened.var(axis=0), 1.0, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5, 1e-30])
@pytest.mark.parametrize("make", [Whitening.fit, Whitening.standardization])
def test_a_constant_column_is_named_and_has_no_effect(make: type[Whitening], value: float) -> None:
    features = _correlated()
    features[:, 2] = value
    whitening = make(features)
    assert whitening.constant.tolist() == [False, False, True, False]
    new = features[:5].copy()
    new[:, 2] += [0.0, 1.0, -1.0, 1e6, 1e-9]
    np.testing.assert_array_equal(whitening(new), whitening(features[:5]))
    others = np.delete(features, 2, axis=1)
    expected = make(others)(others)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(whitening(features), axis=1)),
        np.sort(np.linalg.norm(expected, axis=1)),
        rtol=1e-8,
    )


def test_a_column_that_varies_by_rounding_alone_is_constant() -> None:
    features = _correlated()
    features[:, 1] = 1e3 * (1.0 + 1e-16 * np.arange(len(features)))
    assert Whitening.fit(features).constant.tolist() == [False, True, False, False]


def test_a_column_that_varies_a_little_about_a_large_value_counts() -> None:
    features = _correlated()
    features[:, 1] = 1e3 + 1e-3 * np.random.default_rng(0).normal(size=len(features))
    whitening = Whitening.fit(features, floor=1e-9)
    assert not whitening.constant.any()
    np.testing.assert_allclose(_covariance(whitening(features)), np.eye(4), atol=1e-5)


@pytest.mark.parametrize("make", [Whitening.fit, Whitening.standardization])
@pytest.mark.parametrize(
    "features",
    [np.zeros((5, 3)), np.array([[1.0, -2.0, 3.0]]), np.full((4, 3), 1e300), np.full((4, 3), 1e-310)],
    ids=["zeros", "one atom", "huge", "subnormal"],
)
def test_nothing_that_varies_whitens_to_zero(make: type[Whitening], features: FloatArray) -> None:
    whitening = make(features)
    assert whitening.constant.all()
    np.testing.assert_array_equal(whitening(features), np.zeros_like(features))


def test_fewer_atoms_than_features_stay_finite_and_bounded() -> None:
    features = np.random.default_rng(1).normal(size=(3, 8))
    whitened = Whitening.fit(features, floor=1e-9)(features)
    # three centered atoms span two directions; rounding in the other six must not show
    assert np.isfinite(whitened).all()
    assert np.linalg.matrix_rank(whitened, tol=1e-6) == 2
    np.testing.assert_allclose(np.linalg.norm(whitened) ** 2, 2 * 3, rtol=1e-6)


def test_standardization_scales_each_column_by_itself() -> None:
    features = _correlated()
    standardized = Whitening.standardization(features)(features)
    expected = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(standardized, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("make", [Whitening.fit, Whitening.standardization])
def test_a_fit_in_pieces_is_that_to_the_whole(make: type[Whitening], monkeypatch: pytest.MonkeyPatch) -> None:
    features = _correlated(403)
    features[:, 2] = 0.25
    whole = make(features)
    monkeypatch.setattr(module, "_ROWS_TOGETHER", 50)
    pieces = make(features)
    assert pieces.constant.tolist() == whole.constant.tolist() == [False, False, True, False]
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    # the sign of an eigenvector is free
    np.testing.assert_allclose(np.abs(pieces(features)), np.abs(whole(features)), rtol=1e-6, atol=1e-9)


def test_a_fit_takes_little_memory_beside_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_TOGETHER", 500)
    features = np.random.default_rng(0).normal(size=(20_000, 10))
    assert peak_bytes(lambda: Whitening.fit(features)) < features.nbytes / 4


def test_the_bits_do_not_depend_on_the_threads_of_matrix_products() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 460)) @ rng.normal(size=(460, 460))
    found = []
    for n in (1, 2):
        with threadpool_limits(n, user_api="blas"):
            found.append(Whitening.fit(features, FLOOR))
    assert (found[0].matrix == found[1].matrix).all()
    assert (found[0].metric == found[1].metric).all()
