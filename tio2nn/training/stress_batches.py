"""The stresses of structures in the order of batches."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training.dataset import StressLabels
from tio2nn.training.places import Places, Share, atoms_of, in_pieces
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

    def product(
        self,
        batch: int,
        gradients: Float32Array,
        scale: float,
        pieces: int = 1,
        share: Share = map,
    ) -> tuple[FloatArray, Float32Array, Float32Array]:
        """As `ForceBatches.product`, of the stresses; `scale` in eV/atom.

        Returns:
            (n_members, 2) loss and sum of squared errors of all components; its derivatives with respect to the
            gradients; stresses (n_members, n_structures of the batch, 6), eV/Å³.
        """
        own, labels = slice(batch * self.size, (batch + 1) * self.size), self.labels
        atoms, first_atom = atoms_of(self.first_atom, own)
        strains, offsets = labels.strains, labels.offsets[own]
        if self._windows is not None:
            strains, offsets = self._windows.of_batch(batch)
        densities = labels.n_atoms[own] / labels.volumes[own]
        whole = StressBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            (labels.stresses[own] / densities[:, None]).astype(np.float32),
            densities.astype(np.float32),
            self.weights[own].astype(np.float32),
        )
        stresses = np.empty((len(gradients), len(offsets), 6), np.float32)
        derivatives = np.empty_like(gradients)
        results = np.empty((len(offsets), len(gradients), 2))

        def compute(some: IntArray) -> None:
            part = slice(int(some[0]), int(some[-1]) + 1)
            of_part = whole._replace(
                offsets=whole.offsets[part],
                first_atom=first_atom[part.start : part.stop + 1],
                targets=whole.targets[part],
                densities=whole.densities[part],
                weights=whole.weights[part],
            )
            found = np.empty((len(gradients), len(some), 6), np.float32)
            stress_losses(strains, of_part, gradients, scale, found, derivatives, results[part])
            stresses[:, part] = found

        in_pieces(len(whole.offsets), pieces, share, compute)
        return results.sum(axis=0), derivatives, stresses
