"""The loss of forces: its value and derivatives by the printed formulas, and the same bits however it is computed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from training.force_fits import (
    DATA,
    N_FEATURES,
    SCALE,
    a_network,
    batches,
    blocks,
    cut_batches,
    first_steps,
    make_fit,
    reference,
    settings,
)

from tio2nn.parameters.fit_parameters import ACTIVATIONS, TrainingParameters
from tio2nn.training import adam, network_kernels, pieces
from tio2nn.training.batches import Batches, Part
from tio2nn.training.company import Company
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.dataset import FitData
from tio2nn.training.fit import Fit, run_in_company
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.host_networks import HostNetworks
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.schedule import Schedule


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
