from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from threadpoolctl import threadpool_info

from tio2nn.parameters.fit_parameters import ACTIVATIONS, NetworkParameters, TrainingParameters
from tio2nn.training import adam, network_kernels, pieces
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.company import Company
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.dataset import FitData, ForceLabels, Labels
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit, run_in_company
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.host_networks import HostNetworks
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.network import BPNN
from tio2nn.training.schedule import Schedule

configure_threads()

N_FEATURES = 4
SCALE = 0.3
MATRICES = tuple(np.random.default_rng(k).normal(size=(N_FEATURES, N_FEATURES)) for k in (8, 9))


def part(n: int, seed: int) -> tuple[AtomTable, Labels, ForceLabels]:
    """Structures of one to four atoms of two subnets, elements mixed; every third one has no forces."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.integers(1, 5, n)
    subnets = rng.integers(0, 2, n_atoms.sum())
    whitened = rng.normal(size=(n_atoms.sum(), N_FEATURES)).astype(np.float32)
    table = AtomTable.from_rows(whitened.astype(np.float64), subnets, n_atoms, 2)
    table = AtomTable(tuple(np.asarray(p, np.float32) for p in table.features), table.counts)
    sizes = 3 * N_FEATURES * n_atoms**2
    labeled = np.arange(n) % 3 != 2
    sizes = sizes * labeled
    jacobian = rng.normal(size=sizes.sum()).astype(np.float32)
    offsets = np.where(labeled, np.cumsum(sizes) - sizes, -1)
    forces = rng.normal(size=(n_atoms.sum(), 3)).astype(np.float32)
    labels = ForceLabels(jacobian, offsets, forces, subnets.astype(np.int8), n_atoms)
    return table, Labels(rng.normal(size=n) * n_atoms, rng.uniform(0.5, 1.5, n)), labels


def make_data() -> FitData:
    table, labels, forces = part(11, 0)
    others, other_labels, other_forces = part(5, 1)
    return FitData(table, labels, others, other_labels, forces, other_forces, MATRICES)


DATA = make_data()


def make_fit(**settings: Any) -> Fit:
    keras.utils.set_random_seed(5)
    network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6,)), ("Ti", "O"), N_FEATURES)
    values = {"epochs": 5, "batch_size": 4, "learning_rate": 0.01, "forces": True, "weight_averaging": 0.0}
    return Fit(network, TrainingParameters(**{**values, **settings}), 3, DATA)


def blocks(labels: ForceLabels) -> list[np.ndarray | None]:
    """(n, n_features, n, 3) of each structure that has forces."""
    found: list[np.ndarray | None] = []
    for n, offset in zip(labels.n_atoms, labels.offsets, strict=True):
        shape = (n, N_FEATURES, n, 3)
        found.append(
            labels.jacobian[offset : offset + np.prod(shape)].reshape(shape) if offset >= 0 else None
        )
    return found


def reference_loss(rows: tf.Tensor, labels: ForceLabels, weights: np.ndarray) -> tuple[tf.Tensor, float]:
    """Loss and squared errors as they are printed, for ∂E/∂G (n_atoms, n_features) in the order of the atoms."""
    loss, squares, first = tf.zeros((), tf.float64), 0.0, 0
    n_labeled = labels.n_atoms[labels.has_forces].sum()
    # a batch of all structures: the mean over its atoms
    for n, block, weight in zip(labels.n_atoms, blocks(labels), weights, strict=True):
        own = slice(first, first + n)
        first += n
        if block is None:
            continue
        forces = -tf.einsum("if,ifax->ax", tf.cast(rows[own], tf.float64), tf.constant(block, tf.float64))
        errors = forces - labels.forces[own]
        lengths = tf.reduce_sum(errors * errors, axis=1)
        loss += weight * tf.reduce_sum(tf.sqrt(1.0 + lengths / SCALE**2) - 1.0) / n_labeled
        squares += float(tf.reduce_sum(lengths))
    return loss, squares


def in_atom_order(table: AtomTable, labels: ForceLabels, parts: list[tf.Tensor]) -> tf.Tensor:
    """Rows of all subnets in the order of the atoms."""
    assert sum(len(p) for p in parts) == len(labels.subnets) == sum(table.n_atoms)
    places = np.empty(len(labels.subnets), np.int64)
    first = 0
    for k in range(2):
        own = labels.subnets == k
        places[own] = first + np.arange(own.sum())
        first += own.sum()
    return tf.gather(tf.concat(parts, axis=0), places)


def batches(size: int, order: np.ndarray | None = None, data: FitData = DATA) -> Batches:
    part_of_fit = Part(data.train, data.train_labels, data.train_forces)
    return Batches(part_of_fit, np.arange(11) if order is None else order, size)


def first_steps(
    networks: list[BPNN], steps: Batches, parameters: TrainingParameters, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of losses and errors of each network, and the gradient (n_networks, n_weights) of the last batch."""
    fits = [Fit(network, parameters, 3, DATA) for network in networks]
    states = np.stack([fit.state for fit in fits], axis=1)
    schedule = Schedule(parameters, steps.n)
    with closing(HostStepper(fits[0].flat_network.shape, DATA, parameters, schedule, threads)) as stepper:
        totals = stepper.train(steps, states, 0, [0] * len(fits))
    return totals, states[1] / np.float32(0.1)


def cut_batches(monkeypatch: pytest.MonkeyPatch, is_cut: bool) -> None:
    """Cut all batches into pieces, or none."""
    monkeypatch.setattr(pieces, "_LEAST_WORK", 0.0 if is_cut else float("inf"))


def settings(force_weight: float, **others: Any) -> TrainingParameters:
    """Steps so small that they move nothing."""
    small = {"learning_rate": 1e-30, "gradient_clip": None, "force_huber_scale": SCALE}
    return TrainingParameters(**{**small, "force_weight": force_weight, "weight_decay": 0.0, **others})


def reference(
    network: BPNN, parameters: TrainingParameters, force_weight: float
) -> tuple[float, float, float, list[np.ndarray]]:
    """By TensorFlow, for a batch of all structures: losses of energies and forces, squared errors of forces, and the
    derivatives of the whole loss for each weight."""
    labels = DATA.train_forces
    assert labels is not None
    features = [tf.constant(p) for p in DATA.train.features]
    segments = [tf.constant(DATA.train.segments(k)) for k in range(2)]
    n_atoms = DATA.train.n_atoms
    with tf.GradientTape() as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(features)
            energies = network.whitened_energies(features, segments, 11)
        gradients = inner.gradient(energies, features, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        raw = [g @ tf.constant(m.T, tf.float32) for g, m in zip(gradients, MATRICES, strict=True)]
        of_forces, squares = reference_loss(
            in_atom_order(DATA.train, labels, raw), labels, DATA.train_labels.weights
        )
        errors = tf.cast(energies, tf.float64) - DATA.train_labels.energies
        scaled = 1000.0 * errors / (n_atoms * parameters.huber_scale)
        of_energies = tf.reduce_mean(DATA.train_labels.weights * (tf.sqrt(1.0 + scaled**2) - 1.0))
        loss = of_energies + force_weight * of_forces
    found = outer.gradient(
        loss, network.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return float(of_energies), float(of_forces), squares, [np.asarray(g) for g in found]


def a_network(layers: tuple[int, ...], activation: Any = "silu", seed: int = 5) -> BPNN:
    keras.utils.set_random_seed(seed)
    settings = NetworkParameters(hidden_layers=layers, activation=activation)
    network = BPNN.from_parameters(settings, ("Ti", "O"), N_FEATURES)
    for weight in network.trainable_variables:  # biases and last layers that matter, too
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape) / np.sqrt(weight.shape[0]))
    return network


@pytest.mark.parametrize(
    ("layers", "activation"),
    [
        *(pytest.param((6, 5), activation, marks=pytest.mark.slow) for activation in ACTIVATIONS),
        ((), "silu"),
        ((18,), "tanh"),
        ((33, 17, 40), "silu"),
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_losses_and_their_derivatives_are_those_of_the_printed_formulas(
    layers: tuple[int, ...], activation: str, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_batches(monkeypatch, is_cut)
    parameters = settings(2.0, huber_scale=500.0)
    network = a_network(layers, activation)
    of_energies, of_forces, squares, expected = reference(network, parameters, 2.0)
    (totals,), (gradient,) = first_steps([network], batches(11), parameters)
    assert totals[0] == pytest.approx(of_energies, rel=1e-5)
    assert totals[2] == pytest.approx(2.0 * of_forces, rel=1e-5)
    assert totals[3] == pytest.approx(squares, rel=1e-5)
    flat = np.concatenate([np.ravel(g) for g in expected])
    assert sorted(np.shape(gradient)) == sorted(flat.shape)
    np.testing.assert_allclose(gradient, flat, rtol=2e-4, atol=2e-5 * np.abs(flat).max())


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_network_has_the_same_bits_whatever_its_company_and_the_threads(
    is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_batches(monkeypatch, is_cut)
    parameters = settings(2.0, learning_rate=0.01)
    networks = [a_network((17, 6), seed=seed) for seed in range(3)]
    alone = [first_steps([network], batches(4), parameters) for network in networks]
    for threads in (1, 2, 3, 4):
        totals, gradients = first_steps(networks, batches(4), parameters, threads)
        for k, ((own_totals,), (own_gradient,)) in enumerate(alone):
            np.testing.assert_array_equal(totals[k], own_totals)
            np.testing.assert_array_equal(gradients[k], own_gradient)


def test_all_products_of_matrices_are_made_on_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them split sums by their number, from some hundreds of features on."""
    found: list[int] = []
    begin = HostNetworks.begin

    def noting(self: HostNetworks) -> None:
        found.extend(own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas")
        begin(self)

    monkeypatch.setattr(HostNetworks, "begin", noting)
    fit = make_fit(epochs=1)
    fit.run()
    assert set(found) == {1}


def test_weights_that_overflow_are_predicted_with_in_silence() -> None:
    fit = make_fit()
    part_of_fit = Part(DATA.validation, DATA.validation_labels, DATA.validation_forces)
    weights = np.full_like(fit.state[:1], 1e38)
    schedule = Schedule(fit.parameters, 1)
    with closing(HostStepper(fit.flat_network.shape, DATA, fit.parameters, schedule)) as own:
        found = own.predict(Batches(part_of_fit, np.arange(5), 5), weights)
    assert not np.isfinite(found.forces).all()


@pytest.mark.parametrize("n_members", [1, 3])
def test_nothing_is_compiled_in_the_middle_of_a_fit(n_members: int) -> None:
    loops = [force_losses, network_kernels.to_features, network_kernels.to_weights, adam.move]
    compile_loops(DATA.with_copied_derivatives(1e9))
    before = [len(loop.signatures) for loop in loops]
    networks = [a_network((6,), seed=seed) for seed in range(n_members)]
    fits = [Fit(network, make_fit(epochs=1).parameters, 3, DATA) for network in networks]
    run_in_company(fits, None, lambda *_: None, copies=True)
    assert all(fit.finished for fit in fits)
    assert [len(loop.signatures) for loop in loops] == before


def test_a_fit_that_is_done_copies_no_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def noting(self: FitData, most: float) -> FitData:
        asked.append(most)
        return self

    monkeypatch.setattr(FitData, "with_copied_derivatives", noting)
    fit = make_fit(epochs=1)
    for _ in range(2):
        run_in_company([fit], None, lambda *_: None, copies=True)
    assert fit.finished
    assert len(asked) == 1


def test_batches_add_up_to_the_whole_whatever_their_size_and_order() -> None:
    parameters = settings(1.0)
    (whole,), _ = first_steps([a_network((5,))], batches(11), parameters)
    for size in (1, 3, 4, 6, 11):
        order = np.random.default_rng(size).permutation(11)
        (totals,), _ = first_steps([a_network((5,))], batches(size, order), parameters)
        # the mean over the structures of a batch, and over the atoms that a batch has on average
        np.testing.assert_allclose(totals[[0, 2]] * size, whole[[0, 2]] * 11, rtol=1e-5)
        np.testing.assert_allclose(totals[[1, 3]], whole[[1, 3]], rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 11])
def test_pieces_have_every_structure_of_a_batch_once_and_about_equal_work(size: int) -> None:
    own = batches(size, np.random.default_rng(size).permutation(11))
    for n in (1, 2, 3):
        cut = pieces.Pieces(own, n)
        found = [0, 0]
        for batch in range(own.n):
            features, segments = own.atoms(batch)
            ends, work = [0, 0], []
            for structures, atoms in cut.of_batch(batch):
                for k in range(2):
                    assert atoms[k].start == ends[k]
                    ends[k] = atoms[k].stop
                    of_piece = segments[k][atoms[k]]
                    assert all(structures.start <= s < structures.stop for s in of_piece.tolist())
                    assert len(of_piece) <= cut.most_atoms[k]
                work.append(sum(own.stop - own.start for own in atoms))
            assert ends == [len(part) for part in features]
            # no structure has more than four atoms
            assert max(work) - min(work) <= 2 * 4
            found = [a + b for a, b in zip(found, ends, strict=True)]
        assert found == [len(part) for part in DATA.train.features]


def test_a_copy_of_the_derivatives_changes_no_bit() -> None:
    n_values = sum(
        int(own.sizes(N_FEATURES).sum())
        for own in (DATA.train_forces, DATA.validation_forces)
        if own is not None
    )
    histories = []
    for most in (4 * n_values - 1, 4 * n_values):
        data = DATA.with_copied_derivatives(most)
        assert (data is DATA) == (most < 4 * n_values)
        fit = Fit(make_fit().network, make_fit().parameters, 3, data)
        fit.run()
        histories.append([replace(epoch, seconds=0.0) for epoch in fit.history])
    assert histories[0] == histories[1]
    copied = data.train_forces
    assert copied is not None
    assert DATA.train_forces is not None
    assert not copied.jacobian.flags.writeable
    for own, expected in zip(blocks(copied), blocks(DATA.train_forces), strict=True):
        assert (own is None) == (expected is None)
        if own is not None:
            np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_predictions_do_not_depend_on_the_batches(size: int) -> None:
    fit = make_fit(force_huber_scale=SCALE)
    part_of_fit = Part(DATA.validation, DATA.validation_labels, DATA.validation_forces)
    with closing(
        HostStepper(fit.flat_network.shape, DATA, fit.parameters, Schedule(fit.parameters, 1), 2)
    ) as own:
        found, whole = (own.predict(Batches(part_of_fit, np.arange(5), n), fit.state[:1]) for n in (size, 5))
    np.testing.assert_allclose(found.energies, whole.energies, rtol=1e-5)
    np.testing.assert_allclose(found.forces, whole.forces, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.force_losses, whole.force_losses, rtol=1e-5)
    assert found.energies.shape == (1, 5)


def test_a_fraction_takes_the_forces_of_other_structures_in_each_epoch() -> None:
    def components(fraction: float, n_epochs: int) -> list[int]:
        fit = make_fit(force_fraction=fraction)
        with closing(Company(fit.flat_network.shape, fit.data, fit.parameters, fit.seed)) as company:
            return [company.batches(number).n_components[0] for number in range(n_epochs)]

    (whole,) = components(1.0, 1)
    counts = components(0.5, 40)
    assert len(set(counts)) > 3
    assert np.mean(counts) == pytest.approx(0.5 * whole, rel=0.25)
    assert components(0.5, 40) == counts


def test_forces_that_are_left_out_change_nothing() -> None:
    none = Part(DATA.train, DATA.train_labels, DATA.train_forces).without_forces(np.ones(11, bool))
    networks = [a_network((5,))]
    (totals,), gradients = first_steps(networks, Batches(none, np.arange(11), 11), settings(1e3))
    assert totals[2:].tolist() == [0.0, 0.0]
    _, without = first_steps(networks, batches(11), settings(1e-30))
    np.testing.assert_allclose(gradients, without, rtol=1e-5, atol=1e-6)


def test_the_kernel_fills_what_belongs_to_structures_that_are_left_out_with_zeros() -> None:
    predicted, derivatives, losses = (
        np.full(shape, 7.0, dtype)
        for shape, dtype in (((2, 2, 3), "f4"), ((2, 2, N_FEATURES), "f4"), ((1, 2, 2), "f8"))
    )
    batch = ForceBatch(
        offsets=np.array([-1]),
        first_atom=np.array([0, 2]),
        rows=np.arange(2),
        targets=np.ones((2, 3), np.float32),
        weights=np.ones(1, np.float32),
    )
    gradients = np.ones((2, 2, N_FEATURES), np.float32)
    force_losses(np.ones(1, np.float32), batch, gradients, SCALE, predicted, derivatives, losses)
    for found in (predicted, derivatives, losses):
        assert not found.any()


def test_a_fit_to_forces_makes_their_errors_smaller() -> None:
    fit = make_fit(epochs=300, force_weight=1e3, learning_rate=0.03)
    fit.run()
    first, last = fit.history[0], fit.history[-1]
    assert first.train_force_rmse_eV_per_A is not None
    assert last.train_force_rmse_eV_per_A is not None
    assert last.train_force_rmse_eV_per_A < 0.9 * first.train_force_rmse_eV_per_A
    assert last.loss < first.loss


def test_the_loss_weighs_forces_against_energies() -> None:
    light, heavy = make_fit(epochs=1, force_weight=1e-6), make_fit(epochs=1, force_weight=1e3)
    for fit in (light, heavy):
        fit.run()
    plain = Fit(
        make_fit().network,
        TrainingParameters(epochs=1, batch_size=4, learning_rate=0.01, weight_averaging=0.0),
        3,
        replace(DATA, train_forces=None, validation_forces=None),
    )
    plain.run()
    assert light.history[0].loss == pytest.approx(plain.history[0].loss, rel=1e-4)
    assert heavy.history[0].loss > 50 * light.history[0].loss
    assert plain.history[0].train_force_rmse_eV_per_A is None


def test_the_weight_of_forces_goes_from_its_first_to_its_last_value_in_equal_factors() -> None:
    schedule = Schedule(TrainingParameters(epochs=4, force_weight=8.0, final_force_weight=0.5), 3)
    weights = schedule.force_weights(3 * np.arange(5))
    np.testing.assert_allclose(weights, [8.0, 4.0, 2.0, 1.0, 0.5], rtol=1e-12)
    assert Schedule(TrainingParameters(force_weight=3.0), 3).force_weights(np.array([7])) == 3.0
