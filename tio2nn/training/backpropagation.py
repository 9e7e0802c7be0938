"""For a GPU: energies of atoms, their derivatives with respect to the features, and the derivatives of a loss of both.

For one subnet with hidden layers h_l = a(z_l), z_l = h_{l-1} W_l + b_l, and energies E = h_L w + b:

- energies: forward, as above;
- features: backward, g_L = wᵀ, δ_l = g_l a'(z_l), g_{l-1} = δ_l W_lᵀ, of which g_0 = ∂E/∂h_0;
- weights: for a loss with the derivatives v = ∂L/∂g_0 and c = ∂L/∂E, first along the second chain, forward again
  (q_l = u_{l-1} W_l with u_0 = v, u_l = q_l a'(z_l); ∂L/∂W_l = u_{l-1}ᵀ δ_l, and q_l g_l is the derivative with respect
  to a'(z_l)), then along the first, backward.

These are six products of matrices a layer, as many as automatic differentiation needs, with fewer operations around
them.

Layers of several networks have one more axis in front, and so has all that follows from them; features and whitening
are the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tio2nn.training.activations import Activated, activated
from tio2nn.training.flat_network import Layers, Shape


class Forward(NamedTuple):
    """One pass through a subnet.

    Attributes:
        energies: (n_atoms,)
        inputs: of each layer, (n_atoms, n_in).
        activations: of each hidden layer, (n_atoms, n_out).
    """

    energies: tf.Tensor
    inputs: list[tf.Tensor]
    activations: list[Activated]


class Backward(NamedTuple):
    """The way back to the features.

    Attributes:
        gradients: (n_atoms, n_features) ∂E/∂G of features that are not whitened.
        first_kernel: of the first layer, on features that are not whitened.
        arriving: g_l of each hidden layer.
        leaving: δ_l of each hidden layer.
    """

    gradients: tf.Tensor
    first_kernel: tf.Tensor
    arriving: list[tf.Tensor]
    leaving: list[tf.Tensor]


def forward(
    shape: Shape, layers: Layers, features: tf.Tensor, masks: Sequence[tf.Tensor] | None = None
) -> Forward:
    """Energies of atoms from whitened features (n_atoms, n_features).

    Args:
        shape: of the network.
        layers: the weights.
        features: whitened.
        masks: factors of the nodes of each hidden layer, for dropout.
    """
    inputs, activations = [features], []
    for level, name in enumerate(shape.activations):
        z = _plus(tf.matmul(inputs[-1], layers.kernels[level]), layers.biases[level])
        found = activated(name, z)
        if masks is not None:
            found = found.times(masks[level])
        inputs.append(found.value)
        activations.append(found)
    energies = tf.matmul(inputs[-1], layers.kernels[-1])[..., 0] + layers.biases[-1]
    return Forward(energies, inputs, activations)


def _plus(z: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The bias added to that of each atom."""
    return tf.nn.bias_add(z, bias) if bias.shape.rank == 1 else z + bias[:, None]


def to_features(layers: Layers, done: Forward, whitening: tf.Tensor) -> Backward:
    """Derivatives of the energies with respect to features that are not whitened.

    Args:
        layers: the weights.
        done: the pass that gave the energies.
        whitening: (n_features, n_features) whitened features per feature. It is multiplied with the first kernel rather
            than with the gradients, which have more rows.
    """
    first_kernel = tf.matmul(whitening, layers.kernels[0])
    arriving: list[tf.Tensor] = []
    leaving: list[tf.Tensor] = []
    gradient = tf.linalg.matrix_transpose(layers.kernels[-1])
    for level in reversed(range(len(done.activations))):
        arriving.insert(0, gradient)
        leaving.insert(0, gradient * done.activations[level].slope)
        kernel = layers.kernels[level] if level else first_kernel
        gradient = tf.matmul(leaving[0], kernel, transpose_b=True)
    if not done.activations:
        gradient = tf.repeat(tf.linalg.matrix_transpose(first_kernel), tf.shape(done.energies)[-1], axis=-2)
    return Backward(gradient, first_kernel, arriving, leaving)


def to_weights(
    layers: Layers,
    done: Forward,
    of_energies: tf.Tensor,
    back: Backward | None = None,
    of_gradients: tf.Tensor | None = None,
    whitening: tf.Tensor | None = None,
) -> Layers:
    """Derivatives of a loss with respect to the weights.

    Args:
        layers: the weights.
        done: the pass that gave the energies.
        of_energies: (n_atoms,) derivatives of the loss with respect to them.
        back: the pass that gave the gradients; None for a loss of energies alone.
        of_gradients: (n_atoms, n_features) derivatives of the loss with respect to `back.gradients`.
        whitening: as for `to_features`.
    """
    n_hidden = len(done.activations)
    kernels: list[tf.Tensor] = [None] * (n_hidden + 1)
    biases: list[tf.Tensor] = [None] * (n_hidden + 1)
    of_slopes: list[tf.Tensor] = []
    along = of_energies[..., None]
    kernels[-1] = tf.matmul(done.inputs[-1], along, transpose_a=True)
    biases[-1] = tf.reduce_sum(of_energies, axis=-1, keepdims=True)
    second: list[tf.Tensor] = []  # what the second chain adds to the kernels
    if back is not None:
        u = of_gradients
        for level in range(n_hidden):
            q = tf.matmul(u, layers.kernels[level] if level else back.first_kernel)
            second.append(tf.matmul(u, back.leaving[level], transpose_a=True))
            of_slopes.append(q * back.arriving[level])
            u = q * done.activations[level].slope
        second.append(tf.reduce_sum(u, axis=-2)[..., None])
        second[0] = tf.matmul(whitening, second[0], transpose_a=True)
        kernels[-1] += second[-1]
    along = along * tf.linalg.matrix_transpose(layers.kernels[-1])
    for level in reversed(range(n_hidden)):
        found = done.activations[level]
        dz = along * found.slope
        if back is not None:
            dz += of_slopes[level] * found.curvature
        kernels[level] = tf.matmul(done.inputs[level], dz, transpose_a=True)
        if back is not None:
            kernels[level] += second[level]
        biases[level] = tf.reduce_sum(dz, axis=-2)
        if level:
            along = tf.matmul(dz, layers.kernels[level], transpose_b=True)
    return Layers(kernels, biases)
