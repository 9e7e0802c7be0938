"""Fits to forces on made-up derivatives, and their losses by the printed formulas."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training import pieces
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.dataset import FitData, ForceLabels, Labels
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit
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
