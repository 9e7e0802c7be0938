"""What is written down of each epoch of a fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Validation:
    """What the validation part says of the weights after an epoch; all None where it has no structures."""

    loss: float | None = None
    rmse_meV_per_atom: float | None = None
    mae_meV_per_atom: float | None = None
    force_rmse_eV_per_A: float | None = None
    force_mae_eV_per_A: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Errors are on energies per atom, and on components of forces, None without them; on the training part as seen
    while the epoch ran, on the validation part by the averaged weights after it, None without structures in it.
    """

    epoch: int
    learning_rate: float
    loss: float
    validation_loss: float | None
    train_rmse_meV_per_atom: float
    validation_rmse_meV_per_atom: float | None
    validation_mae_meV_per_atom: float | None
    train_force_rmse_eV_per_A: float | None
    validation_force_rmse_eV_per_A: float | None
    validation_force_mae_eV_per_A: float | None
    seconds: float
