"""The forces of structures in the order of batches."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.training.dataset import ForceLabels
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.label_batches import LabelBatches, LabelLosses


class ForceBatches(LabelBatches[ForceLabels]):
    """The forces of structures in the order of batches."""

    def of_batch(self, batch: int, gradients: Float32Array, scale: float) -> ForceLosses:
        """Those of one batch, not computed yet.

        Args:
            batch: its number.
            gradients: (n_members, n_atoms of the batch, n_features) ∂E/∂G, subnet after subnet.
            scale: error at which the loss turns linear, eV/Å.
        """
        atoms, first_atom = self._atoms(batch)
        jacobian, offsets = self._derivatives(batch, self.labels.jacobian)
        targets = ForceBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            self.labels.forces[atoms],
            self.weights[self._structures(batch)].astype(np.float32),
        )
        return ForceLosses(jacobian, targets, gradients, scale)


class ForceLosses(LabelLosses):
    """The losses of the forces of a batch.

    Args:
        jacobian: flat.
        batch: of the structures.
        gradients: as for `LabelLosses`.
        scale: eV/Å.

    Attributes:
        derivatives: as in `LabelLosses`.
        predicted: (n_members, n_atoms, 3) forces, eV/Å, structure after structure.
    """

    def __init__(
        self, jacobian: Float32Array, batch: ForceBatch, gradients: Float32Array, scale: float
    ) -> None:
        super().__init__(gradients, len(batch.offsets))
        self._jacobian, self._batch, self._scale = jacobian, batch, scale
        self.predicted = np.empty((len(gradients), len(batch.targets), 3), np.float32)

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
