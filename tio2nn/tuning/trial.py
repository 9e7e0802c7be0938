"""One trial of a search in a worker process: a fit with its own settings on shared data."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.training.dataset import FitData
from tio2nn.training.fit import Fit, configure_threads
from tio2nn.training.network import initial_network
from tio2nn.tuning.trials import COMPLETED, DIVERGED, FAILED, Outcome


@dataclass(frozen=True)
class TrialTask:
    """Everything that a worker needs for one trial.

    Attributes:
        data: file of the `FitData`.
        elements: chemical symbols, in the order of the data's subnets.
        n_features: columns of the features.
        network, training: settings of the fit.
        seed: of initial weights and batches.
        parallel_operations: number of operations that TensorFlow may run in parallel.
    """

    data: Path
    elements: tuple[str, ...]
    n_features: int
    network: NetworkParameters
    training: TrainingParameters
    seed: int
    parallel_operations: int


def run_trial(task: TrialTask) -> Outcome:
    """Fit one network and return its errors; divergence and lack of memory are outcomes, not errors."""
    begin = time.perf_counter()
    _configure_once(task.parallel_operations)
    try:
        outcome = _fit(task)
    except FloatingPointError as error:
        outcome = Outcome(status=DIVERGED, message=str(error))
    except (MemoryError, tf.errors.ResourceExhaustedError):
        outcome = Outcome(status=FAILED, message="out of memory")
    finally:
        # variables and graphs of a fit are kept alive by each other and by the global state of Keras
        keras.backend.clear_session()
        gc.collect()
    return replace(outcome, seconds=round(time.perf_counter() - begin, 2))


def _fit(task: TrialTask) -> Outcome:
    data = _load(task.data)
    network = initial_network(task.network, task.elements, task.n_features, data, task.seed)
    fit = Fit(network, task.training, task.seed, data)
    fit.run()
    chosen = fit.chosen
    return Outcome(
        status=COMPLETED,
        validation_rmse_meV_per_atom=chosen.validation_rmse_meV_per_atom,
        validation_mae_meV_per_atom=chosen.validation_mae_meV_per_atom,
        validation_force_rmse_eV_per_A=chosen.validation_force_rmse_eV_per_A,
        best_epoch=chosen.epoch,
        n_parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_variables),
    )


@lru_cache(maxsize=1)
def _load(path: Path) -> FitData:
    return FitData.load(path)


@lru_cache(maxsize=1)
def _configure_once(parallel_operations: int) -> None:
    configure_threads(parallel_operations)
