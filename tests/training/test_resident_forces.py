"""Forces by TensorFlow, as on a GPU, beside those of the kernel; here both compute on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from batch_losses import losses_of

from tio2nn.errors import InputError
from tio2nn.parallel.devices import Device
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training import device_memory, devices
from tio2nn.training import fit as training
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.dataset import FitData, ForceLabels, Labels
from tio2nn.training.device_memory import DoesNotFitError
from tio2nn.training.devices import configure_threads, padding_for
from tio2nn.training.fit import Fit, Resumption, run_in_company
from tio2nn.training.history import Epoch
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.network import BPNN
from tio2nn.training.predictions import Predictions
from tio2nn.training.resident_forces import MOST_PADDING, ResidentForces, tile_of
from tio2nn.training.schedule import Schedule
from tio2nn.training.stepper import Stepper

configure_threads()

N_FEATURES = 5
SCALE = 0.3
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 23)


def part(n: int, seed: int, labeled: Sequence[bool] | None = None) -> Part:
    """Structures of one to 23 atoms of two subnets, elements mixed; every fourth one has no forces."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.choice(SIZES, n)
    subnets = rng.integers(0, 2, n_atoms.sum())
    table = AtomTable.from_rows(rng.normal(size=(n_atoms.sum(), N_FEATURES)), subnets, n_atoms, 2)
    table = AtomTable(tuple(np.asarray(p, np.float32) for p in table.features), table.counts)
    has_forces = np.arange(n) % 4 != 3 if labeled is None else np.array(labeled)
    numbers = 3 * N_FEATURES * n_atoms**2 * has_forces
    forces = rng.normal(size=(n_atoms.sum(), 3)).astype(np.float32)
    labels = ForceLabels(
        rng.normal(size=numbers.sum()).astype(np.float32),
        np.where(has_forces, np.cumsum(numbers) - numbers, -1),
        forces * np.repeat(has_forces, n_atoms)[:, None],
        subnets.astype(np.int8),
        n_atoms,
    )
    return Part(table, Labels(rng.normal(size=n) * n_atoms, rng.uniform(0.5, 1.5, n)), labels)


def in_one_file(first: Part, second: Part) -> tuple[Part, Part]:
    """The derivatives of both parts in one array, as in a project."""
    assert first.forces is not None
    assert second.forces is not None
    jacobian = np.concatenate([first.forces.jacobian, second.forces.jacobian])
    moved = np.where(second.forces.has_forces, second.forces.offsets + len(first.forces.jacobian), -1)
    return (
        replace(first, forces=replace(first.forces, jacobian=jacobian)),
        replace(second, forces=replace(second.forces, jacobian=jacobian, offsets=moved)),
    )


TRAIN, VALIDATION = in_one_file(part(37, 0), part(9, 1))


def data_of(train: Part, validation: Part) -> FitData:
    matrices = tuple(np.random.default_rng(k).normal(size=(N_FEATURES, N_FEATURES)) for k in (8, 9))
    return FitData(
        train.table,
        train.labels,
        validation.table,
        validation.labels,
        train.forces,
        validation.forces,
        matrices,
    )


DATA = data_of(TRAIN, VALIDATION)


def resident(*parts: Part, batch_size: int = 8) -> ResidentForces:
    labels = [one.forces for one in parts if one.forces is not None]
    return ResidentForces(labels, [batch_size] * len(labels), N_FEATURES, SCALE)


def padded(part: Part, orders: Sequence[np.ndarray], size: int, forces: ResidentForces) -> list[Batches]:
    """Batches with room for the largest of all orders."""
    padding = padding_for(part, size, orders, forces, None)
    return [Batches(part, order, size, padding=padding) for order in orders]


def some_gradients(batches: Batches, batch: int, n_members: int) -> list[tf.Tensor]:
    assert batches.in_graph is not None
    n_rows = sum(len(rows) for rows in batches.in_graph.of_batch(batch)[0])
    rng = np.random.default_rng(batch)
    return [tf.constant(rng.normal(size=(n_rows, N_FEATURES)), tf.float32) for _ in range(n_members)]


def fits(n: int, **settings: object) -> list[Fit]:
    found = []
    for member in range(n):
        keras.utils.set_random_seed(member)
        network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6, 4)), ("Ti", "O"), N_FEATURES)
        values = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "forces": True} | settings
        found.append(Fit(network, TrainingParameters(**values), 3, DATA, member + 1))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("size", "n_members", "compiled"),
    [
        (1, 1, False),
        (1, 3, False),
        (8, 3, False),
        (37, 1, False),
        (37, 3, False),
        (37, 1, True),
        (37, 3, True),
    ],
)
def test_losses_and_derivatives_are_those_of_the_kernel(n_members: int, size: int, compiled: bool) -> None:
    products = resident(TRAIN, VALIDATION)
    orders = [np.random.default_rng(n).permutation(37) for n in range(2)]
    of_batch = tf.function(products.losses, jit_compile=compiled)
    for batches in padded(TRAIN, orders, size, products):
        given = products.begin(batches)
        assert batches.forces is not None
        assert batches.in_graph is not None
        for batch in range(batches.n):
            gradients = some_gradients(batches, batch, n_members)
            losses, derivatives, _ = losses_of(batches.forces, batch, np.array(gradients), SCALE)
            own_losses, own_derivatives = of_batch(given, tf.constant(batch), gradients)
            np.testing.assert_allclose(own_losses, losses, rtol=1e-5)
            of_padding = np.concatenate(batches.in_graph.of_batch(batch)[1]) == size
            of_atoms = derivatives[:, ~of_padding]
            largest = np.abs(of_atoms).max() or 1.0
            np.testing.assert_allclose(
                np.array(own_derivatives)[:, ~of_padding], of_atoms, rtol=1e-5, atol=1e-6 * largest
            )
            assert not np.array(own_derivatives)[:, of_padding].any()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_clip": 0.1, "weight_decay": 0.1, "loss": "mse"},
        {"optimizer": "muon"},
        {"optimizer": "muon", "gradient_clip": 0.1, "weight_decay": 0.1},
    ],
)
def test_steps_and_predictions_are_those_of_the_kernel(compiled: bool, settings: dict[str, object]) -> None:
    orders = [np.random.default_rng(n).permutation(37) for n in range(2)]

    def outcome(on_host: bool) -> tuple[np.ndarray, np.ndarray, Predictions]:
        own = fits(2, force_huber_scale=SCALE, **settings)
        states = np.stack([fit.state for fit in own], axis=1)
        schedule = Schedule(own[0].parameters, 5)
        shape, parameters = own[0].flat_network.shape, own[0].parameters
        one: Stepper | HostStepper
        if on_host:
            epochs = [Batches(TRAIN, order, 8) for order in orders]
            validation = Batches(VALIDATION, np.arange(9), 4)
            one = HostStepper(shape, DATA, parameters, schedule)
        else:
            products = resident(TRAIN, VALIDATION)
            epochs = padded(TRAIN, orders, 8, products)
            (validation,) = padded(VALIDATION, [np.arange(9)], 4, products)
            one = Stepper(shape, DATA, parameters, schedule, products, compiled=compiled)
        with closing(one) as stepper:
            totals = [stepper.train(batches, states, 5 * n, [1, 2]) for n, batches in enumerate(epochs)]
            if isinstance(stepper, Stepper):
                assert stepper._graphs[2]._run.experimental_get_tracing_count() == 1
            return np.array(totals), states, stepper.predict(validation, states[0])

    totals, states, predicted = outcome(on_host=True)
    own_totals, own_states, own_predicted = outcome(on_host=False)
    np.testing.assert_allclose(own_predicted.energies, predicted.energies, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own_totals, totals, rtol=1e-5)
    np.testing.assert_allclose(own_states[0], states[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own_predicted.forces, predicted.forces, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own_predicted.force_losses, predicted.force_losses, rtol=1e-4)
    without = np.repeat(~VALIDATION.forces.has_forces, VALIDATION.table.n_atoms)  # type: ignore[union-attr]
    assert without.any()
    assert not own_predicted.forces[:, without].any()


def test_forces_that_are_left_out_of_an_epoch_add_nothing() -> None:
    products = resident(TRAIN, VALIDATION)
    padding = padding_for(TRAIN, 37, [np.arange(37)], products, None)
    left_out = TRAIN.without_forces(np.ones(37, np.bool_))
    batches = Batches(left_out, np.arange(37), 37, padding=padding)
    gradients = some_gradients(batches, 0, 1)
    losses, (derivatives,) = products.losses(products.begin(batches), tf.constant(0), gradients)
    assert not np.any(losses)
    assert not np.any(derivatives)
    assert derivatives.shape == gradients[0].shape


def test_groups_are_large_where_padding_is_small() -> None:
    assert tile_of(np.array([6, 22, 23, 24, 46, 47, 94, 95])) == 8
    assert tile_of(np.array([5, 5, 5, 5])) == 1
    assert tile_of(np.array([12] * 5)) == 6
    for sizes in np.random.default_rng(0).integers(1, 40, (20, 30)):
        n = tile_of(sizes)
        assert np.sum((-(-sizes // n) * n) ** 2) <= MOST_PADDING * np.sum(sizes**2)


def test_a_table_is_cut_where_32_bits_end(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resident(TRAIN, VALIDATION)
    # four tiles in a table, and one of zeros, so structures lie in several tables
    monkeypatch.setattr(device_memory, "MOST_NUMBERS", 5 * whole._numbers)
    monkeypatch.setattr(device_memory, "PIECE", 3 * whole._numbers)
    cut = resident(TRAIN, VALIDATION)
    assert len(whole._tables) == 1
    assert len(cut._tables) > 10
    found = []
    for products in (whole, cut):
        (batches,) = padded(TRAIN, [np.arange(37)], 37, products)
        found.append(products.losses(products.begin(batches), tf.constant(0), some_gradients(batches, 0, 1)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_allclose(found[0][1][0], found[1][1][0], rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> tf.Tensor:
        raise tf.errors.ResourceExhaustedError(None, None, "full")

    monkeypatch.setattr(device_memory, "zeros", full)
    with pytest.raises(
        DoesNotFitError, match=r"the derivatives of 35 structures, \d+ kB, do not fit on the GPU"
    ):
        resident(TRAIN, VALIDATION)


def test_the_inner_loop_neither_calls_back_nor_waits_for_indices() -> None:
    products = resident(TRAIN, VALIDATION)
    (batches,) = padded(TRAIN, [np.arange(37)], 8, products)
    given = products.begin(batches)
    step = tf.function(products.losses)
    gradients = some_gradients(batches, 0, 1)
    graph = step.get_concrete_function(given, tf.constant(0), gradients).graph
    operations = graph.get_operations()
    assert not [op.name for op in operations if "PyFunc" in op.type]
    for op in operations:
        if op.type == "StridedSlice":
            # bounds that lie on the device would be waited for
            assert {bound.dtype for bound in op.inputs[1:]} == {tf.int32}
        if op.type in ("ResourceGather", "GatherV2"):
            assert op.inputs[1].dtype == tf.int64
        assert all(output.shape.is_fully_defined() for output in op.outputs)


@pytest.mark.parametrize(
    "settings",
    [{"forces": False}, pytest.param({"force_fraction": 0.5, "loss": "mae"}, marks=pytest.mark.slow)],
)
def test_other_fits_agree(settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = fits(1, **settings), fits(1, **settings)
    if not on_cpu[0].parameters.forces:
        energies_only = replace(DATA, train_forces=None, validation_forces=None)
        for fit in (*on_cpu, *on_gpu):
            fit.data = energies_only
    run_in_company(on_cpu, None, lambda *_: None)
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))
    run_in_company(on_gpu, None, lambda *_: None, device="gpu")
    losses = [[(e.loss, e.validation_loss) for e in own.history] for own in (*on_gpu, *on_cpu)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_members_that_catch_up_are_as_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(device: Device) -> list[list[tuple[float, float | None]]]:
        own = fits(2, epochs=2)
        own[0].parameters = replace(own[0].parameters, epochs=1)
        run_in_company(own[:1], None, lambda *_: None, device=device)
        own[0].parameters = own[1].parameters
        run_in_company(own, None, lambda *_: None, device=device)
        return [[(epoch.loss, epoch.validation_loss) for epoch in fit.history] for fit in own]

    on_cpu = losses("cpu")
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))
    np.testing.assert_allclose(losses("gpu"), on_cpu, rtol=1e-4)


@pytest.mark.slow
def test_masks_of_dropout_differ_between_epochs_but_not_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))

    def losses(dropout: float) -> list[float]:
        keras.utils.set_random_seed(1)
        network = BPNN.from_parameters(
            NetworkParameters(hidden_layers=(6, 4), dropout=dropout), ("Ti", "O"), N_FEATURES
        )
        settings = TrainingParameters(epochs=2, batch_size=37, learning_rate=1e-12, forces=True)
        fit = Fit(network, settings, 3, DATA)
        fit.run(device="gpu")
        return [epoch.loss for epoch in fit.history]

    first, second = losses(0.5)
    assert (first, second) == pytest.approx(losses(0.5), rel=1e-6)
    assert abs(first - second) > 1e-3 * first
    without = losses(0.0)
    assert without[0] == pytest.approx(without[1], rel=1e-5)


@pytest.mark.slow
def test_whole_fits_agree_far_better_than_those_of_two_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu, other_seed = fits(2), fits(2), fits(2)
    for fit in other_seed:
        fit.seed = 4
    for own in (on_cpu, other_seed):
        run_in_company(own, None, lambda *_: None)
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))
    run_in_company(on_gpu, None, lambda *_: None, device="gpu")
    for own, other in zip(on_gpu, on_cpu, strict=True):
        losses, own_losses = ([epoch.loss for epoch in fit.history] for fit in (other, own))
        np.testing.assert_allclose(own_losses, losses, rtol=1e-4)
        np.testing.assert_allclose(
            [epoch.validation_loss for epoch in own.history],
            [epoch.validation_loss for epoch in other.history],
            rtol=1e-3,
        )
    for own, other, seeded in zip(on_gpu, on_cpu, other_seed, strict=True):
        scatter = np.abs(seeded.state[3] - other.state[3]).max()
        assert np.abs(own.state[3] - other.state[3]).max() < 0.05 * scatter


def test_a_fit_is_not_continued_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumption = Resumption(tmp_path / "checkpoint", "one")
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)

    def interrupt(_: int, epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_company(fits(1), [resumption], interrupt)
    monkeypatch.setattr(training, "on", lambda _: devices.on("cpu"))
    with pytest.raises(
        InputError,
        match="expected a fit begun on the gpu, got one of 1 epoch on the cpu; --device cpu continues it",
    ):
        run_in_company(fits(1), [resumption], lambda *_: None, device="gpu")
    epochs: list[int] = []
    run_in_company(fits(1), [resumption], lambda _, epoch: epochs.append(epoch.epoch))
    assert epochs == [2, 3]
    # nothing is left to compute, on whatever device
    run_in_company(fits(1), [resumption], lambda *_: pytest.fail("an epoch"), device="gpu")
