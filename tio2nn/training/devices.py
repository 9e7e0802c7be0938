"""The device that TensorFlow computes a fit on, and how many of its threads."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import tensorflow as tf

from tio2nn.array_types import IntArray
from tio2nn.errors import UsageError, one_line
from tio2nn.parallel.devices import Device
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batches import Part
from tio2nn.training.dataset import FitData
from tio2nn.training.device_memory import DoesNotFitError, resident_features
from tio2nn.training.force_products import ForceProducts
from tio2nn.training.losses import MEV
from tio2nn.training.padding import Padding, most_of_batches
from tio2nn.training.resident_forces import ResidentForces
from tio2nn.training.resident_stresses import ResidentStresses


def configure_threads(parallel_operations: int = 2, device: Device = "cpu") -> None:
    """Run this many operations in parallel, each on one thread; on the CPU, deterministically.

    It fixes the order of every sum. No graph is rewritten by the rules of algebra: which of them applies depends on the
    names of operations.
    On the CPU, GPUs stay hidden: TensorFlow would use the first one for everything, round products to ten bits (TF32),
    and take all its memory in each worker process; a fit would give other numbers where there is one. Call it before
    TensorFlow computes anything; once it has, the number of operations stays what it is.

    Raises:
        UsageError: the device cannot be used.
    """
    # a library may train several times in one process, on other numbers of threads
    with suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(parallel_operations)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False}
    )
    if device == "gpu":
        use_gpu()
        return
    # a library may have trained on a GPU before; then it stays visible, and is not used
    with suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    tf.config.experimental.enable_op_determinism()
    tf.config.list_logical_devices()  # start the runtime now, while its notices about hardware are hidden


def on(device: Device) -> Any:
    """A context in which TensorFlow computes there."""
    return tf.device("/GPU:0" if device == "gpu" else "/CPU:0")


def require_gpu() -> tf.config.PhysicalDevice:
    """The first GPU.

    Raises:
        UsageError: TensorFlow finds none.
    """
    found = tf.config.list_physical_devices("GPU")
    if not found:
        raise UsageError(
            "device: expected a GPU that TensorFlow can use, got none; nvidia-smi lists GPUs, "
            "pip install 'tio2nn[gpu]' brings the libraries they need"
        )
    return found[0]


def use_gpu() -> None:
    """Let TensorFlow see the first GPU, and start it.

    It takes memory as it needs it, and multiplies float32 without rounding it to ten bits (TF32). The order of sums is
    not fixed.

    Raises:
        UsageError: there is none, it does not work, or TensorFlow has started without it.
    """
    gpu = require_gpu()
    try:
        tf.config.set_visible_devices([gpu], "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_tensor_float_32_execution(False)
        with on("gpu"):
            tf.reduce_sum(tf.ones((2, 2)) @ tf.ones((2, 2))).numpy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UsageError(f"device: expected a GPU that works, got {one_line(error)}") from None


@functools.cache
def without_xla() -> str | None:
    """Why XLA, which compiles an epoch to few kernels for the GPU, cannot be used; None if it can."""

    try:
        tf.function(lambda x: tf.tanh(x @ x), jit_compile=True)(tf.ones((8, 8))).numpy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        return f"XLA cannot compile for this GPU ({one_line(error)})"
    return None


def padding_for(
    part: Part,
    size: int,
    orders: Iterable[IntArray],
    forces: ForceProducts | None,
    stress: ForceProducts | None,
) -> Padding:
    """Room for the largest of all batches of a part, and its features, on a GPU.

    Args:
        part: the structures.
        size: structures of a batch.
        orders: of the structures, of all epochs.
        forces, stress: products on the GPU; None for a fit without.

    Raises:
        DoesNotFitError: not enough memory on the device.
    """
    loads = [part.table.counts] + [np.zeros((len(part), 0), np.int64)] * 2
    if isinstance(forces, ResidentForces) and part.forces is not None:
        loads[1] = forces.loads(part.forces)
    if isinstance(stress, ResidentStresses) and part.stress is not None:
        loads[2] = stress.loads(part.stress)
    most = most_of_batches(np.concatenate(loads, axis=1), size, orders)
    edges = np.cumsum([own.shape[1] for own in loads[:-1]])
    return Padding(resident_features(part.table), *np.split(most, edges))


def force_products(
    data: FitData, parameters: TrainingParameters, batch_sizes: tuple[int, int]
) -> ForceProducts | None:
    """Products with the Jacobian on a GPU; None for a fit to energies alone.

    Args:
        data: of the fit.
        parameters: training settings.
        batch_sizes: structures of a batch of the training and of the validation set, at most.

    Raises:
        DoesNotFitError: not enough memory on the device, or features in a file.
    """
    if data.features_file is not None:
        raise DoesNotFitError("the features do not fit into memory")
    if data.train_forces is None or data.validation_forces is None:
        return None
    parts = (data.train_forces, data.validation_forces)
    n_features = len(data.whitening_matrices[0])
    return ResidentForces(parts, batch_sizes, n_features, parameters.force_huber_scale)


def stress_products(data: FitData, parameters: TrainingParameters) -> ForceProducts | None:
    """As `force_products`, with the derivatives with respect to strain; None for a fit without stress."""
    if data.train_stress is None or data.validation_stress is None:
        return None
    parts = (data.train_stress, data.validation_stress)
    return ResidentStresses(parts, len(data.whitening_matrices[0]), parameters.stress_huber_scale / MEV)
