from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from memory import peak_bytes

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training import fit as training
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.dataset import FitData, Labels
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit, Resumption, run_in_company
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN

configure_threads()

N_FEATURES = 3
# every step as large as its learning rate, nothing added, nothing averaged
PLAIN: dict[str, Any] = {
    "schedule": "constant",
    "warmup_epochs": 0,
    "weight_decay": 0.0,
    "weight_averaging": 0.0,
    "gradient_clip": None,
}


class KilledError(Exception):
    """Ends a fit in the middle."""


def _part(n: int, seed: int) -> tuple[AtomTable, Labels]:
    """So many structures, whose energies are a smooth function of their features."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (n, 2)) + np.array([1, 0])
    table = AtomTable(
        tuple(rng.normal(size=(own, N_FEATURES)).astype(np.float32) for own in counts.sum(axis=0)), counts
    )
    energies = np.zeros(n)
    for k, part in enumerate(table.features):
        np.add.at(energies, table.segments(k), 0.1 * np.sin(part.sum(axis=1)) + 0.02 * k)
    weights = rng.uniform(0.5, 1.5, n)
    return table, Labels(energies, weights / weights.mean())


TRAIN, TRAIN_LABELS = _part(11, 0)
VALIDATION, VALIDATION_LABELS = _part(5, 1)
VALIDATION_LABELS = replace(VALIDATION_LABELS, weights=np.ones(5))


def make_fit(
    train_labels: Labels = TRAIN_LABELS,
    validation_labels: Labels = VALIDATION_LABELS,
    dropout: float = 0.0,
    **settings: Any,
) -> Fit:
    """A new network of five nodes, the same each time, in batches of 4, 4 and 3 structures."""
    keras.utils.set_random_seed(5)
    network = BPNN.from_parameters(
        NetworkParameters(hidden_layers=(5,), dropout=dropout), ("Ti", "O"), N_FEATURES
    )
    parameters = TrainingParameters(**{"epochs": 6, "batch_size": 4, "learning_rate": 0.02, **settings})
    return Fit(network, parameters, 3, FitData(TRAIN, train_labels, VALIDATION, validation_labels))


def per_atom(train: float, validation: float) -> dict[str, Labels]:
    """The same energy for every atom, eV, another one in each part."""
    return {
        "train_labels": Labels(train * TRAIN.n_atoms, np.ones(11)),
        "validation_labels": Labels(validation * VALIDATION.n_atoms, np.ones(5)),
    }


# best early, stopped soon after
EARLY: dict[str, Any] = {"early_stopping": 2, "epochs": 20, "learning_rate": 0.05, **per_atom(1.0, 0.3)}


def weights(fit: Fit) -> list[np.ndarray]:
    return [np.array(weight) for weight in fit.network.trainable_variables]


def energies(fit: Fit, table: AtomTable) -> np.ndarray:
    """Of the network as it stands, eV."""
    segments = [tf.constant(table.segments(k)) for k in range(2)]
    found = fit.network.whitened_energies(
        [tf.constant(part) for part in table.features], segments, len(table.counts)
    )
    return np.asarray(found, np.float64)


def without_time(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


def stop_in(number: int) -> Callable[[Epoch], None]:
    """As a process that is killed when this epoch ends, before its checkpoint is written."""

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise KilledError

    return on_epoch


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.npz"


# --- going on -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.3},
        EARLY,
    ],
    ids=["dropout", "early stopping"],
)
def test_a_fit_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    checkpoint: Path, settings: dict[str, Any]
) -> None:
    undisturbed = make_fit(**settings)
    undisturbed.run()
    with pytest.raises(KilledError):
        make_fit(**settings).run(Resumption(checkpoint, "same"), stop_in(4))
    heard: list[int] = []
    resumed = make_fit(**settings)
    resumed.run(Resumption(checkpoint, "same"), lambda epoch: heard.append(epoch.epoch))
    assert heard == list(range(4, len(undisturbed.history) + 1))
    assert without_time(resumed.history) == without_time(undisturbed.history)
    assert resumed.chosen == resumed.history[undisturbed.chosen.epoch - 1]
    for found, expected in zip(weights(resumed), weights(undisturbed), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_fit_that_ended_is_not_run_again(checkpoint: Path) -> None:
    first, second = make_fit(epochs=2), make_fit(epochs=2)
    first.run(Resumption(checkpoint, "same"))
    second.run(Resumption(checkpoint, "same"), stop_in(1))
    assert second.history == first.history
    for found, expected in zip(weights(second), weights(first), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("always")
def test_a_checkpoint_of_another_fit_is_ignored(checkpoint: Path) -> None:
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "another"), stop_in(3))
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "this"), stop_in(1))


def _damages() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "nothing": lambda _: b"",
        "half": lambda data: data[: len(data) // 2],
        "text": lambda _: b"not a checkpoint\n" * 20,
        "zeros": lambda data: bytes(len(data)),
        "overwritten": lambda data: data[:500] + bytes(300) + data[800:],
        "one array": lambda _: (
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }"
            + b" " * 60
            + b"\n"
        ),
    }


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "damages",
    [
        ("half", "one array"),
        pytest.param(("nothing", "text", "zeros", "overwritten"), marks=pytest.mark.slow),
    ],
    ids=", ".join,
)
def test_a_damaged_checkpoint_is_ignored(checkpoint: Path, damages: tuple[str, ...]) -> None:
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "same"), stop_in(3))
    data = checkpoint.read_bytes()
    fit = make_fit(epochs=3)
    with pytest.raises(KilledError):  # the whole one is taken
        fit.run(Resumption(checkpoint, "same"), stop_in(3))
    assert len(fit.history) == 3
    for name in damages:
        checkpoint.write_bytes(_damages()[name](data))
        begun = make_fit(epochs=3)
        with pytest.raises(KilledError):
            begun.run(Resumption(checkpoint, "same"), stop_in(1))
        assert [replace(epoch, seconds=0.0) for epoch in begun.history] == without_time(fit.history[:1]), name


# --- in company ---------------------------------------------------------------------------------------------


def make_members(n: int, **settings: Any) -> list[Fit]:
    """Networks with first weights of their own, and the order of structures in common."""
    fits = []
    for member in range(1, n + 1):
        fit = make_fit(**settings)
        keras.utils.set_random_seed(member)
        for subnet in fit.network.subnets.values():
            for layer in subnet.layers:
                if isinstance(layer, keras.layers.Dense):
                    layer.kernel.assign(np.random.default_rng(member).normal(size=layer.kernel.shape))
        fits.append(Fit(fit.network, fit.parameters, fit.seed, fit.data, member))
    return fits


def same_as(found: Fit, expected: Fit) -> bool:
    """Whether two fits have the same bits."""
    same = all(np.array_equal(a, b) for a, b in zip(weights(found), weights(expected), strict=True))
    return same and without_time(found.history) == without_time(expected.history)


def nothing(_: int, __: Epoch) -> None:
    """Listens to no epoch."""


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"dropout": 0.3}, marks=pytest.mark.slow), EARLY],
    ids=["dropout", "early stopping"],
)
def test_a_member_has_the_same_bits_alone_and_in_company(settings: dict[str, Any]) -> None:
    alone = make_members(3, **settings)
    for fit in alone:
        fit.run()
    assert not any(same_as(fit, alone[0]) for fit in alone[1:])
    for threads in (1, 3):
        together = make_members(3, **settings)
        run_in_company(together, None, nothing, threads)
        for fit, expected in zip(together, alone, strict=True):
            assert same_as(fit, expected)
        lengths = {len(fit.history) for fit in together}
        assert (len(lengths) > 1) == ("early_stopping" in settings)  # members leave when they stop


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "settings",
    [{"dropout": 0.3}, pytest.param(EARLY, marks=pytest.mark.slow)],
    ids=["dropout", "early stopping"],
)
def test_members_that_resume_at_different_epochs_catch_up_and_end_with_the_same_bits(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    expected = make_members(3, **settings)
    run_in_company(expected, None, nothing)
    resumptions = [Resumption(tmp_path / f"{k}.npz", str(k)) for k in range(3)]

    def kill(place: int, epoch: Epoch) -> None:
        # the first member has saved this epoch, the others have not
        if (place, epoch.epoch) == (1, 3):
            raise KilledError

    with pytest.raises(KilledError):
        run_in_company(make_members(3, **settings), resumptions, kill)
    resumptions[2].checkpoint.unlink()
    heard: list[tuple[int, int]] = []
    resumed = make_members(3, **settings)
    run_in_company(resumed, resumptions, lambda place, epoch: heard.append((place, epoch.epoch)))
    assert heard[:5] == [(2, 1), (2, 2), (1, 3), (2, 3), (0, 4)]
    assert all(same_as(fit, other) for fit, other in zip(resumed, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_company_leaves_no_thread_behind(threads: int) -> None:
    before = threading.active_count()

    def fail(_: int, __: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_company(make_members(2), None, fail, threads)
    assert threading.active_count() == before


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
