"""One trial of a search, as a worker process runs it: a fit with settings of its own on data that all share."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.io.arrays import opened_arrays, write_arrays
from tio2nn.nn.dataset import AtomTable
from tio2nn.nn.network import BPNN
from tio2nn.nn.training import Fit, Labels, configure_threads
from tio2nn.parameters import NetworkParameters, TrainingParameters
from tio2nn.trials import COMPLETED, DIVERGED, FAILED, Outcome


@dataclass(frozen=True)
class FitData:
    """What every trial is fitted to: whitened features and labels of the training and the validation part."""

    train: AtomTable
    train_labels: Labels
    validation: AtomTable
    validation_labels: Labels

    def save(self, path: Path) -> None:
        """Write plain arrays, so that a worker reads them once instead of receiving them with each trial."""
        arrays: dict[str, NDArray[Any]] = {}
        for part, table, labels in (
            ("train", self.train, self.train_labels),
            ("validation", self.validation, self.validation_labels),
        ):
            arrays |= {f"{part}_features_{k}": features for k, features in enumerate(table.features)}
            arrays[f"{part}_counts"] = table.counts
            arrays[f"{part}_energies"], arrays[f"{part}_weights"] = labels.energies, labels.weights
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> FitData:
        """Read what `save` wrote."""
        with opened_arrays(path) as arrays:
            return cls(*_part(arrays, "train"), *_part(arrays, "validation"))


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> tuple[AtomTable, Labels]:
    counts = arrays[f"{part}_counts"]
    features = tuple(arrays[f"{part}_features_{k}"] for k in range(counts.shape[1]))
    return AtomTable(features, counts), Labels(arrays[f"{part}_energies"], arrays[f"{part}_weights"])


@dataclass(frozen=True)
class TrialTask:
    """All that a worker needs to know.

    Attributes:
        data: file of the `FitData`.
        elements: chemical symbols, in the order of the data's subnets.
        n_features: columns of the features.
        network, training: settings of the fit.
        seed: of first weights and batches.
        parallel_operations: operations that TensorFlow may run side by side.
    """

    data: Path
    elements: tuple[str, ...]
    n_features: int
    network: NetworkParameters
    training: TrainingParameters
    seed: int
    parallel_operations: int


def run_trial(task: TrialTask) -> Outcome:
    """Fit one network and report its errors; a fit that diverges or lacks memory is an outcome, not an error."""
    begin = time.perf_counter()
    _configure_once(task.parallel_operations)
    try:
        outcome = _fit(task)
    except FloatingPointError as error:
        outcome = Outcome(status=DIVERGED, message=str(error))
    except (MemoryError, tf.errors.ResourceExhaustedError):
        outcome = Outcome(status=FAILED, message="out of memory")
    finally:
        # variables and graphs of a fit refer to each other and to Keras' global state
        keras.backend.clear_session()
        gc.collect()
    return replace(outcome, seconds=round(time.perf_counter() - begin, 2))


def _fit(task: TrialTask) -> Outcome:
    data = _load(task.data)
    keras.utils.set_random_seed(task.seed)
    network = BPNN.from_parameters(task.network, task.elements, task.n_features)
    network.set_mean_energy(float(np.mean(data.train_labels.energies / data.train.n_atoms)))
    fit = Fit(
        network,
        task.training,
        task.seed,
        data.train,
        data.train_labels,
        data.validation,
        data.validation_labels,
    )
    fit.run()
    chosen = fit.chosen
    return Outcome(
        status=COMPLETED,
        validation_rmse_meV_per_atom=chosen.validation_rmse_meV_per_atom,
        validation_mae_meV_per_atom=chosen.validation_mae_meV_per_atom,
        best_epoch=chosen.epoch,
        n_parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_variables),
    )


@lru_cache(maxsize=1)
def _load(path: Path) -> FitData:
    return FitData.load(path)


@lru_cache(maxsize=1)
def _configure_once(parallel_operations: int) -> None:
    configure_threads(parallel_operations)
