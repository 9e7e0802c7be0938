"""What forces and stresses of structures have in common: their places in batches, and their losses."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training.dataset import ForceLabels, StressLabels
from tio2nn.training.places import Places, atoms_of
from tio2nn.training.windows import Windows

OwnLabels = TypeVar("OwnLabels", ForceLabels, StressLabels)


class LabelBatches(Generic[OwnLabels]):
    """Labels of structures in the order of batches.

    Args:
        labels: in that order.
        counts: (n_structures, n_subnets)
        size: structures of a batch.
        weights: (n_structures,) of the losses, divided by what has such labels in a batch on average: atoms with
            forces, or structures with a stress.
        windows: of the derivatives; None to use them where they lie.
        room: (n_subnets,) as for `Places.of`.

    Attributes:
        labels, size, weights: as above.
        rows, first_atom: as in `Places`.
    """

    def __init__(
        self,
        labels: OwnLabels,
        counts: IntArray,
        size: int,
        weights: FloatArray,
        windows: Windows | None = None,
        room: IntArray | None = None,
    ) -> None:
        self.labels: OwnLabels = labels
        self.size, self.weights, self._windows = size, weights, windows
        self.rows, self.first_atom = Places.of(labels.subnets, labels.n_atoms, counts, size, room)

    def _structures(self, batch: int) -> slice:
        return slice(batch * self.size, (batch + 1) * self.size)

    def _atoms(self, batch: int) -> tuple[slice, IntArray]:
        """As `atoms_of`, of the structures of a batch."""
        return atoms_of(self.first_atom, self._structures(batch))

    def _derivatives(self, batch: int, mapped: Float32Array) -> tuple[Float32Array, IntArray]:
        """The derivatives of a batch, flat, and (n_structures,) where those of each structure begin."""
        if self._windows is not None:
            return self._windows.of_batch(batch)
        return mapped, self.labels.offsets[self._structures(batch)]


class LabelLosses:
    """The losses of a batch. Several threads may compute some structures each.

    Args:
        gradients: (n_members, n_atoms, n_features) ∂E/∂G; read when it is computed.
        n_structures: of the batch.

    Attributes:
        derivatives: (n_members, n_atoms, n_features) of the losses with respect to the gradients.
    """

    def __init__(self, gradients: Float32Array, n_structures: int) -> None:
        self._gradients = gradients
        self.derivatives = np.empty_like(gradients)
        self._results = np.empty((n_structures, len(gradients), 2))

    def totals(self) -> FloatArray:
        """(n_members, 2) loss and sum of squared errors of all components, when all is computed."""
        return np.asarray(self._results.sum(axis=0))
