"""The stresses of structures in the order of batches."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.training.dataset import StressLabels
from tio2nn.training.label_batches import LabelBatches, LabelLosses
from tio2nn.training.stress_kernels import StressBatch, stress_losses


class StressBatches(LabelBatches[StressLabels]):
    """The stresses of structures in the order of batches."""

    def of_batch(self, batch: int, gradients: Float32Array, scale: float) -> StressLosses:
        """As `ForceBatches.of_batch`, of the stresses; `scale` in eV/atom."""
        own, labels = self._structures(batch), self.labels
        atoms, first_atom = self._atoms(batch)
        strains, offsets = self._derivatives(batch, labels.strains)
        densities = labels.n_atoms[own] / labels.volumes[own]
        targets = StressBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            (labels.stresses[own] / densities[:, None]).astype(np.float32),
            densities.astype(np.float32),
            self.weights[own].astype(np.float32),
        )
        return StressLosses(strains, targets, gradients, scale)


class StressLosses(LabelLosses):
    """The losses of the stresses of a batch.

    Args:
        strains: derivatives with respect to strain, flat.
        batch: of the structures.
        gradients: as for `LabelLosses`.
        scale: eV/atom.

    Attributes:
        derivatives: as in `LabelLosses`.
        predicted: (n_members, n_structures, 6) stresses, eV/Å³.
    """

    def __init__(
        self, strains: Float32Array, batch: StressBatch, gradients: Float32Array, scale: float
    ) -> None:
        super().__init__(gradients, len(batch.offsets))
        self._strains, self._batch, self._scale = strains, batch, scale
        self.predicted = np.empty((len(gradients), len(batch.offsets), 6), np.float32)

    def compute(self, structures: slice) -> None:
        """Compute those of consecutive structures."""
        whole = self._batch
        part = whole._replace(
            offsets=whole.offsets[structures],
            first_atom=whole.first_atom[structures.start : structures.stop + 1],
            targets=whole.targets[structures],
            densities=whole.densities[structures],
            weights=whole.weights[structures],
        )
        # the compiled loop takes whole arrays
        found = np.empty((len(self.predicted), len(part.offsets), 6), np.float32)
        results = self._results[structures]
        stress_losses(self._strains, part, self._gradients, self._scale, found, self.derivatives, results)
        self.predicted[:, structures] = found
