"""Fits of a network of five nodes to eleven made-up structures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.dataset import FitData, Labels
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit
from tio2nn.training.network import BPNN

configure_threads()

N_FEATURES = 3


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


def weights(fit: Fit) -> list[np.ndarray]:
    return [np.array(weight) for weight in fit.network.trainable_variables]


def energies(fit: Fit, table: AtomTable) -> np.ndarray:
    """Of the network as it stands, eV."""
    segments = [tf.constant(table.segments(k)) for k in range(2)]
    found = fit.network.whitened_energies(
        [tf.constant(part) for part in table.features], segments, len(table.counts)
    )
    return np.asarray(found, np.float64)
