"""The energy loss; the force loss, which needs the Jacobian, is in `force_kernels`."""

from __future__ import annotations

import tensorflow as tf

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
