"""Derivatives read window by window: the same values, and the same fits, as where they lie."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from batch_losses import losses_of

from tio2nn.errors import InputError
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.atom_table import AtomTable, write_transformed
from tio2nn.training.batches import Batches, Part, Readers
from tio2nn.training.dataset import FitData, ForceLabels, Labels
from tio2nn.training.device_memory import DoesNotFitError
from tio2nn.training.devices import configure_threads, force_products
from tio2nn.training.fit import Fit, Resumption
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN
from tio2nn.training.windows import FeatureWindows, Window, WindowReader, Windows, in_turn, mixed

configure_threads()

N_FEATURES = 4
MATRIX = np.random.default_rng(8).normal(size=(N_FEATURES, N_FEATURES))


def values_of(n_atoms: np.ndarray) -> np.ndarray:
    return 3 * N_FEATURES * n_atoms**2


@pytest.fixture
def data(tmp_path: Path) -> FitData:
    """60 structures of 5 to 12 atoms; 12 of them validate, every seventh has no forces. 0.3 MB of derivatives."""
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(5, 13, 60)
    labeled = np.arange(60) % 7 != 3
    sizes = values_of(n_atoms) * labeled
    path = tmp_path / "jacobian.f32"
    rng.normal(size=sizes.sum()).astype("<f4").tofile(path)
    features = rng.normal(size=(n_atoms.sum(), N_FEATURES))
    table = AtomTable.from_rows(features, np.zeros(n_atoms.sum(), np.int64), n_atoms, 1)
    table = AtomTable((table.features[0].astype(np.float32),), table.counts)
    labels = Labels(rng.normal(size=60) * n_atoms, np.ones(60))
    forces = ForceLabels(
        np.memmap(path, dtype="<f4", mode="r"),
        np.where(labeled, np.cumsum(sizes) - sizes, -1),
        rng.normal(size=(n_atoms.sum(), 3)).astype(np.float32),
        np.zeros(n_atoms.sum(), np.int8),
        n_atoms,
    )
    validation = np.arange(60) % 5 == 0
    train, held_out = np.flatnonzero(~validation), np.flatnonzero(validation)

    def of(part: np.ndarray) -> Labels:
        return Labels(labels.energies[part], labels.weights[part])

    return FitData(
        table.select(train),
        of(train),
        table.select(held_out),
        of(held_out),
        forces.select(train),
        forces.select(held_out),
        (MATRIX,),
    )


def file_of(data: FitData) -> Path:
    assert data.derivatives_file is not None
    return data.derivatives_file


def windowed(data: FitData, capacity: int, kept: int = 0) -> FitData:
    return replace(data, window=Window(capacity, kept, N_FEATURES))


def make_fit(data: FitData, **settings: Any) -> Fit:
    keras.utils.set_random_seed(5)
    network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6,)), ("Ti",), N_FEATURES)
    values: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 4,
        "learning_rate": 0.01,
        "forces": True,
        "weight_averaging": 0.0,
    }
    return Fit(network, TrainingParameters(**{**values, **settings}), 3, data)


def weights(fit: Fit) -> np.ndarray:
    return fit.flat_network.weights()


# --- reading ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["past the cache", "through the cache"])
def reader(
    request: pytest.FixtureRequest, data: FitData, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WindowReader]:
    if request.param == "through the cache":
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    assert data.train_forces is not None
    with closing(WindowReader(file_of(data), 20_000)) as made:
        yield made


@pytest.mark.parametrize("capacity", [1, 5_000, 20_000, 10**9])
def test_each_batch_finds_its_derivatives(data: FitData, reader: WindowReader, capacity: int) -> None:
    labels = data.train_forces
    assert labels is not None
    order, first = mixed(labels.sizes(N_FEATURES), 5, capacity, np.random.default_rng(1))
    own = labels.select(order)
    sizes = own.sizes(N_FEATURES)
    windows = Windows(reader, own.offsets, sizes, 5, first)
    for turn in range(2):  # an epoch, and another
        for batch in range(int(first[-1])):
            values, offsets = windows.of_batch(batch)
            for k, offset in zip(range(5 * batch, 5 * batch + 5), offsets, strict=False):
                if own.offsets[k] < 0:
                    assert offset < 0
                    continue
                there = labels.jacobian[own.offsets[k] :][: sizes[k]]
                np.testing.assert_array_equal(values[offset : offset + sizes[k]], there, err_msg=f"{turn}")
    assert not values.flags.writeable


def test_memory_holds_two_windows(data: FitData, reader: WindowReader) -> None:
    labels = data.train_forces
    assert labels is not None
    sizes = labels.sizes(N_FEATURES)
    first = in_turn(sizes, 4, 15_000)
    windows = Windows(reader, labels.offsets, sizes, 4, first)
    assert len(windows.runs) >= 3
    buffers = {windows.of_batch(batch)[0].ctypes.data for batch in range(int(first[-1]))}
    assert len(buffers) <= 2 + sum(reader_grew(windows))


def reader_grew(windows: Windows) -> list[bool]:
    """For each window whether it exceeds those before."""
    sizes = [run.n_values for run in windows.runs]
    return [size > max(sizes[:k], default=0) for k, size in enumerate(sizes)]


def test_a_file_that_became_shorter_is_refused(data: FitData) -> None:
    labels = data.train_forces
    assert labels is not None
    with closing(WindowReader(file_of(data), 0)) as reader:
        sizes = labels.sizes(N_FEATURES)
        windows = Windows(reader, labels.offsets, sizes, 4, in_turn(sizes, 4, 10**9))
        os.truncate(file_of(data), 4096)
        with pytest.raises(InputError, match=r"jacobian\.f32: expected \d+ bytes from byte \d+ on, got \d+"):
            windows.of_batch(0)


# --- fits ---------------------------------------------------------------------------------------------------


def test_in_one_order_windows_change_no_bit(data: FitData) -> None:
    order = np.random.default_rng(2).permutation(48)
    gradients = np.random.default_rng(3).normal(size=(2, 48 * 12, N_FEATURES)).astype(np.float32)
    cut = windowed(data, 15_000)
    with closing(WindowReader(file_of(data), 0)) as reader:
        whole = Batches(Part(data.train, data.train_labels, data.train_forces), order, 5)
        readers = Readers(reader, None, None, N_FEATURES, 15_000)
        parts = Batches(Part(cut.train, cut.train_labels, cut.train_forces), order, 5, readers)
        assert whole.forces is not None
        assert parts.forces is not None
        for batch in range(whole.n):
            n = int(data.train.n_atoms[order[5 * batch : 5 * batch + 5]].sum())
            found, expected = (
                losses_of(own, batch, gradients[:, :n], 0.1) for own in (parts.forces, whole.forces)
            )
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{}, pytest.param({"force_fraction": 0.5}, marks=pytest.mark.slow)])
def test_a_fit_in_windows_learns_and_has_bits_of_its_own(data: FitData, settings: dict[str, float]) -> None:
    fits = [
        make_fit(part, epochs=20, **settings)
        for part in (windowed(data, 15_000), windowed(data, 15_000), data)
    ]
    for fit in fits:
        fit.run()
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))
    assert not np.array_equal(weights(fits[0]), weights(fits[2]))
    assert fits[0].history[-1].loss < 0.97 * fits[0].history[0].loss
    assert fits[0].history[-1].loss == pytest.approx(fits[2].history[-1].loss, rel=0.1)


def test_a_window_that_holds_all_validates_as_without(data: FitData) -> None:
    fits = [make_fit(part, epochs=1, learning_rate=1e-30) for part in (windowed(data, 15_000), data)]
    for fit in fits:
        fit.run()
    windowed_epoch, epoch = (fit.history[-1] for fit in fits)
    assert windowed_epoch.validation_loss == epoch.validation_loss
    assert windowed_epoch.validation_force_mae_eV_per_A == epoch.validation_force_mae_eV_per_A


def test_a_fit_that_was_killed_ends_with_the_bits_of_one_that_was_not(data: FitData, tmp_path: Path) -> None:
    whole = make_fit(windowed(data, 15_000))
    whole.run()

    def die_after_two(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    place = Resumption(tmp_path / "checkpoint", "x")
    killed = make_fit(windowed(data, 15_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tio2nn.training.fit._CHECKPOINT_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            killed.run(place, die_after_two)
    resumed = make_fit(windowed(data, 15_000))
    heard: list[int] = []
    resumed.run(place, lambda epoch: heard.append(epoch.epoch))
    assert heard[0] == 3
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_a_file_that_cannot_be_read_ends_a_fit_by_name_and_leaves_no_thread(data: FitData) -> None:
    def cut_short(_: object) -> None:
        os.truncate(file_of(data), 4096)

    before = set(threading.enumerate())
    with pytest.raises(InputError, match=r"jacobian\.f32: expected \d+ bytes"):
        make_fit(windowed(data, 15_000)).run(on_epoch=cut_short)
    assert not {thread.name for thread in set(threading.enumerate()) - before if "tio2nn" in thread.name}


def test_workers_read_the_same_windows(data: FitData, tmp_path: Path) -> None:
    own = windowed(data, 15_000, 100)
    own.save(tmp_path / "data.npz")
    loaded = FitData.load(tmp_path / "data.npz", own.derivatives_file)
    assert loaded.window == Window(15_000, 100, N_FEATURES)
    fits = [make_fit(own), make_fit(loaded)]
    for fit in fits:
        fit.run()
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))


# --- features -----------------------------------------------------------------------------------------------


def with_features_in_a_file(data: FitData, path: Path, capacity: int, kept: int = 0) -> FitData:
    train, validation = write_transformed((data.train, data.validation), [np.asarray], path)
    window = Window(capacity, kept, N_FEATURES, has_features=True)
    return replace(data, train=train, validation=validation, window=window)


def energies_alone(data: FitData) -> FitData:
    return replace(data, train_forces=None, validation_forces=None)


@pytest.mark.parametrize("capacity", [1, 300, 10**9])
@pytest.mark.parametrize("subnets", [1, 2])
def test_each_batch_finds_its_features(tmp_path: Path, capacity: int, subnets: int) -> None:
    rng = np.random.default_rng(4)
    n_atoms = rng.integers(1, 9, 50)
    own = rng.integers(0, subnets, n_atoms.sum())
    whole = AtomTable.from_rows(rng.normal(size=(len(own), N_FEATURES)), own, n_atoms, subnets)
    whole = whole.transformed([np.asarray] * subnets)
    (table,) = write_transformed((whole,), [np.asarray] * subnets, tmp_path / "features.f32")
    order, first = mixed(N_FEATURES * n_atoms, 6, capacity, rng)
    with closing(WindowReader(tmp_path / "features.f32", 100)) as reader:
        windows = FeatureWindows(reader, table, order, 6, first)
        for batch in [*range(9), *range(9)]:
            expected = whole.select(order[6 * batch : 6 * batch + 6])
            for found, matrix in zip(windows.of_batch(batch), expected.features, strict=True):
                np.testing.assert_array_equal(found, matrix)


@pytest.mark.parametrize("with_forces", [False, True])
def test_in_one_order_a_fit_to_features_in_a_file_has_the_bits_of_one_in_memory(
    data: FitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_forces: bool
) -> None:
    def in_one_order(part: Part, size: int, random: Any, readers: Readers | None, *_: Any) -> Batches:
        return Batches(part, random.permutation(len(part)), size, readers)

    monkeypatch.setattr("tio2nn.training.company.shuffled", in_one_order)
    own = data if with_forces else energies_alone(data)
    fits = [
        make_fit(part, forces=with_forces)
        for part in (own, with_features_in_a_file(own, tmp_path / "features.f32", 700))
    ]
    for fit in fits:
        fit.run()
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))
    assert [epoch.loss for epoch in fits[0].history] == [epoch.loss for epoch in fits[1].history]
    assert fits[0].history[-1].validation_loss == fits[1].history[-1].validation_loss


@pytest.mark.parametrize("with_forces", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_fit_to_features_in_windows_learns_and_has_bits_of_its_own(
    data: FitData, tmp_path: Path, with_forces: bool
) -> None:
    own = data if with_forces else energies_alone(data)
    cut = with_features_in_a_file(own, tmp_path / "features.f32", 700)
    cut.save(tmp_path / "data.npz")
    loaded = FitData.load(tmp_path / "data.npz", own.derivatives_file, features=tmp_path / "features.f32")
    assert loaded.window == cut.window
    fits = [make_fit(part, forces=with_forces, epochs=20) for part in (cut, loaded, own)]
    for fit in fits:
        fit.run()
    np.testing.assert_array_equal(weights(fits[0]), weights(fits[1]))
    assert not np.array_equal(weights(fits[0]), weights(fits[2]))
    assert fits[0].history[-1].loss == pytest.approx(fits[2].history[-1].loss, rel=0.1)


def test_a_gpu_is_not_given_features_in_a_file(data: FitData, tmp_path: Path) -> None:
    cut = with_features_in_a_file(energies_alone(data), tmp_path / "features.f32", 700)
    with pytest.raises(DoesNotFitError, match="the features do not fit into memory"):
        force_products(cut, TrainingParameters(), (4, 4))
