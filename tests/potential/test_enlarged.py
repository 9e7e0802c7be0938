"""Whitenings with components for columns that they did not know."""

from __future__ import annotations

import numpy as np
import pytest
from projects import PARAMETERS

from tio2nn.potential.enlarged import _moved, enlarged, places_of_columns
from tio2nn.potential.whitening import Whitening


def features_of(n_atoms: int, n: int, constant: list[int], seed: int) -> np.ndarray:
    """Correlated, some columns constant."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(n_atoms, n)) @ random.normal(size=(n, n)) * 10.0 ** random.uniform(-2, 2, n)
    found[:, constant] = 3.7
    return found


def fit(features: np.ndarray, _: np.ndarray) -> Whitening:
    return Whitening.fit(features, 1e-4)


# with several constant columns the components of no variance are mixtures: the whitening has to be turned
@pytest.mark.parametrize(("n", "constant"), [(6, [2]), (40, [1, 5, 17, 30]), (12, [])])
@pytest.mark.parametrize("n_new", [0, 3])
def test_what_the_whitening_knew_is_the_same_and_the_rest_has_components(
    n: int, constant: list[int], n_new: int
) -> None:
    before = features_of(300, n, constant, seed=1)
    old = Whitening.fit(before, 1e-4)
    assert old.constant.sum() == len(constant)
    columns = np.random.default_rng(2).permutation(n + n_new)[:n]
    now = features_of(200, n + n_new, [], seed=3)
    found = enlarged(old, columns, now, fit)
    assert found.n_opened == len(constant) + n_new
    assert not found.whitening.constant.any()
    kernel = np.random.default_rng(4).normal(size=(n, 5))
    larger = found.components @ kernel
    # whatever the values of the new columns
    np.testing.assert_allclose(
        found.whitening(now) @ larger, old(now[:, columns]) @ kernel, rtol=0, atol=1e-8 * np.abs(now).max()
    )
    # each new column moves the whitened features
    for column in np.delete(np.arange(n + n_new), columns[~old.constant]):
        moved = now.copy()
        moved[:, column] += now[:, column].std()
        assert np.abs(found.whitening(moved) - found.whitening(now)).max() > 0.01


@pytest.mark.parametrize("constant", [[], [3], [1, 5, 17, 30]])
def test_points_of_atoms_are_as_far_from_each_other_as_before(constant: list[int]) -> None:
    n, n_new = 40, 3
    before = features_of(300, n, constant, seed=1)
    old = Whitening.fit(before, 1e-4)
    columns = np.random.default_rng(2).permutation(n + n_new)[:n]
    found = enlarged(old, columns, features_of(200, n + n_new, [], seed=3), fit).whitening
    wide = np.zeros((len(before), n + n_new))
    wide[:, columns] = before
    moved = _moved(old.points(before).astype(np.float32), old, found, columns)
    np.testing.assert_allclose(moved, found.points(wide), rtol=1e-3, atol=2e-3)
    first, second = old.points(before[:1]), old.points(before[1:])
    np.testing.assert_allclose(
        np.linalg.norm(moved[1:] - moved[:1], axis=1), np.linalg.norm(second - first, axis=1), rtol=1e-3
    )


def test_columns_are_found_by_their_functions_and_elements() -> None:
    wanted = PARAMETERS.with_overrides(
        elements=["O", "Li", "Ti"], radial=PARAMETERS.radial[::-1], angular=PARAMETERS.angular[::-1]
    )
    places = places_of_columns(PARAMETERS, wanted)
    names = [wanted.feature_names[place] for place in places]
    assert len(set(names)) == PARAMETERS.n_features
    for own, other in zip(PARAMETERS.feature_names, names, strict=True):
        assert sorted(own.replace("[", "]").split("]")[1].split("-")) == sorted(
            other.replace("[", "]").split("]")[1].split("-")
        )
        assert own.split("] ")[1] == other.split("] ")[1]
