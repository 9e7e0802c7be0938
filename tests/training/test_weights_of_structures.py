"""How much each structure counts in a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from projects import PARAMETERS, structures
from training.labeled_inputs import N_VALIDATION, data, inputs_of, small_inputs, split_of

from tio2nn.errors import InputError
from tio2nn.training.balance import density_weights
from tio2nn.training.data import prepare


def test_rare_energies_weigh_more_and_the_mean_weight_is_one() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-5.0, 0.1, 400), rng.uniform(-3.0, -1.0, 20)])
    half, full = density_weights(values, 0.5), density_weights(values, 1.0)
    for weights in (half, full):
        assert weights.mean() == pytest.approx(1.0, abs=1e-12)
        assert weights[400:].min() > weights[:400][np.abs(values[:400] + 5.0) < 0.05].max()
    np.testing.assert_allclose(full / full.max(), (half / half.max()) ** 2, rtol=1e-9)
    # at full strength every bin that is not empty counts the same
    counts, edges = np.histogram(values, bins="fd")
    sums, _ = np.histogram(values, bins=edges, weights=full)
    np.testing.assert_allclose(sums[counts > 0], 420 / np.count_nonzero(counts), rtol=1e-9)


def test_weights_of_structures_come_from_the_files_with_mean_one() -> None:
    given = [0.5 + k % 3 for k in range(len(structures()))]
    weighted = inputs_of([replace(s, weight=w) for s, w in zip(structures(), given, strict=True)])
    found, plain = (prepare(inputs, PARAMETERS, split_of(inputs)) for inputs in (weighted, small_inputs()))
    expected = np.array(given)[found.split.indices("train")]
    np.testing.assert_allclose(found.train_labels.weights, expected / expected.mean(), rtol=1e-14)
    np.testing.assert_array_equal(found.validation_labels.weights, plain.validation_labels.weights)
    assert found.fingerprint != plain.fingerprint


def test_weights_that_are_all_zero_leave_nothing_to_learn() -> None:
    inputs = inputs_of([replace(s, weight=0.0) for s in structures()])
    with pytest.raises(InputError, match=r"expected weights above 0 in the training set, got none"):
        prepare(inputs, PARAMETERS, split_of(inputs))


def test_without_density_weighting_or_without_spread_all_weigh_the_same() -> None:
    np.testing.assert_array_equal(density_weights(np.array([1.0, 2.0, 9.0]), 0.0), np.ones(3))
    np.testing.assert_array_equal(density_weights(np.full(3, -5.0), 1.0), np.ones(3))


def test_the_weights_are_those_of_the_energies_per_atom_in_the_training_part() -> None:
    found = data(training={"density_weighting": 0.7})
    per_atom = found.train_labels.energies / found.train.n_atoms
    np.testing.assert_array_equal(found.train_labels.weights, density_weights(per_atom, 0.7))
    assert np.ptp(found.train_labels.weights) > 0.1
    np.testing.assert_array_equal(found.validation_labels.weights, np.ones(N_VALIDATION))
