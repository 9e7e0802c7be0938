"""Fits to stresses on made-up derivatives, and their losses by the printed formula."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.batches import Batches, Part
from tio2nn.training.dataset import FitData, ForceLabels, Labels, StressLabels
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.network import BPNN
from tio2nn.training.schedule import Schedule

configure_threads()

N_FEATURES = 4
SCALE = 0.3  # eV/atom
MATRICES = tuple(np.random.default_rng(k).normal(size=(N_FEATURES, N_FEATURES)) for k in (8, 9))
N_TRAIN, N_VALIDATION = 23, 7


def make_data(directory: Path | None = None) -> FitData:
    """Structures of one to six atoms of two subnets; every third has no forces, every fourth no stress.

    With a directory the derivatives are mapped from files there.
    """
    rng = np.random.default_rng(0)
    n = N_TRAIN + N_VALIDATION
    n_atoms = rng.integers(1, 7, n)
    subnets = rng.integers(0, 2, n_atoms.sum())
    table = AtomTable.from_rows(rng.normal(size=(n_atoms.sum(), N_FEATURES)), subnets, n_atoms, 2)
    table = AtomTable(tuple(np.asarray(p, np.float32) for p in table.features), table.counts)
    labels = Labels(rng.normal(size=n) * n_atoms, rng.uniform(0.5, 1.5, n))
    has_forces, has_stress = np.arange(n) % 3 != 2, np.arange(n) % 4 != 1

    def derivatives(sizes: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = rng.normal(size=sizes.sum()).astype(np.float32)
        if directory is not None:
            values.tofile(directory / name)
            values = np.memmap(directory / name, dtype="<f4", mode="r")
        return values, np.where(sizes > 0, np.cumsum(sizes) - sizes, -1), sizes

    jacobian, of_forces, _ = derivatives(3 * N_FEATURES * n_atoms**2 * has_forces, "jacobian.f32")
    strains, of_stress, _ = derivatives(6 * N_FEATURES * n_atoms * has_stress, "strain.f32")
    forces = ForceLabels(
        jacobian,
        of_forces,
        rng.normal(size=(n_atoms.sum(), 3)).astype(np.float32),
        subnets.astype(np.int8),
        n_atoms,
    )
    stress = StressLabels(
        strains,
        of_stress,
        rng.normal(size=(n, 6)) * 0.01 * has_stress[:, None],
        np.where(has_stress, rng.uniform(10.0, 20.0, n) * n_atoms, 1.0),
        subnets.astype(np.int8),
        n_atoms,
    )
    train, validation = np.arange(N_TRAIN), np.arange(N_TRAIN, n)

    def chosen(k: np.ndarray) -> Labels:
        return Labels(labels.energies[k], labels.weights[k])

    return FitData(
        table.select(train),
        chosen(train),
        table.select(validation),
        chosen(validation),
        forces.select(train),
        forces.select(validation),
        MATRICES,
        train_stress=stress.select(train),
        validation_stress=stress.select(validation),
    )


DATA = make_data()


def with_components(n: int) -> FitData:
    """The data with no more than the first components of each stress to learn."""

    def restricted(labels: StressLabels | None) -> StressLabels:
        assert labels is not None
        return replace(labels, stresses=np.where(np.arange(6) < n, labels.stresses, np.nan))

    parts = (DATA.train_stress, DATA.validation_stress)
    train, validation = (restricted(part) for part in parts)
    return replace(DATA, train_stress=train, validation_stress=validation)


def part_of(data: FitData) -> Part:
    return Part(data.train, data.train_labels, data.train_forces, data.train_stress)


def validation_of(data: FitData) -> Part:
    return Part(data.validation, data.validation_labels, data.validation_forces, data.validation_stress)


def labels_of(data: FitData) -> StressLabels:
    assert data.train_stress is not None
    return data.train_stress


def fits(n: int, data: FitData = DATA, **settings: object) -> list[Fit]:
    found = []
    for member in range(n):
        keras.utils.set_random_seed(member)
        network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6, 4)), ("Ti", "O"), N_FEATURES)
        values: dict[str, Any] = {
            "epochs": 4,
            "batch_size": 5,
            "learning_rate": 0.01,
            "forces": True,
            "stress": True,
            "stress_huber_scale": 1000 * SCALE,
        }
        found.append(Fit(network, TrainingParameters(**(values | settings)), 3, data, member + 1))
    return found


def weights(fit: Fit) -> np.ndarray:
    return fit.state[3]


def a_network(seed: int = 5) -> BPNN:
    keras.utils.set_random_seed(seed)
    network = BPNN.from_parameters(NetworkParameters(hidden_layers=(6, 5)), ("Ti", "O"), N_FEATURES)
    for weight in network.trainable_variables:
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape) / np.sqrt(weight.shape[0]))
    return network


def first_steps(
    networks: list[BPNN], batches: Batches, stress_weight: float, threads: int = 1, forces: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of losses and errors of each network, and the gradient (n_networks, n_weights) of the last batch."""
    parameters = TrainingParameters(
        learning_rate=1e-30,
        gradient_clip=None,
        weight_decay=0.0,
        force_huber_scale=0.3,
        stress_weight=stress_weight,
        stress_huber_scale=1000.0 * SCALE,
    )
    own = [Fit(network, parameters, 3, DATA) for network in networks]
    states = np.stack([fit.state for fit in own], axis=1)
    schedule = Schedule(parameters, batches.n)
    if not forces:
        batches.forces = None
    with closing(HostStepper(own[0].flat_network.shape, DATA, parameters, schedule, threads)) as stepper:
        totals = stepper.train(batches, states, 0, [0] * len(own))
    return totals, states[1] / np.float32(0.1)


def printed_loss(network: BPNN, stress_weight: float) -> tuple[float, float, list[np.ndarray]]:
    """By TensorFlow, for a batch of all structures: weighted loss of the stresses as it is printed, their squared
    errors, and the derivatives of that loss with respect to each weight."""
    labels = labels_of(DATA)
    features = [tf.constant(p) for p in DATA.train.features]
    segments = [tf.constant(DATA.train.segments(k)) for k in range(2)]
    places, first = np.empty(len(labels.subnets), np.int64), 0
    for k in range(2):
        own = labels.subnets == k
        places[own] = first + np.arange(own.sum())
        first += own.sum()
    with tf.GradientTape() as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(features)
            energies = network.whitened_energies(features, segments, N_TRAIN)
        raw = [
            g @ tf.constant(m.T, tf.float32)
            for g, m in zip(inner.gradient(energies, features), MATRICES, strict=True)
        ]
        rows = tf.cast(tf.gather(tf.concat(raw, axis=0), places), tf.float64)
        loss, squares, atom = tf.zeros((), tf.float64), 0.0, 0
        for s, n in enumerate(labels.n_atoms.tolist()):
            own_rows = rows[atom : atom + n]
            atom += n
            if not labels.has_stress[s]:
                continue
            block = labels.strains[labels.offsets[s] :][: n * N_FEATURES * 6].reshape(n, N_FEATURES, 6)
            found = tf.tensordot(own_rows, tf.constant(block, tf.float64), 2) / labels.volumes[s]
            error = found - labels.stresses[s]
            squares += float(tf.reduce_sum(error**2))
            full = tf.stack([tf.gather(error, row) for row in ((0, 5, 4), (5, 1, 3), (4, 3, 2))])
            size = tf.reduce_sum(full**2) * (labels.volumes[s] / n) ** 2
            loss += DATA.train_labels.weights[s] * (tf.sqrt(1.0 + size / SCALE**2) - 1.0)
        loss *= stress_weight / np.count_nonzero(labels.has_stress)
        # TensorFlow makes no zeros of its own for the variables of Keras that energies alone depend on
        loss += 0.0 * tf.reduce_sum(tf.cast(energies, tf.float64))
    found = outer.gradient(loss, network.trainable_variables)
    return float(loss), squares, [np.asarray(g) for g in found]
