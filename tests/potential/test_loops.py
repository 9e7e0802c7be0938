"""The compiled loops of the networks, beside the same in plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from potentials import POTENTIAL, N

from tio2nn.cores import one_blas_thread
from tio2nn.parameters.fit_parameters import ACTIVATIONS
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.loops import CODES, activate
from tio2nn.potential.networks import Networks
from tio2nn.potential.whitening import Whitening

Extended = NDArray[np.longdouble]
# where functions are smaller than this, they may be anything that small
_NOTHING = 1e-290


def exact(activation: str, x: Extended) -> tuple[Extended, Extended]:
    """Value and slope, in more digits than float64 has."""
    e = np.exp(-np.abs(x))
    up, down = np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)
    if activation == "linear":
        return x, np.ones_like(x)
    if activation == "relu":
        return np.maximum(x, 0), (x > 0).astype(np.longdouble)
    if activation == "tanh":
        return np.tanh(x), 1 - np.tanh(x) ** 2
    if activation == "softplus":
        return np.maximum(x, 0) + np.log1p(e), up
    if activation == "sigmoid":
        return up, up * down
    return x * up, up + x * up * down


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no number here has more digits than float64")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_slopes_are_exact_to_rounding(activation: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([size * rng.normal(size=20_000) for size in (1e-9, 1e-3, 0.1, 1.0, 5.0, 30.0, 300.0)])
    values, slopes = x.copy(), np.empty_like(x)
    activate(CODES[activation], values, slopes)
    expected, of_slopes = exact(activation, x.astype(np.longdouble))
    np.testing.assert_allclose(values, expected.astype(float), rtol=1e-15, atol=_NOTHING)
    # of terms that cancel where a slope is zero, and of 1 - tanh²
    np.testing.assert_allclose(slopes, of_slopes.astype(float), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_remains_none(activation: str) -> None:
    values = np.array([np.nan, 1.0])
    activate(CODES[activation], values, np.empty(2))
    assert np.isnan(values).tolist() == [True, False]


def test_energies_and_gradients_are_those_of_plain_products() -> None:
    features = np.random.default_rng(2).normal(size=(700, N))
    kinds = np.random.default_rng(3).integers(0, 2, 700)
    networks = POTENTIAL.networks
    found = networks.evaluate_atoms([kinds], features, with_gradients=True, with_contrasts=True)
    mean_alone = networks.evaluate_atoms([kinds], features, with_gradients=True)
    np.testing.assert_array_equal(mean_alone.weights, found.weights[:1])
    energies_alone = networks.evaluate_atoms([kinds], features, with_gradients=False)
    assert energies_alone.weights.size == 0
    for other in (mean_alone, energies_alone):
        np.testing.assert_array_equal(other.atomic, found.atomic)
    of_members = np.empty((2, len(features), N))
    for m, member in enumerate(POTENTIAL.members):
        for element, name in enumerate(POTENTIAL.elements):
            k, own = POTENTIAL.subnet_of[name], kinds == element
            whitening, y, slopes = POTENTIAL.whitenings[k], POTENTIAL.whitenings[k](features[own]), []
            for layer in member[k]:
                y = y @ layer.kernel + layer.bias
                if layer.activation == "tanh":
                    y = np.tanh(y)
                slopes.append(1.0 - y * y if layer.activation == "tanh" else np.ones_like(y))
            np.testing.assert_allclose(found.atomic[m, own], y[:, 0], rtol=0, atol=1e-11)
            gradient = np.ones_like(y)
            for layer, slope in zip(reversed(member[k]), reversed(slopes), strict=True):
                gradient = (gradient * slope) @ layer.kernel.T
            of_members[m, own] = gradient @ whitening.matrix.T
    first, second = of_members
    expected = [0.5 * (first + second), (first - second) / np.sqrt(2.0)]
    np.testing.assert_allclose(found.weights, expected, rtol=1e-10, atol=1e-10)


def test_distances_are_those_of_the_training_atoms_also_of_features_that_never_varied() -> None:
    rng = np.random.default_rng(4)
    training = rng.normal(size=(900, N))
    training[:, 1] = 0.25
    whitening = Whitening.fit(training)
    assert whitening.constant[1]
    atoms = TrainingAtoms.fit(training, np.arange(900) // 3, whitening, rng)
    networks = replace(POTENTIAL, whitenings=(whitening,) * 2, training_atoms=(atoms,) * 2).networks
    assert isinstance(networks, Networks)
    features = rng.normal(size=(300, N))
    features[:5, 1] = 0.25
    found = networks.evaluate_atoms([np.zeros(300, np.int64)], features, with_gradients=False).distances
    np.testing.assert_allclose(found, atoms.distances(features, whitening), rtol=1e-12)


def test_every_library_of_products_uses_one_thread() -> None:
    from threadpoolctl import threadpool_info

    with one_blas_thread():
        found = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    libraries = {file: n for file, n in found.items() if "blas" in file or "mkl" in file}
    assert set(libraries.values()) == {1}
