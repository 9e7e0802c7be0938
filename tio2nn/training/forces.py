"""Forces in the loss: what a batch needs of the Jacobian, as one operation of TensorFlow's graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.training.dataset import FitData, ForceLabels
from tio2nn.training.force_kernels import ForceBatch, force_losses

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Batches:
    """Labels of structures in the order of batches, and where in a batch's rows their atoms are.

    Attributes:
        labels: of all structures.
        size: structures of a batch.
        first_atom: (n_structures + 1,)
        rows: (n_atoms,) row of each atom among those of its batch, subnet after subnet.
        weights: (n_structures,) of the losses.
        atoms_per_batch: atoms with forces that a full batch has on average; the loss of a batch is the sum over its
            atoms divided by it, so that atoms count alike in batches with few of them.
    """

    labels: ForceLabels
    size: int
    first_atom: IntArray
    rows: IntArray
    weights: FloatArray
    atoms_per_batch: float

    @classmethod
    def of(cls, labels: ForceLabels, counts: IntArray, size: int, weights: FloatArray) -> _Batches:
        """Find the rows.

        Args:
            labels: in the order of the batches.
            counts: (n_structures, n_subnets)
            size: structures of a batch.
            weights: (n_structures,)
        """
        batch_of_structure = np.arange(len(counts)) // size
        in_batch = np.zeros((int(batch_of_structure[-1]) + 1, counts.shape[1]), np.int64)
        np.add.at(in_batch, batch_of_structure, counts)
        first_of_batch = np.cumsum(in_batch, axis=0) - in_batch  # among all atoms of a subnet
        first_of_subnet = np.cumsum(in_batch, axis=1) - in_batch  # among the rows of a batch
        batch = np.repeat(batch_of_structure, labels.n_atoms)
        rows = np.empty(len(batch), np.int64)
        for k in range(counts.shape[1]):
            own = labels.subnets == k
            rank = np.arange(np.count_nonzero(own))
            rows[own] = rank - first_of_batch[batch[own], k] + first_of_subnet[batch[own], k]
        n_labelled = int(labels.n_atoms[labels.has_forces].sum())
        first_atom = np.concatenate([[0], np.cumsum(labels.n_atoms)])
        return cls(labels, size, first_atom, rows, weights, max(1.0, n_labelled * size / len(counts)))

    def product(self, batch: int, gradients: Float32Array, scale: float) -> tuple[Any, ...]:
        """Loss, squared errors, derivatives of the loss and forces of one batch."""
        own = slice(batch * self.size, (batch + 1) * self.size)
        labels = self.labels
        first_atom = self.first_atom[own.start : own.stop + 1]
        atoms = slice(int(first_atom[0]), int(first_atom[-1]))
        forces = np.empty((atoms.stop - atoms.start, 3), np.float32)
        derivatives = np.empty_like(gradients)
        labels_of_batch = ForceBatch(
            labels.offsets[own],
            first_atom - first_atom[0],
            self.rows[atoms],
            labels.forces[atoms],
            (self.weights[own] / self.atoms_per_batch).astype(np.float32),
        )
        results = force_losses(labels.jacobian, labels_of_batch, gradients, scale, forces, derivatives)
        return (*results.sum(axis=0).astype(np.float32), derivatives, forces)


class ForceTerm:
    """The part of the loss that forces have, for the batches of an epoch.

    Args:
        data: with forces.
        scale: error at which the loss turns linear, eV/Å.
        fraction: of the structures whose forces count in an epoch.
        seed: of the choice of those.
    """

    def __init__(self, data: FitData, scale: float, fraction: float, seed: int) -> None:
        if data.train_forces is None or data.validation_forces is None:
            raise ValueError("data: expected forces, got none")
        self._train, self._validation = data.train_forces, data.validation_forces
        n_validation = len(data.validation.counts)
        self._validation_batches = (
            _Batches.of(self._validation, data.validation.counts, n_validation, np.ones(n_validation))
            if n_validation
            else None
        )
        self._weights = data.train_labels.weights
        self._counts = data.train.counts
        self._matrices = [tf.constant(matrix.T, tf.float32) for matrix in data.whitening_matrices]
        self._scale, self._fraction, self._seed = scale, fraction, seed
        self._batches: _Batches | None = None

    def start_epoch(self, number: int, order: IntArray, batch_size: int) -> int:
        """Prepare the batches of an epoch; return the number of its force components.

        Args:
            number: of the epoch, from 0.
            order: of the structures.
            batch_size: structures of a batch.
        """
        labels = self._train.select(order)
        if self._fraction < 1.0:
            chosen = np.random.default_rng([self._seed, number, 1]).random(len(order)) < self._fraction
            labels = replace(labels, offsets=np.where(chosen, labels.offsets, -1))
        self._batches = _Batches.of(labels, self._counts[order], batch_size, self._weights[order])
        return 3 * int(labels.n_atoms[labels.has_forces].sum())

    def loss(self, batch: tf.Tensor, gradients: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss of the atoms of a batch that have forces, and the sum of squared errors of all components.

        The mean of the losses of all full batches is the mean loss of an atom.

        Args:
            batch: its number in the epoch.
            gradients: for each subnet (n_atoms of it, n_features), ∂E/∂(whitened features).
        """

        @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
        def product(rows: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Any]:
            types = [tf.float32, tf.float32, tf.float32]
            loss, squares, derivatives = tf.numpy_function(self._product, [batch, rows], types)
            loss.set_shape(())
            squares.set_shape(())
            derivatives.set_shape(rows.shape)

            def backward(loss_gradient: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
                return loss_gradient * derivatives

            return (loss, squares), backward

        return product(self._unwhitened(gradients))  # type: ignore[no-any-return]

    def _product(self, batch: Any, rows: Float32Array) -> tuple[Any, ...]:
        assert self._batches is not None
        return self._batches.product(int(batch), rows, self._scale)[:3]

    def _unwhitened(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        """(n_atoms of all subnets, n_features) ∂E/∂G."""
        return tf.concat([g @ m for g, m in zip(gradients, self._matrices, strict=True)], axis=0)

    def validation_errors(self, gradients: Sequence[tf.Tensor]) -> tuple[float, Float32Array]:
        """Mean loss of the validation set, and the errors (n_components,) of its forces, eV/Å."""
        assert self._validation_batches is not None, "there is a validation set"
        rows = self._unwhitened(gradients).numpy()
        loss, _, _, forces = self._validation_batches.product(0, rows, self._scale)
        labels = self._validation
        known = np.repeat(labels.has_forces, labels.n_atoms)
        return float(loss), (forces - labels.forces)[known].ravel()
