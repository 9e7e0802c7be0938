"""The loss of stresses: by the compiled kernel, by TensorFlow as on a GPU, and window by window."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from batch_losses import losses_of
from training.stress_fits import (
    DATA,
    N_FEATURES,
    N_TRAIN,
    N_VALIDATION,
    SCALE,
    a_network,
    first_steps,
    fits,
    labels_of,
    make_data,
    part_of,
    printed_loss,
    validation_of,
    weights,
    with_components,
)

from tio2nn.structures.stress import from_voigt
from tio2nn.training import device_memory, devices, pieces
from tio2nn.training import fit as training
from tio2nn.training.batches import Batches, Part, Readers
from tio2nn.training.dataset import FitData
from tio2nn.training.device_memory import DoesNotFitError
from tio2nn.training.devices import padding_for
from tio2nn.training.fit import Resumption, run_in_company
from tio2nn.training.history import Epoch
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.resident_stresses import ResidentStresses
from tio2nn.training.schedule import Schedule
from tio2nn.training.stress_kernels import StressBatch, stress_losses
from tio2nn.training.windows import Window


def test_losses_and_their_derivatives_are_those_of_the_printed_formula() -> None:
    network = a_network()
    loss, squares, expected = printed_loss(network, 200.0)
    whole = Batches(replace(part_of(DATA), forces=None), np.arange(N_TRAIN), N_TRAIN)
    (totals,), (gradient,) = first_steps([network], whole, 200.0)
    _, (without,) = first_steps([network], whole, 1e-30)
    assert totals[2:4].tolist() == [0.0, 0.0]
    assert totals[4] == pytest.approx(loss, rel=1e-5)
    assert totals[5] == pytest.approx(squares, rel=1e-5)
    flat = np.concatenate([np.ravel(g) for g in expected])
    size = max(np.abs(flat).max(), 1e-2 * np.abs(without).max())
    np.testing.assert_allclose(gradient - without, flat, rtol=2e-4, atol=1e-4 * size)


def test_no_loss_depends_on_the_axes() -> None:
    rng = np.random.default_rng(4)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    strains, target = rng.normal(size=(3 * N_FEATURES, 6)), rng.normal(size=6)

    def turned(components: np.ndarray) -> np.ndarray:
        full = rotation.T @ from_voigt(components) @ rotation
        return np.stack(
            [full[..., a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], axis=-1
        )

    losses = []
    for change in (lambda c: c, turned):
        results = np.empty((1, 1, 2))
        stress_losses(
            np.ravel(change(strains)).astype(np.float32),
            batch_of(change(target[None]).astype(np.float32)),
            rng_gradients(),
            SCALE,
            np.empty((1, 1, 6), np.float32),
            np.empty((1, 3, N_FEATURES), np.float32),
            results,
        )
        losses.append(results[0, 0, 0])
    assert losses[0] > 0.1
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def batch_of(targets: np.ndarray) -> StressBatch:
    """One structure of three atoms."""
    return StressBatch(
        np.zeros(1, np.int64),
        np.array([0, 3]),
        np.arange(3),
        targets,
        np.full(1, 0.05, np.float32),
        np.ones(1, np.float32),
    )


def rng_gradients() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(1, 3, N_FEATURES)).astype(np.float32)


@pytest.mark.parametrize("least_work", [0.0, float("inf")])
def test_a_network_has_the_same_bits_whatever_its_company_and_the_threads(
    least_work: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_LEAST_WORK", least_work)
    networks = [a_network(seed) for seed in range(3)]
    batches = Batches(part_of(DATA), np.arange(N_TRAIN), 4)
    alone = [first_steps([network], batches, 2.0, forces=True) for network in networks]
    for threads in (1, 2, 4):
        totals, gradients = first_steps(networks, batches, 2.0, threads, forces=True)
        for k, ((own_totals,), (own_gradient,)) in enumerate(alone):
            np.testing.assert_array_equal(totals[k], own_totals)
            np.testing.assert_array_equal(gradients[k], own_gradient)


def test_batches_add_up_to_the_whole_whatever_their_size_and_order() -> None:
    whole = Batches(part_of(DATA), np.arange(N_TRAIN), N_TRAIN)
    (expected,), _ = first_steps([a_network()], whole, 1.0, forces=True)
    for size in (1, 4, 23):
        order = np.random.default_rng(size).permutation(N_TRAIN)
        (totals,), _ = first_steps([a_network()], Batches(part_of(DATA), order, size), 1.0, forces=True)
        np.testing.assert_allclose(totals[4] * size, expected[4] * N_TRAIN, rtol=1e-5)
        np.testing.assert_allclose(totals[5], expected[5], rtol=1e-5)


def test_structures_without_a_stress_get_zeros() -> None:
    predicted, derivatives, results = (
        np.full(shape, 7.0, dtype)
        for shape, dtype in (((1, 1, 6), "f4"), ((1, 3, N_FEATURES), "f4"), ((1, 1, 2), "f8"))
    )
    batch = batch_of(np.ones((1, 6), np.float32))._replace(offsets=np.array([-1]))
    stress_losses(np.ones(1, np.float32), batch, rng_gradients(), SCALE, predicted, derivatives, results)
    for found in (predicted, derivatives, results):
        assert not found.any()


def test_components_without_a_target_have_no_error() -> None:
    strains = np.random.default_rng(2).normal(size=3 * N_FEATURES * 6).astype(np.float32)

    def found(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        predicted, derivatives, results = (
            np.empty(shape, dtype)
            for shape, dtype in (((1, 1, 6), "f4"), ((1, 3, N_FEATURES), "f4"), ((1, 1, 2), "f8"))
        )
        batch = batch_of(targets.astype(np.float32))
        stress_losses(strains, batch, rng_gradients(), SCALE, predicted, derivatives, results)
        return predicted, derivatives, results

    predicted, _, whole = found(np.zeros((1, 6)))
    shears = np.array([False] * 3 + [True] * 3)
    met = found(np.where(shears, predicted[0] / 0.05, 0.0))
    for own, expected in zip(found(np.where(shears, np.nan, 0.0)[None]), met, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5)
    assert met[2][0, 0, 0] < 0.9 * whole[0, 0, 0]


def test_a_fit_to_stress_makes_its_errors_smaller_and_shows_them() -> None:
    (fit,) = fits(1, epochs=200, stress_weight=300.0, learning_rate=0.02)
    fit.run()
    first, last = fit.history[0], fit.history[-1]
    assert first.train_stress_rmse_meV_per_A3 is not None
    assert last.train_stress_rmse_meV_per_A3 is not None
    assert last.validation_stress_rmse_meV_per_A3 is not None
    assert last.train_stress_rmse_meV_per_A3 < 0.8 * first.train_stress_rmse_meV_per_A3
    (without,) = fits(1, replace(DATA, train_stress=None, validation_stress=None))
    without.run()
    assert without.history[-1].train_stress_rmse_meV_per_A3 is None


@pytest.mark.parametrize("learned", [6, 3])
def test_the_validation_error_is_that_of_the_predicted_stresses(learned: int) -> None:
    data = with_components(learned)
    (fit,) = fits(1, data, epochs=1, weight_averaging=0.0)
    fit.run()
    own = validation_of(data)
    with closing(
        HostStepper(fit.flat_network.shape, data, fit.parameters, Schedule(fit.parameters, 1))
    ) as stepper:
        found = [stepper.predict(Batches(own, np.arange(7), size), fit.state[3:4]) for size in (3, 7)]
    np.testing.assert_allclose(found[0].stresses, found[1].stresses, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[0].stress_losses, found[1].stress_losses, rtol=1e-5)
    assert own.stress is not None
    errors = (found[0].stresses[0] - own.stress.stresses)[own.stress.has_stress, :learned]
    assert own.stress.n_components(np.arange(7)) == errors.size
    rmse = fit.history[0].validation_stress_rmse_meV_per_A3
    assert rmse == pytest.approx(1000 * np.sqrt(np.mean(errors**2)), rel=1e-4)


def test_a_fit_to_energies_and_stress_needs_no_forces() -> None:
    (fit,) = fits(1, replace(DATA, train_forces=None, validation_forces=None), forces=False)
    fit.run()
    assert fit.history[-1].train_force_rmse_eV_per_A is None
    assert fit.history[-1].train_stress_rmse_meV_per_A3 is not None


@pytest.mark.slow
def test_a_fit_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed, resumed = fits(2), fits(2), fits(2)
    run_in_company(whole, None, lambda *_: None)
    places = [Resumption(tmp_path / f"checkpoint-{k}", "one") for k in range(2)]
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)

    def interrupt(_: int, epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_company(killed, places, interrupt)
    run_in_company(resumed, places, lambda *_: None)
    for one, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        assert [e.validation_stress_mae_meV_per_A3 for e in one.history] == [
            e.validation_stress_mae_meV_per_A3 for e in other.history
        ]


# --- by TensorFlow, as on a GPU -----------------------------------------------------------------------------


def resident() -> ResidentStresses:
    assert DATA.validation_stress is not None
    return ResidentStresses([labels_of(DATA), DATA.validation_stress], N_FEATURES, SCALE)


def padded(part: Part, order: np.ndarray, size: int, stress: ResidentStresses) -> Batches:
    return Batches(part, order, size, padding=padding_for(part, size, [order], None, stress))


@pytest.mark.parametrize(("n_members", "learned"), [(1, 6), (3, 6), (2, 3)])
@pytest.mark.parametrize(("size", "compiled"), [(1, False), (8, False), (23, False), (23, True)])
def test_losses_and_derivatives_on_the_device_are_those_of_the_kernel(
    n_members: int, learned: int, size: int, compiled: bool
) -> None:
    order = np.random.default_rng(size).permutation(N_TRAIN)
    products = resident()
    batches = padded(part_of(with_components(learned)), order, size, products)
    of_batch = tf.function(products.losses, jit_compile=compiled)
    assert batches.stress is not None
    assert batches.in_graph is not None
    for batch in range(batches.n):
        of_padding = np.concatenate(batches.in_graph.of_batch(batch)[1]) == size
        rng = np.random.default_rng(batch)
        gradients = rng.normal(size=(n_members, len(of_padding), N_FEATURES)).astype(np.float32)
        losses, derivatives, _ = losses_of(batches.stress, batch, gradients, SCALE)
        own_losses, own_derivatives = of_batch(
            products.begin(batches), tf.constant(batch), [*map(tf.constant, gradients)]
        )
        np.testing.assert_allclose(own_losses, losses, rtol=1e-5, atol=1e-7)
        of_atoms = np.array(derivatives)[:, ~of_padding]
        largest = np.abs(of_atoms).max() or 1.0
        np.testing.assert_allclose(
            np.array(own_derivatives)[:, ~of_padding], of_atoms, rtol=1e-5, atol=1e-6 * largest
        )
        assert not np.array(own_derivatives)[:, of_padding].any()


def test_predictions_on_the_device_are_those_of_the_kernel() -> None:
    products = resident()
    batches = padded(validation_of(DATA), np.arange(N_VALIDATION), 3, products)
    assert batches.stress is not None
    assert batches.in_graph is not None
    for batch in range(batches.n):
        n_rows = sum(len(rows) for rows in batches.in_graph.of_batch(batch)[0])
        gradients = np.random.default_rng(batch).normal(size=(1, n_rows, N_FEATURES)).astype(np.float32)
        losses, _, stresses = losses_of(batches.stress, batch, gradients, SCALE)
        found = products.predict(products.begin(batches), batch, [*map(tf.constant, gradients)])
        for own, expected in zip(found, (losses[:, 0], stresses), strict=True):
            np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)


def test_whole_fits_on_the_device_agree_with_those_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = fits(2), fits(2)
    run_in_company(on_cpu, None, lambda *_: None)
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))
    run_in_company(on_gpu, None, lambda *_: None, device="gpu")
    for own, other in zip(on_gpu, on_cpu, strict=True):
        for epoch, expected in zip(own.history, other.history, strict=True):
            assert epoch.loss == pytest.approx(expected.loss, rel=1e-4)
            assert epoch.validation_stress_rmse_meV_per_A3 == pytest.approx(
                expected.validation_stress_rmse_meV_per_A3, rel=1e-3
            )


def test_the_inner_loop_neither_calls_back_nor_waits_for_indices() -> None:
    products = resident()
    batches = padded(part_of(DATA), np.arange(N_TRAIN), 8, products)
    given = products.begin(batches)

    @tf.function
    def step(given: object, batch: tf.Tensor, gradients: list[tf.Tensor]) -> object:
        return products.losses(given, batch, gradients)  # type: ignore[arg-type]

    assert batches.in_graph is not None
    n_rows = sum(len(rows) for rows in batches.in_graph.of_batch(0)[0])
    graph = step.get_concrete_function(given, tf.constant(0), [tf.ones((n_rows, N_FEATURES))]).graph
    for op in graph.get_operations():
        assert "PyFunc" not in op.type
        if op.type == "StridedSlice":
            assert {bound.dtype for bound in op.inputs[1:]} == {tf.int32}
        if op.type in ("ResourceGather", "GatherV2"):
            assert op.inputs[1].dtype == tf.int64


def test_what_does_not_fit_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "MOST_NUMBERS", 1000)
    with pytest.raises(
        DoesNotFitError, match=r"the derivatives by strain of \d+ structures, [\d.]+ kB, do not fit"
    ):
        resident()


# --- window by window ---------------------------------------------------------------------------------------


def windowed(data: FitData, capacity: int) -> FitData:
    return replace(data, window=Window(capacity, 0, N_FEATURES))


def test_in_one_order_windows_change_no_bit(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    cut = windowed(data, 1200)
    order = np.random.default_rng(2).permutation(N_TRAIN)
    whole = Batches(part_of(data), order, 3)
    readers = Readers.of(cut)
    assert readers is not None
    with closing(readers):
        parts = Batches(part_of(cut), order, 3, readers)
        assert len(readers.in_turn(part_of(cut), order, 3)) > 3
        for batch in range(whole.n):
            n = int(data.train.n_atoms[order[3 * batch : 3 * batch + 3]].sum())
            gradients = np.random.default_rng(batch).normal(size=(2, n, N_FEATURES)).astype(np.float32)
            pick: tuple[Callable[[Batches], Any], ...] = (lambda b: b.forces, lambda b: b.stress)
            for own in pick:
                found, expected = (losses_of(own(b), batch, gradients, 0.1) for b in (parts, whole))
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)


def test_workers_read_the_same_windows_and_fit_the_same_bits(tmp_path: Path) -> None:
    data = windowed(make_data(tmp_path), 1200)
    data.save(tmp_path / "data.npz")
    loaded = FitData.load(tmp_path / "data.npz", data.derivatives_file, data.strains_file)
    assert loaded.window == data.window == Window(1200, 0, N_FEATURES)
    (one,), (other,), (whole,) = fits(1, data), fits(1, loaded), fits(1, make_data(tmp_path))
    for fit in (one, other, whole):
        fit.run()
    np.testing.assert_array_equal(weights(one), weights(other))
    assert one.history[-1].train_stress_rmse_meV_per_A3 is not None
    assert not np.array_equal(weights(one), weights(whole))
