"""Products with derivatives with respect to strain that lie on the device, in operations of TensorFlow.

The derivatives are one matrix with a row for each atom: a batch gathers its rows, multiplies each by the gradients of
its atom, and adds them up by structure. As for the Jacobian, every batch has the same number of rows, where they lie is
computed on the host, once an epoch, and what a batch does not need is a row of zeros that belongs to the structure of
padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training import device_memory
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import StressLabels
from tio2nn.training.device_memory import DoesNotFitError, fill, reserved
from tio2nn.training.padding import counting, placed, places
from tio2nn.training.stress_batches import StressBatches
from tio2nn.wording import counted, size

_TWICE = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], np.float32)  # how often a tensor has each component


class Plan(NamedTuple):
    """Where the batches of an epoch find what they need; a row for each atom of a structure with a stress.

    Attributes:
        atoms: (n_batches, n_rows) its derivatives.
        rows: (n_batches, n_rows) its place among the atoms of its batch, as in the gradients; any of padding.
        owners: (n_batches, n_rows) the place of its structure in the batch.
        targets: (n_batches, width, 6) volume times stress, per atom, eV, zeros without.
        shares: (n_batches, width) 1 over the number of atoms.
        densities: (n_batches, width) atoms per volume, 1/Å³.
        weights: (n_batches, width) of the losses, zeros without.
    """

    atoms: Any
    rows: Any
    owners: Any
    targets: Any
    shares: Any
    densities: Any
    weights: Any


class ResidentStresses:
    """Stresses by TensorFlow, on the device on which it is made; as `ForceProducts`, for batches with padding.

    Args:
        parts: labels of the training and validation sets.
        n_features: of an atom.
        scale: error at which the loss turns linear, eV/atom.

    Raises:
        DoesNotFitError: not enough memory on the device.
    """

    def __init__(self, parts: Sequence[StressLabels], n_features: int, scale: float) -> None:
        self._scale, self._n_features = scale, n_features
        offsets = np.concatenate([part.offsets[part.has_stress] for part in parts])
        n_atoms = np.concatenate([part.n_atoms[part.has_stress] for part in parts])
        order = np.argsort(offsets, kind="stable")
        self._offsets, n_atoms = offsets[order], n_atoms[order]
        self._first = np.cumsum(n_atoms) - n_atoms  # row of the first atom of each structure
        n_rows, width = int(n_atoms.sum()), 6 * n_features
        what = (
            f"the derivatives by strain of {counted(len(offsets), 'structure')}, {size(4 * n_rows * width)},"
        )
        if (n_rows + 1) * width > device_memory.MOST_NUMBERS:
            raise DoesNotFitError(f"{what} do not fit on the GPU")
        self._strains = reserved((n_rows + 1, width), what)  # and a row of zeros
        structure = np.repeat(np.arange(len(n_atoms)), n_atoms)
        first = self._offsets[structure] + (np.arange(n_rows) - self._first[structure]) * width
        strains = parts[0].strains
        fill(self._strains, n_rows, lambda begin, end: strains[first[begin:end, None] + np.arange(width)])
        self._of_batch = tf.function(self._predicted)

    def loads(self, labels: StressLabels) -> IntArray:
        """(n_structures, 1) rows that each structure needs in a batch."""
        return np.asarray(labels.n_atoms * labels.has_stress)[:, None]

    def begin(self, batches: Batches) -> Plan:
        """As `ForceProducts.begin`."""
        stress, padding = batches.stress, batches.padding
        assert stress is not None, "there are stresses"
        assert padding is not None, "there is room in the batches"
        plan = self.plan(stress, batches.n, int(padding.stress[0]))
        self._n_in_batch, self._n_structures = batches.size, batches.n_structures
        kinds = (*[tf.int64] * 3, *[tf.float32] * 4)
        return Plan(*(tf.constant(array, kind) for array, kind in zip(plan, kinds, strict=True)))

    def plan(self, stress: StressBatches, n_batches: int, n_rows: int) -> Plan:
        """The plan as arrays, with so many rows in a batch."""
        labels, n_in_batch = stress.labels, stress.size
        present = np.flatnonzero(labels.has_stress)
        found = np.searchsorted(self._offsets, labels.offsets[present])
        n_atoms = labels.n_atoms[present]
        in_structure = counting(n_atoms)
        atoms = np.repeat(self._first[found], n_atoms) + in_structure
        rows = stress.rows[np.repeat(stress.first_atom[present], n_atoms) + in_structure]
        owners = np.repeat(present % n_in_batch, n_atoms)
        at = places(np.repeat(present // n_in_batch, n_atoms), n_batches, n_rows)
        density = labels.n_atoms / labels.volumes
        structures = np.arange(len(density))
        of_structures = structures // n_in_batch * (n_in_batch + 1) + structures % n_in_batch

        def by_batch(column: FloatArray, value: float) -> NDArray[Any]:
            return placed(column, of_structures, (n_batches, n_in_batch + 1, *column.shape[1:]), value)

        return Plan(
            placed(atoms, at, (n_batches, n_rows), self._strains.shape[0] - 1),
            placed(rows, at, (n_batches, n_rows), 0),
            placed(owners, at, (n_batches, n_rows), n_in_batch),
            by_batch(labels.stresses / density[:, None], 0.0),
            by_batch(1.0 / labels.n_atoms, 1.0),
            by_batch(density, 1.0),
            by_batch(np.where(labels.has_stress, stress.weights, 0.0), 0.0),
        )

    def losses(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `ForceProducts.losses`."""
        found, strains = self._products(given, batch, gradients)
        errors = _errors(found, given.targets[batch][:, None])
        roots = tf.sqrt(1.0 + tf.reduce_sum(_TWICE * errors * errors, axis=-1) / self._scale**2)
        weights, densities = given.weights[batch][:, None], given.densities[batch][:, None]
        squares = tf.reduce_sum(errors * errors, axis=-1) * densities**2
        losses = tf.stack(
            [tf.reduce_sum(weights * (roots - 1.0), axis=0), tf.reduce_sum(squares, axis=0)], axis=1
        )
        factors = weights * given.shares[batch][:, None] / (self._scale**2 * roots)
        # of rows, for each member
        of_atoms = tf.gather(_TWICE * errors * factors[..., None], given.owners[batch])
        derivatives = tf.matmul(of_atoms, strains, transpose_b=True)
        shape = tf.stack([tf.shape(gradients[0])[0], len(gradients), self._n_features])
        # all other atoms have none
        whole = tf.scatter_nd(given.rows[batch][:, None], derivatives, tf.cast(shape, tf.int64))
        whole = tf.transpose(whole, (1, 0, 2))
        whole.set_shape((len(gradients), *gradients[0].shape))
        return losses, tf.unstack(whole)

    def predict(
        self, given: Plan, batch: int, gradients: Sequence[tf.Tensor]
    ) -> tuple[FloatArray, Float32Array]:
        """As `ForceProducts.predict`."""
        losses, stresses = self._of_batch(given, tf.constant(batch), list(gradients))
        n = min(self._n_in_batch, self._n_structures - batch * self._n_in_batch)
        return losses.numpy().astype(np.float64), stresses.numpy()[:, :n]

    def _predicted(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Losses (n_members,) and stresses (n_members, size, 6) of a batch."""
        found, _ = self._products(given, batch, gradients)
        errors = _errors(found, given.targets[batch][:, None])
        roots = tf.sqrt(1.0 + tf.reduce_sum(_TWICE * errors * errors, axis=-1) / self._scale**2)
        losses = tf.reduce_sum(given.weights[batch][:, None] * (roots - 1.0), axis=0)
        return losses, tf.transpose(found * given.densities[batch][:, None, None], (1, 0, 2))

    def _products(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Volume times stress per atom (size, n_members, 6), and the derivatives (n_rows, n_features, 6) of a batch."""
        strains = tf.reshape(tf.gather(self._strains, given.atoms[batch]), (-1, self._n_features, 6))
        stacked = tf.gather(tf.stack(gradients, axis=1), given.rows[batch])  # (n_rows, n_members, n_features)
        of_atoms = tf.matmul(stacked, strains)
        found = tf.math.unsorted_segment_sum(of_atoms, given.owners[batch], given.targets.shape[1])
        return found * given.shares[batch][:, None, None], strains

    def close(self) -> None:
        """It has no threads."""


def _errors(found: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Errors of stresses; none of components without a target."""
    return tf.where(tf.math.is_nan(targets), 0.0, found - targets)
