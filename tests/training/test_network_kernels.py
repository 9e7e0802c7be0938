"""The compiled passes against the same in TensorFlow, and the optimizer against that of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tio2nn.parameters.fit_parameters import ACTIVATIONS, Activation, TrainingParameters
from tio2nn.training import backpropagation
from tio2nn.training.adam import move, step_of
from tio2nn.training.flat_network import Shape, joined, layers_of
from tio2nn.training.host_networks import HostNetworks
from tio2nn.training.losses import energy_losses, energy_losses_with_slopes


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_an_activation_and_its_derivatives_are_those_of_tensorflow(
    activation: Activation, scale: float
) -> None:
    """By a network of one hidden layer; also far from zero, where exponentials overflow."""
    random = np.random.default_rng(3)
    shape = Shape(1, (5, 33, 1), (activation,), 0.0)
    weights = random.normal(size=(1, 5 * 33 + 33 + 34)).astype(np.float32) * np.float32(scale)
    whitening = random.normal(size=(5, 5)).astype(np.float32)
    features = random.normal(size=(21, 5)).astype(np.float32)
    of_gradients = random.normal(size=(1, 21, 5)).astype(np.float32)
    of_energies = random.normal(size=(1, 21)).astype(np.float32)
    own = HostNetworks(shape, [whitening], weights, [21])
    gradients, energies = np.empty_like(of_gradients), np.empty_like(of_energies)
    own.begin()
    own.forward((0, 0, 0), features, np.empty((0, 0), np.float32), energies[0], gradients[0])
    own.backward((0, 0, 0), features, of_energies[0], of_gradients[0])
    of_weights = own.of_weights()
    (layers,) = layers_of(shape, tf.constant(weights[0]))
    done = backpropagation.forward(shape, layers, tf.constant(features))
    back = backpropagation.to_features(layers, done, tf.constant(whitening))
    expected = joined(
        [
            backpropagation.to_weights(
                layers, done, *map(tf.constant, of_energies), back, *map(tf.constant, of_gradients), whitening
            )
        ]
    )
    for found, other in (
        (energies[0], done.energies),
        (gradients[0], back.gradients),
        (of_weights[0], expected),
    ):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=3e-6 * np.abs(other).max())


def test_a_subnet_without_atoms_in_a_batch_has_derivatives_of_zero() -> None:
    shape = Shape(1, (3, 4, 1), ("silu",), 0.0)
    own = HostNetworks(shape, [np.eye(3, dtype=np.float32)], np.ones((2, 21), np.float32), [4])
    own.begin()
    some, nothing = np.ones((4, 3), np.float32), np.empty((0, 3), np.float32)
    for features in (some, nothing):
        for place in own.places:
            gradients, of_energies = np.ones_like(features), np.ones(len(features), np.float32)
            own.forward(place, features, nothing[:, :0], np.empty_like(of_energies), gradients)
            own.backward(place, features, of_energies, gradients)
        assert bool(own.of_weights().any()) is (len(features) > 0)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_are_those_of_keras(clip: float | None) -> None:
    random = np.random.default_rng(0)
    state = np.zeros((4, 50), np.float32)
    state[0] = random.normal(size=50)
    variable = keras.Variable(state[0])
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build([variable])
    parameters = TrainingParameters(gradient_clip=clip, weight_decay=0.0)
    for number in range(20):
        gradient = random.normal(size=50).astype(np.float32)
        clipped = tf.constant(gradient) if clip is None else tf.clip_by_norm(gradient, clip)
        optimizer.apply([clipped], [variable])
        step = step_of(number, gradient, parameters, (0.01, 0.9))
        move(state, gradient, np.zeros(50, np.float32), step)
    np.testing.assert_allclose(state[0], variable.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["mae", "mse", "pseudo-huber"])
@pytest.mark.parametrize("target", ["per-atom", "total"])
def test_slopes_of_losses_are_those_of_automatic_differentiation(loss: str, target: str) -> None:
    parameters = TrainingParameters(loss=loss, loss_target=target)  # type: ignore[arg-type]
    random = np.random.default_rng(1)
    energies, labels = random.normal(size=(2, 9)).astype(np.float32) * np.float32(0.1)
    n_atoms = random.integers(1, 9, 9).astype(np.float32)
    given = tf.constant(energies)
    with tf.GradientTape() as tape:
        tape.watch(given)
        expected = energy_losses(parameters, given, tf.constant(labels), tf.constant(n_atoms))
    slopes = tape.gradient(expected, given)
    found, own_slopes = energy_losses_with_slopes(parameters, energies, labels, n_atoms)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(own_slopes, slopes, rtol=1e-5)
