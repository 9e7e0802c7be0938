"""Adam (D. P. Kingma and J. Ba, arXiv:1412.6980), with decay and an average of the weights, in one loop.

As Keras' optimizer of that name, whose operations read and write the weights ten times.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.descriptors.kernels.compiling import compiled_once
from tio2nn.parameters.fit_parameters import TrainingParameters

FIRST, SECOND = 0.9, 0.999
"""Memory of the first and of the second moment, as in Keras."""
SMALL = 1e-7
"""Keeps a weight without a gradient from moving, as in Keras."""


class Step(NamedTuple):
    """What one step of one network does, in float32."""

    clip: np.float32  # factor of the gradient
    decay: np.float32  # of the weights that decay, as a fraction
    learning_rate: np.float32
    rate: np.float32  # of the moments' ratio
    average: np.float32  # decay of the average of the weights


def step_of(
    number: int, gradient: Float32Array, parameters: TrainingParameters, rates: tuple[float, float]
) -> Step:
    """What a step does.

    Args:
        number: of the step, from 0.
        gradient: (n_weights,)
        parameters: training settings.
        rates: learning rate, and decay of the average.
    """
    clip, (learning_rate, average) = parameters.gradient_clip, rates
    length = 0.0 if clip is None else math.sqrt(np.dot(gradient, gradient))
    done = number + 1
    return Step(
        np.float32(1.0 if clip is None else clip / max(length, clip)),
        np.float32(parameters.weight_decay * learning_rate),
        np.float32(learning_rate),
        np.float32(learning_rate * math.sqrt(1.0 - SECOND**done) / (1.0 - FIRST**done)),
        np.float32(average),
    )


@compiled_once(fastmath={"contract", "nsz", "arcp"}, error_model="numpy", nogil=True)
def move(state: Float32Array, gradient: Float32Array, decays: Float32Array, step: Step) -> None:
    """One step of some weights of one network.

    Args:
        state: (4, n_weights) weights, first and second moments of their gradients, average of the weights.
        gradient: (n_weights,) of the loss.
        decays: (n_weights,) one for the weights that decay, zero for others.
        step: of this network.
    """
    one = np.float32(1.0)
    of_first, of_second = np.float32(1.0 - FIRST), np.float32(1.0 - SECOND)
    small = np.float32(SMALL)
    for k in range(gradient.shape[0]):
        g = gradient[k] * step.clip
        first = state[1, k] + (g - state[1, k]) * of_first
        second = state[2, k] + (g * g - state[2, k]) * of_second
        weight = state[0, k] * (one - decays[k] * step.decay)
        weight -= first * step.rate / (np.sqrt(second) + small)
        state[0, k], state[1, k], state[2, k] = weight, first, second
        state[3, k] = step.average * state[3, k] + (one - step.average) * weight
