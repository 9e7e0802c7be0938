"""The stresses of structures in the order of batches."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training.dataset import StressLabels
from tio2nn.training.places import Places, atoms_of
from tio2nn.training.stress_kernels import StressBatch, stress_losses
from tio2nn.training.windows import Windows


class StressBatches:
    """The stresses of structures in the order of batches.

    Args:
        labels: in that order.
        counts: (n_structures, n_subnets)
        size: structures of a batch.
        weights: (n_structures,) of the losses, divided by the structures with a stress of a batch on average.
        windows: of the derivatives; None to use them where they lie.
        room: (n_subnets,) as for `Places.of`.

    Attributes:
        labels, size, weights: as above.
        rows, first_atom: as in `Places`.
    """

    def __init__(
        self,
        labels: StressLabels,
        counts: IntArray,
        size: int,
        weights: FloatArray,
        windows: Windows | None = None,
        room: IntArray | None = None,
    ) -> None:
        self.labels, self.size, self.weights, self._windows = labels, size, weights, windows
        self.rows, self.first_atom = Places.of(labels.subnets, labels.n_atoms, counts, size, room)

    def of_batch(self, batch: int, gradients: Float32Array, scale: float) -> StressLosses:
        """As `ForceBatches.of_batch`, of the stresses; `scale` in eV/atom."""
        own, labels = slice(batch * self.size, (batch + 1) * self.size), self.labels
        atoms, first_atom = atoms_of(self.first_atom, own)
        strains, offsets = labels.strains, labels.offsets[own]
        if self._windows is not None:
            strains, offsets = self._windows.of_batch(batch)
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


class StressLosses:
    """As `ForceLosses`, of the stresses.

    Args:
        strains: derivatives with respect to strain, flat.
        batch: of the structures.
        gradients: (n_members, n_atoms, n_features) ∂E/∂G; read when it is computed.
        scale: eV/atom.

    Attributes:
        derivatives: (n_members, n_atoms, n_features) of the losses with respect to the gradients.
        predicted: (n_members, n_structures, 6) stresses, eV/Å³.
    """

    def __init__(
        self, strains: Float32Array, batch: StressBatch, gradients: Float32Array, scale: float
    ) -> None:
        self._strains, self._batch, self._gradients, self._scale = strains, batch, gradients, scale
        self.derivatives = np.empty_like(gradients)
        self.predicted = np.empty((len(gradients), len(batch.offsets), 6), np.float32)
        self._results = np.empty((len(batch.offsets), len(gradients), 2))

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

    def totals(self) -> FloatArray:
        """(n_members, 2) loss and sum of squared errors of all components, when all is computed."""
        return np.asarray(self._results.sum(axis=0))
