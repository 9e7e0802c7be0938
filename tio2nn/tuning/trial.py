"""One trial of a search in a worker process: a fit with its own settings on shared data."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

from tio2nn.training.devices import configure_threads
from tio2nn.training.task import FitTask
from tio2nn.tuning.trials import COMPLETED, DIVERGED, FAILED, Outcome


@dataclass(frozen=True, kw_only=True)
class TrialTask(FitTask):
    """The fit of one trial.

    Attributes:
        threads: that work at the same time.
    """

    threads: int


def run_trial(task: TrialTask) -> Outcome:
    """Fit one network and return its errors; divergence and lack of memory are outcomes, not errors."""
    begin = time.perf_counter()
    _configure_once(task.threads)
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
    fit = task.begin()
    fit.run(threads=task.threads)
    chosen = fit.chosen
    return Outcome(
        status=COMPLETED,
        validation_rmse_meV_per_atom=chosen.validation_rmse_meV_per_atom,
        validation_mae_meV_per_atom=chosen.validation_mae_meV_per_atom,
        validation_force_rmse_eV_per_A=chosen.validation_force_rmse_eV_per_A,
        validation_stress_rmse_meV_per_A3=chosen.validation_stress_rmse_meV_per_A3,
        best_epoch=chosen.epoch,
        n_parameters=sum(int(np.prod(weight.shape)) for weight in fit.network.trainable_variables),
    )


@lru_cache(maxsize=1)
def _configure_once(threads: int) -> None:
    configure_threads(threads)
