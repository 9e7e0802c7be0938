from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.dataset import AtomTable, FitData, ForceLabels, Labels
from tio2nn.training.fit import Fit, configure_threads
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.forces import ForceTerm
from tio2nn.training.network import BPNN

configure_threads()

N_FEATURES = 4
SCALE = 0.3
MATRICES = tuple(np.random.default_rng(k).normal(size=(N_FEATURES, N_FEATURES)) for k in (8, 9))


def part(n: int, seed: int) -> tuple[AtomTable, Labels, ForceLabels]:
    """Structures of one to four atoms of two subnets, elements mixed; every third one has no forces."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.integers(1, 5, n)
    subnets = rng.integers(0, 2, n_atoms.sum())
    whitened = rng.normal(size=(n_atoms.sum(), N_FEATURES)).astype(np.float32)
    table = AtomTable.from_rows(whitened.astype(np.float64), subnets, n_atoms, 2)
    table = AtomTable(tuple(np.asarray(p, np.float32) for p in table.features), table.counts)
    sizes = 3 * N_FEATURES * n_atoms**2
    labelled = np.arange(n) % 3 != 2
    sizes = sizes * labelled
    jacobian = rng.normal(size=sizes.sum()).astype(np.float32)
    offsets = np.where(labelled, np.cumsum(sizes) - sizes, -1)
    forces = rng.normal(size=(n_atoms.sum(), 3)).astype(np.float32)
    labels = ForceLabels(jacobian, offsets, forces, subnets.astype(np.int8), n_atoms)
    return table, Labels(rng.normal(size=n) * n_atoms, rng.uniform(0.5, 1.5, n)), labels


def make_data() -> FitData:
    table, labels, forces = part(11, 0)
    others, other_labels, other_forces = part(5, 1)
    return FitData(table, labels, others, other_labels, forces, other_forces, MATRICES)


DATA = make_data()


def make_fit(**settings: Any) -> Fit:
    keras.utils.set_random_seed(5)
    network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6,)), ("Ti", "O"), N_FEATURES)
    values = {"epochs": 5, "batch_size": 4, "learning_rate": 0.01, "forces": True, "weight_averaging": 0.0}
    return Fit(network, TrainingParameters(**{**values, **settings}), 3, DATA)


def blocks(labels: ForceLabels) -> list[np.ndarray | None]:
    """(n, n_features, n, 3) of each structure that has forces."""
    found: list[np.ndarray | None] = []
    for n, offset in zip(labels.n_atoms, labels.offsets, strict=True):
        shape = (n, N_FEATURES, n, 3)
        found.append(
            labels.jacobian[offset : offset + np.prod(shape)].reshape(shape) if offset >= 0 else None
        )
    return found


def reference_loss(rows: tf.Tensor, labels: ForceLabels, weights: np.ndarray) -> tuple[tf.Tensor, float]:
    """Loss and squared errors as they are printed, for ∂E/∂G (n_atoms, n_features) in the order of the atoms."""
    loss, squares, first = tf.zeros((), tf.float64), 0.0, 0
    n_labelled = labels.n_atoms[labels.has_forces].sum()
    # a batch of all structures: the mean over its atoms
    for n, block, weight in zip(labels.n_atoms, blocks(labels), weights, strict=True):
        own = slice(first, first + n)
        first += n
        if block is None:
            continue
        forces = -tf.einsum("if,ifax->ax", tf.cast(rows[own], tf.float64), tf.constant(block, tf.float64))
        errors = forces - labels.forces[own]
        lengths = tf.reduce_sum(errors * errors, axis=1)
        loss += weight * tf.reduce_sum(tf.sqrt(1.0 + lengths / SCALE**2) - 1.0) / n_labelled
        squares += float(tf.reduce_sum(lengths))
    return loss, squares


def in_atom_order(table: AtomTable, labels: ForceLabels, parts: list[tf.Tensor]) -> tf.Tensor:
    """Rows of all subnets in the order of the atoms."""
    assert sum(len(p) for p in parts) == len(labels.subnets) == sum(table.n_atoms)
    places = np.empty(len(labels.subnets), np.int64)
    first = 0
    for k in range(2):
        own = labels.subnets == k
        places[own] = first + np.arange(own.sum())
        first += own.sum()
    return tf.gather(tf.concat(parts, axis=0), places)


def test_loss_and_its_derivatives_are_those_of_the_printed_formula() -> None:
    term = ForceTerm(DATA, SCALE, 1.0, 0)
    labels = DATA.train_forces
    assert labels is not None
    n_components = term.start_epoch(0, np.arange(11), 11)
    assert n_components == 3 * labels.n_atoms[labels.has_forces].sum()
    gradients = [tf.constant(0.1 * p) for p in DATA.train.features]
    with tf.GradientTape() as tape:
        tape.watch(gradients)
        loss, squares = term.loss(tf.constant(0), gradients)
    found = tape.gradient(loss, gradients)
    with tf.GradientTape() as tape:
        tape.watch(gradients)
        raw = [g @ tf.constant(m.T, tf.float32) for g, m in zip(gradients, MATRICES, strict=True)]
        expected, expected_squares = reference_loss(
            in_atom_order(DATA.train, labels, raw), labels, DATA.train_labels.weights
        )
    for own, reference in zip(found, tape.gradient(expected, gradients), strict=True):
        np.testing.assert_allclose(own, reference, rtol=1e-3, atol=1e-6)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(squares) == pytest.approx(expected_squares, rel=1e-5)


@pytest.mark.parametrize("size", [1, 3, 4, 11])
def test_batches_add_up_to_the_whole_whatever_their_size_and_order(size: int) -> None:
    order = np.random.default_rng(size).permutation(11)
    table = DATA.train.select(order)
    term = ForceTerm(DATA, SCALE, 1.0, 0)
    term.start_epoch(0, order, size)
    total = 0.0
    for batch in range(-(-11 // size)):
        own = np.arange(batch * size, min(11, (batch + 1) * size))
        gradients = [tf.constant(0.1 * p) for p in table.select(own).features]
        total += float(term.loss(tf.constant(batch), gradients)[1])
    whole = ForceTerm(DATA, SCALE, 1.0, 0)
    whole.start_epoch(0, np.arange(11), 11)
    squares = whole.loss(tf.constant(0), [tf.constant(0.1 * p) for p in DATA.train.features])[1]
    assert total == pytest.approx(float(squares), rel=1e-5)


def test_an_atom_counts_alike_in_a_full_batch_and_in_the_last_one() -> None:
    term = ForceTerm(DATA, SCALE, 1.0, 0)
    losses = {}
    for size in (4, 11):
        term.start_epoch(0, np.arange(11), size)
        batches = [np.arange(begin, min(11, begin + size)) for begin in range(0, 11, size)]
        losses[size] = (
            sum(
                float(
                    term.loss(
                        tf.constant(k), [tf.constant(0.1 * p) for p in DATA.train.select(own).features]
                    )[0]
                )
                for k, own in enumerate(batches)
            )
            * size
        )
    assert losses[4] == pytest.approx(losses[11], rel=1e-5)


def test_a_fraction_takes_the_forces_of_other_structures_in_each_epoch() -> None:
    term = ForceTerm(DATA, SCALE, 0.5, 0)
    whole = ForceTerm(DATA, SCALE, 1.0, 0).start_epoch(0, np.arange(11), 4)
    counts = [term.start_epoch(number, np.arange(11), 4) for number in range(40)]
    assert len(set(counts)) > 3
    assert np.mean(counts) == pytest.approx(0.5 * whole, rel=0.25)
    again = ForceTerm(DATA, SCALE, 0.5, 0)
    assert [again.start_epoch(number, np.arange(11), 4) for number in range(40)] == counts


def test_structures_that_are_left_out_change_nothing() -> None:
    predicted, derivatives = np.full((2, 3), 7.0, np.float32), np.full((2, N_FEATURES), 7.0, np.float32)
    found = force_losses(
        np.ones(1, np.float32),
        ForceBatch(
            offsets=np.array([-1]),
            first_atom=np.array([0, 2]),
            rows=np.arange(2),
            targets=np.ones((2, 3), np.float32),
            weights=np.ones(1, np.float32),
        ),
        np.ones((2, N_FEATURES), np.float32),
        SCALE,
        predicted,
        derivatives,
    )
    assert not found.any()
    assert not predicted.any()
    assert not derivatives.any()


def test_a_fit_to_forces_makes_their_errors_smaller() -> None:
    fit = make_fit(epochs=300, force_weight=1e3, learning_rate=0.03)
    fit.run()
    first, last = fit.history[0], fit.history[-1]
    assert first.train_force_rmse_eV_per_A is not None
    assert last.train_force_rmse_eV_per_A is not None
    assert last.train_force_rmse_eV_per_A < 0.9 * first.train_force_rmse_eV_per_A
    assert last.loss < first.loss


def test_the_loss_weighs_forces_against_energies() -> None:
    light, heavy = make_fit(epochs=1, force_weight=1e-6), make_fit(epochs=1, force_weight=1e3)
    for fit in (light, heavy):
        fit.run()
    plain = Fit(
        make_fit().network,
        TrainingParameters(epochs=1, batch_size=4, learning_rate=0.01, weight_averaging=0.0),
        3,
        replace(DATA, train_forces=None, validation_forces=None),
    )
    plain.run()
    assert light.history[0].loss == pytest.approx(plain.history[0].loss, rel=1e-4)
    assert heavy.history[0].loss > 50 * light.history[0].loss
    assert plain.history[0].train_force_rmse_eV_per_A is None


def test_a_fit_without_forces_in_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="expected forces"):
        ForceTerm(replace(DATA, train_forces=None), SCALE, 1.0, 0)


def test_the_weight_of_forces_goes_from_its_first_to_its_last_value_in_equal_factors() -> None:
    fit = make_fit(epochs=4, force_weight=8.0, final_force_weight=0.5)
    n_batches = 3
    weights = [float(fit._schedule.force_weight(tf.constant(n_batches * epoch))) for epoch in range(5)]
    np.testing.assert_allclose(weights, [8.0, 4.0, 2.0, 1.0, 0.5], rtol=1e-5)
    assert float(make_fit(force_weight=3.0)._schedule.force_weight(tf.constant(7))) == 3.0
