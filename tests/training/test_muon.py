"""Muon: what it makes of a momentum, and its steps beside those of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.small_fits import TRAIN, energies, make_fit, per_atom, weights

from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training import muon
from tio2nn.training.adam import step_of
from tio2nn.training.flat_network import Shape
from tio2nn.training.graph_optimizer import GraphOptimizer
from tio2nn.training.host_optimizer import HostOptimizer

SHAPE = Shape(2, (3, 7, 5, 1), ("silu", "silu"), 0.0)
N_WEIGHTS = sum(SHAPE.sizes)


@pytest.mark.parametrize("size", [(9, 4), (4, 9), (6, 6)])
def test_singular_vectors_stay_and_singular_values_become_about_one(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, min(size))))[0] for n in size)
    values = np.geomspace(1.0, 0.03, min(size))
    found = muon.orthogonalized((1e-3 * left * values @ right.T).astype(np.float32))
    in_their_place = left.T @ found @ right
    np.testing.assert_allclose(in_their_place, np.diag(np.diag(in_their_place)), atol=1e-4)
    assert np.all(np.abs(np.diag(in_their_place) - 0.95) < 0.3)


def test_a_matrix_of_zeros_stays_so() -> None:
    assert not muon.orthogonalized(np.zeros((3, 4), np.float32)).any()


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="this Keras has no Muon")
def test_steps_of_a_hidden_layer_are_those_of_keras() -> None:
    random = np.random.default_rng(1)
    state = np.zeros((4, 6, 5), np.float32)
    state[0] = random.normal(size=(6, 5))
    variable = keras.Variable(state[0])
    optimizer = keras.optimizers.Muon(0.01, momentum=0.9, rms_rate=muon.LENGTH, weight_decay=None)
    optimizer.build([variable])
    parameters = TrainingParameters(gradient_clip=None, weight_decay=0.0)
    for number in range(20):
        gradient = random.normal(size=(6, 5)).astype(np.float32)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        step = step_of(number, gradient.ravel(), parameters, (0.01, 0.9))
        muon.move(state, gradient, np.zeros((6, 5), np.float32), step)
    np.testing.assert_allclose(state[0], variable.numpy(), rtol=1e-4, atol=1e-5)


def moved(gradients: np.ndarray, steps: int = 1, **settings: object) -> np.ndarray:
    """(4, n_members, n_weights) states after some steps with the same gradients."""
    parameters = TrainingParameters(optimizer="muon", **settings)  # type: ignore[arg-type]
    states = np.zeros((4, len(gradients), N_WEIGHTS), np.float32)
    states[0] = np.random.default_rng(2).normal(size=N_WEIGHTS)
    for number in range(steps):
        HostOptimizer(SHAPE, parameters).move(states, gradients, number, (0.01, 0.9))
    return states


def test_layers_move_by_as_much_however_long_the_gradient_is() -> None:
    gradients = np.random.default_rng(3).normal(size=(2, N_WEIGHTS)).astype(np.float32)
    start = moved(np.zeros_like(gradients))[0]
    one, other = (moved(length * gradients, gradient_clip=None)[0] - start for length in (1.0, 100.0))
    np.testing.assert_allclose(one, other, atol=1e-6)
    of_layer = one.reshape(2, 2, -1)[:, :, : 4 * 7].reshape(2, 2, 4, 7)
    lengths = np.linalg.svd(of_layer, compute_uv=False) / (0.01 * muon.LENGTH * np.sqrt(7))
    assert np.all((lengths > 0.6) & (lengths < 1.3))


def test_what_a_network_gets_does_not_depend_on_its_company() -> None:
    gradients = np.random.default_rng(4).normal(size=(3, N_WEIGHTS)).astype(np.float32)
    together = moved(gradients, 5)
    for m in range(3):
        np.testing.assert_array_equal(moved(gradients[m : m + 1], 5)[:, 0], together[:, m])


def test_a_layer_without_a_gradient_stays_but_for_its_decay() -> None:
    gradients = np.ones((1, N_WEIGHTS), np.float32)
    states = moved(gradients, 3)
    before = states.copy()
    gradients = gradients.reshape(1, 2, -1)
    gradients[:, 1] = 0.0
    for decay in (0.0, 0.5):
        after = before.copy()
        parameters = TrainingParameters(optimizer="muon", weight_decay=decay)
        HostOptimizer(SHAPE, parameters).move(after, gradients.reshape(1, -1), 3, (0.01, 0.9))
        hidden = slice(0, 4 * 7)
        own, old = (numbers[0, 0].reshape(2, -1)[:, hidden] for numbers in (after, before))
        assert np.all(own[0] != old[0])
        kernel, bias = own[1][: 3 * 7], own[1][3 * 7 :]
        np.testing.assert_allclose(kernel, old[1][: 3 * 7] * (1.0 - 0.01 * decay), rtol=1e-6)
        np.testing.assert_array_equal(bias, old[1][3 * 7 :])


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("widths", [(3, 7, 5, 1), (3, 1, 1), (3, 1)])
def test_the_graph_moves_networks_as_the_host_does(optimizer: str, widths: tuple[int, ...]) -> None:
    shape = Shape(2, widths, ("silu",) * (len(widths) - 2), 0.0)
    n_weights = sum(shape.sizes)
    random = np.random.default_rng(5)
    parameters = TrainingParameters(optimizer=optimizer, weight_decay=0.1)  # type: ignore[arg-type]
    states = np.zeros((4, 2, n_weights), np.float32)
    states[0] = random.normal(size=(2, n_weights))
    variables = [tf.Variable(numbers) for numbers in states]
    host, graph = HostOptimizer(shape, parameters), GraphOptimizer(shape, parameters)
    for number in range(12):
        gradient = random.normal(size=(2, 2, n_weights // 2)).astype(np.float32)
        if number % 3 == 1:
            gradient[:, 1] = 0.0  # an element is missing in the batch
        gradient = gradient.reshape(2, n_weights)
        host.move(states, gradient, number, (0.01, 0.9))
        graph.move(variables, tf.constant(gradient), tf.constant(number), tf.constant([0.01, 0.9]))
    for k, expected in enumerate(states):
        if optimizer == "adam" or k != 2:  # Muon has no second moments
            np.testing.assert_allclose(variables[k].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_fit_learns_its_energies(optimizer: str) -> None:
    fit = make_fit(
        epochs=200, learning_rate=0.005, optimizer=optimizer, weight_decay=0.0, **per_atom(1.0, 1.0)
    )
    before = weights(fit)
    fit.run()
    assert any(np.any(own != old) for own, old in zip(weights(fit), before, strict=True))
    errors = energies(fit, TRAIN) / TRAIN.n_atoms - 1.0
    assert np.abs(errors).max() < 0.02
