"""The record of each epoch of a fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Validation:
    """Validation errors after an epoch; all None if the validation set is empty."""

    loss: float | None = None
    rmse_meV_per_atom: float | None = None
    mae_meV_per_atom: float | None = None
    force_rmse_eV_per_A: float | None = None
    force_mae_eV_per_A: float | None = None
    stress_rmse_meV_per_A3: float | None = None
    stress_mae_meV_per_A3: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Errors are those of energies per atom and of components of forces and stress, None without forces or stress.
    Training errors are taken during the epoch; validation errors with the averaged weights after it, None if the
    validation set is empty.
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
    train_stress_rmse_meV_per_A3: float | None = None
    validation_stress_rmse_meV_per_A3: float | None = None
    validation_stress_mae_meV_per_A3: float | None = None
