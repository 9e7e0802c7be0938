"""The energy loss; the force loss, which needs the Jacobian, is in `force_kernels`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array
from tio2nn.parameters.fit_parameters import TrainingParameters

MEV = 1000.0
"""meV in an eV."""


def energy_losses(
    parameters: TrainingParameters, energies: tf.Tensor, target: tf.Tensor, n_atoms: tf.Tensor
) -> tf.Tensor:
    """The loss of each structure.

    Args:
        parameters: choose the loss, and total energies or energies per atom; errors are in units of `huber_scale`.
        energies, target: (n_structures,) predicted and true, eV.
        n_atoms: (n_structures,)

    Returns:
        (n_structures,)
    """
    residual = energies - target
    if parameters.loss_target == "per-atom":
        residual /= n_atoms
    residual *= MEV / parameters.huber_scale
    if parameters.loss == "mae":
        return tf.abs(residual)
    if parameters.loss == "mse":
        return residual * residual
    return tf.sqrt(1.0 + residual * residual) - 1.0


def energy_losses_with_slopes(
    parameters: TrainingParameters, energies: Float32Array, target: Float32Array, n_atoms: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """As `energy_losses`, of arrays, and the derivatives with respect to the energies; these may have more axes."""
    unit = np.float32(MEV / parameters.huber_scale)
    if parameters.loss_target == "per-atom":
        unit = unit / n_atoms
    residual = (energies - target) * unit
    if parameters.loss == "mae":
        return np.abs(residual), np.sign(residual) * unit
    if parameters.loss == "mse":
        return residual * residual, 2.0 * residual * unit
    root = np.sqrt(1.0 + residual * residual)
    return root - 1.0, residual / root * unit
