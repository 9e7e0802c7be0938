"""The forces of structures in the order of batches."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training.dataset import ForceLabels
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.places import Places, atoms_of
from tio2nn.training.windows import Windows


class ForceBatches:
    """The forces of structures in the order of batches.

    Args:
        labels: in that order.
        counts: (n_structures, n_subnets)
        size: structures of a batch.
        weights: (n_structures,) of the losses, divided by the atoms with forces of a batch on average.
        windows: of the derivatives; None to use them where they lie.
        room: (n_subnets,) as for `Places.of`.

    Attributes:
        labels, size, weights: as above.
        rows, first_atom: as in `Places`.
    """

    def __init__(
        self,
        labels: ForceLabels,
        counts: IntArray,
        size: int,
        weights: FloatArray,
        windows: Windows | None = None,
        room: IntArray | None = None,
    ) -> None:
        self.labels, self.size, self.weights, self._windows = labels, size, weights, windows
        self.rows, self.first_atom = Places.of(labels.subnets, labels.n_atoms, counts, size, room)

    def of_batch(self, batch: int, gradients: Float32Array, scale: float) -> ForceLosses:
        """Those of one batch, not computed yet.

        Args:
            batch: its number.
            gradients: (n_members, n_atoms of the batch, n_features) ∂E/∂G, subnet after subnet.
            scale: error at which the loss turns linear, eV/Å.
        """
        own, labels = slice(batch * self.size, (batch + 1) * self.size), self.labels
        atoms, first_atom = atoms_of(self.first_atom, own)
        jacobian, offsets = labels.jacobian, labels.offsets[own]
        if self._windows is not None:
            jacobian, offsets = self._windows.of_batch(batch)
        targets = ForceBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            labels.forces[atoms],
            self.weights[own].astype(np.float32),
        )
        return ForceLosses(jacobian, targets, gradients, scale)


class ForceLosses:
    """The losses of the forces of a batch. Several threads may compute some structures each.

    Args:
        jacobian: flat.
        batch: of the structures.
        gradients: (n_members, n_atoms, n_features) ∂E/∂G; read when it is computed.
        scale: eV/Å.

    Attributes:
        derivatives: (n_members, n_atoms, n_features) of the losses with respect to the gradients.
        predicted: (n_members, n_atoms, 3) forces, eV/Å, structure after structure.
    """

    def __init__(
        self, jacobian: Float32Array, batch: ForceBatch, gradients: Float32Array, scale: float
    ) -> None:
        self._jacobian, self._batch, self._gradients, self._scale = jacobian, batch, gradients, scale
        self.derivatives = np.empty_like(gradients)
        self.predicted = np.empty((len(gradients), len(batch.targets), 3), np.float32)
        self._results = np.empty((len(batch.offsets), len(gradients), 2))

    def compute(self, structures: slice) -> None:
        """Compute those of consecutive structures."""
        whole = self._batch
        part = whole._replace(
            offsets=whole.offsets[structures],
            first_atom=whole.first_atom[structures.start : structures.stop + 1],
            weights=whole.weights[structures],
        )
        results = self._results[structures]
        force_losses(
            self._jacobian, part, self._gradients, self._scale, self.predicted, self.derivatives, results
        )

    def totals(self) -> FloatArray:
        """(n_members, 2) loss and sum of squared errors of all components, when all is computed."""
        return np.asarray(self._results.sum(axis=0))
