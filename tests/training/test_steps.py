"""The steps of a fit by their equations, and the weights that it takes in the end."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from memory import peak_bytes
from training.small_fits import (
    TRAIN,
    TRAIN_LABELS,
    VALIDATION,
    VALIDATION_LABELS,
    energies,
    make_fit,
    per_atom,
    weights,
)

from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.dataset import Labels
from tio2nn.training.devices import configure_threads

# every step as large as its learning rate, nothing added, nothing averaged
PLAIN: dict[str, Any] = {
    "schedule": "constant",
    "warmup_epochs": 0,
    "weight_decay": 0.0,
    "weight_averaging": 0.0,
    "gradient_clip": None,
}


# --- what is taken in the end -------------------------------------------------------------------------------


def test_gpus_are_hidden_from_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[tuple[object, object]] = []
    monkeypatch.setattr(
        tf.config, "set_visible_devices", lambda devices, kind: hidden.append((devices, kind))
    )
    configure_threads()
    assert hidden == [([], "GPU")]


def test_early_stopping_takes_the_best_weights() -> None:
    # on the way from 0 to the energies of the training set, those of the validation set are passed
    fit = make_fit(early_stopping=3, epochs=60, learning_rate=0.03, **per_atom(1.0, 0.3))
    fit.run()
    losses = [epoch.validation_loss for epoch in fit.history]
    best = int(np.argmin(losses))
    assert 0 < best < 56
    assert len(losses) == best + 1 + 3
    assert fit.chosen == fit.history[best]
    errors = (energies(fit, VALIDATION) / VALIDATION.n_atoms - 0.3) * 1000
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(fit.chosen.validation_rmse_meV_per_atom, rel=1e-4)
    assert np.mean(np.abs(errors)) == pytest.approx(fit.chosen.validation_mae_meV_per_atom, rel=1e-4)


def test_without_early_stopping_the_last_weights_are_taken() -> None:
    fit = make_fit(epochs=20, learning_rate=0.03, **per_atom(1.0, 0.3))
    fit.run()
    assert fit.chosen == fit.history[-1]
    assert fit.chosen.validation_loss > 2 * min(epoch.validation_loss for epoch in fit.history)
    errors = (energies(fit, VALIDATION) / VALIDATION.n_atoms - 0.3) * 1000
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(fit.chosen.validation_rmse_meV_per_atom, rel=1e-4)


def test_the_weights_are_averaged_and_forget_their_random_beginning() -> None:
    start = weights(make_fit())
    last, averaged = (
        make_fit(epochs=1, batch_size=11, **{**PLAIN, "weight_averaging": decay}) for decay in (0.0, 0.999)
    )
    last.run()
    averaged.run()
    for before, after, average in zip(start, weights(last), weights(averaged), strict=True):
        # after one step the decay is 1/10 at most
        np.testing.assert_allclose(average, 0.1 * before + 0.9 * after, rtol=1e-5, atol=1e-7)


# --- loss and steps -----------------------------------------------------------------------------------------


def _loss(kind: str, target: str, errors: np.ndarray, n_atoms: np.ndarray) -> np.ndarray:
    scaled = 1000.0 * (errors / n_atoms if target == "per-atom" else errors) / 2.5
    if kind == "mae":
        return np.abs(scaled)
    return scaled**2 if kind == "mse" else np.sqrt(1.0 + scaled**2) - 1.0


@pytest.mark.parametrize("target", ["per-atom", "total"])
@pytest.mark.parametrize("kind", ["pseudo-huber", "mae", "mse"])
def test_losses_and_errors_are_those_of_the_equations(kind: str, target: str) -> None:
    fit = make_fit(
        epochs=1, batch_size=11, **{**PLAIN, "huber_scale": 2.5, "loss": kind, "loss_target": target}
    )
    errors = energies(fit, TRAIN) - TRAIN_LABELS.energies
    fit.run()
    (epoch,) = fit.history
    # the only batch of the epoch is seen with the first weights
    expected = np.mean(TRAIN_LABELS.weights * _loss(kind, target, errors, TRAIN.n_atoms))
    assert epoch.loss == pytest.approx(expected, rel=1e-5)
    rmse = 1000 * np.sqrt(np.mean((errors / TRAIN.n_atoms) ** 2))
    assert epoch.train_rmse_meV_per_atom == pytest.approx(rmse, rel=1e-5)
    errors = energies(fit, VALIDATION) - VALIDATION_LABELS.energies
    expected = np.mean(_loss(kind, target, errors, VALIDATION.n_atoms))
    assert epoch.validation_loss == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_epoch_counts_every_structure_once() -> None:
    # steps too small to move anything: batches of 4, 4 and 3 see the same weights
    fit = make_fit(epochs=1, learning_rate=1e-12, loss="mse", huber_scale=1000.0)
    errors = (energies(fit, TRAIN) - TRAIN_LABELS.energies) / TRAIN.n_atoms
    fit.run()
    assert fit.history[0].train_rmse_meV_per_atom == pytest.approx(
        1000 * np.sqrt(np.mean(errors**2)), rel=1e-4
    )
    # the last batch is divided by 4 as the others are
    expected = np.sum(TRAIN_LABELS.weights * errors**2) / 12
    assert fit.history[0].loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine(schedule: str) -> None:
    fit = make_fit(epochs=4, batch_size=6, warmup_epochs=2, schedule=schedule)
    fit.run()
    done = 2 * np.arange(1, 5)  # steps at the end of each epoch
    expected = 0.02 * np.minimum(1.0, done / 4)
    if schedule == "cosine":
        expected *= 0.5 * (1.0 + np.cos(np.pi * done / 8))
    rates = [epoch.learning_rate for epoch in fit.history]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("warmup", "rate"), [(0, 0.01), (4, 0.01 / 4)])
def test_the_first_step_moves_the_weights_by_the_learning_rate(warmup: int, rate: float) -> None:
    settings = {**PLAIN, "epochs": 1, "batch_size": 11, "learning_rate": 0.01, "warmup_epochs": warmup}
    fit, start = make_fit(**settings), weights(make_fit())
    fit.run()
    steps = np.concatenate([np.ravel(b - a) for a, b in zip(start, weights(fit), strict=True)])
    # Adam's first step is the sign of the gradient times the learning rate
    np.testing.assert_allclose(np.abs(steps), rate, rtol=0.02)


def test_weight_decay_shrinks_kernels_and_leaves_biases() -> None:
    plain, decayed = (
        make_fit(epochs=1, batch_size=11, **{**PLAIN, "weight_decay": decay}) for decay in (0.0, 0.5)
    )
    start = weights(plain)
    plain.run()
    decayed.run()
    for before, without, with_decay in zip(start, weights(plain), weights(decayed), strict=True):
        expected = without - (0.5 * 0.02 * before if before.ndim == 2 else 0.0)
        np.testing.assert_allclose(with_decay, expected, rtol=1e-4, atol=1e-7)


def test_a_fit_learns_in_the_order_that_its_seed_gives() -> None:
    fit, other = make_fit(epochs=30), make_fit(epochs=30)
    other.seed += 1  # the batches are others, the first weights the same
    fit.run()
    other.run()
    assert fit.history[-1].train_rmse_meV_per_atom < 0.5 * fit.history[0].train_rmse_meV_per_atom
    assert fit.history[-1].loss != other.history[-1].loss


@pytest.mark.parametrize("epochs", [1, 8])
def test_a_fit_that_diverges_says_in_which_epoch(epochs: int) -> None:
    # with one batch an epoch, the loss of epoch 1 is still that of the first weights
    fit = make_fit(epochs=epochs, batch_size=11, loss="mse", **{**PLAIN, "learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"^the (validation )?loss of epoch \d is (nan|inf)$"):
        fit.run()
    assert all(math.isfinite(value) for epoch in fit.history for value in astuple(epoch))


def test_an_epoch_copies_the_features_of_one_subnet_after_the_other() -> None:
    def large(n: int) -> tuple[AtomTable, Labels]:
        features = tuple(np.ones((5 * n, 40), np.float32) for _ in range(3))
        return AtomTable(features, np.full((n, 3), 5)), Labels(np.zeros(n), np.ones(n))

    part = Part(*large(3000), None)
    # 4 bytes for each number of the features in order, and for those of one subnet on their way
    assert peak_bytes(lambda: Batches(part, np.arange(3000), 100)) < 6.5 * 3000 * 15 * 40
