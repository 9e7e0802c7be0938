"""Structures in the order of an epoch, cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.training.dataset import AtomTable, FitData, ForceLabels, Labels
from tio2nn.training.force_kernels import ForceBatch, force_losses
from tio2nn.training.windows import WindowReader, Windows, in_turn, mixed

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The training or validation set.

    Attributes:
        table, labels: of its structures.
        forces: None for energies alone.
    """

    table: AtomTable
    labels: Labels
    forces: ForceLabels | None

    def __len__(self) -> int:
        return len(self.table.counts)

    def without_forces(self, left_out: NDArray[np.bool_]) -> Part:
        """The part with the forces of some structures (n_structures,) left out."""
        assert self.forces is not None, "there are forces"
        offsets = np.where(left_out, -1, self.forces.offsets)
        return replace(self, forces=replace(self.forces, offsets=offsets))


class Batches:
    """The structures of a part in an order. The atoms are gathered once, so each batch is a slice.

    Args:
        part: the structures.
        order: (n_structures,) of them.
        size: structures of a batch; the last one is padded with structures without atoms and weight.
        reader: of the derivatives, if they are read window by window.
        first_batches: (n_windows + 1,) where each window begins, and the number of batches; None for windows of
            about equal size.

    Attributes:
        n: number of batches.
        size: as above.
        n_structures: number of structures.
        features: for each subnet (n_atoms of it, n_features).
        segments: for each subnet (n_atoms of it,) the place of each atom's structure in its batch.
        edges: (n_batches + 1, n_subnets) where the atoms of each batch begin.
        energies, n_atoms, weights: (n_batches, size) of the structures.
        forces: None for energies alone.
    """

    def __init__(
        self,
        part: Part,
        order: IntArray,
        size: int,
        reader: WindowReader | None = None,
        first_batches: IntArray | None = None,
    ) -> None:
        self.n, self.size, self.n_structures = -(-len(order) // size), size, len(order)
        shape, fill = (self.n, size), (0, self.n * size - len(order))
        table, labels = part.table, part.labels
        counts = table.counts[order]
        in_batch = np.pad(counts, (fill, (0, 0))).reshape(*shape, -1).sum(axis=1)
        self._edges = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(in_batch, axis=0)])
        # one subnet at a time, to save memory
        self.features = [tf.constant(own[table.rows(k, order)]) for k, own in enumerate(table.features)]
        # int64, because TensorFlow keeps int32 on the host, where edges belong, whatever the device
        owners = np.arange(len(order)) % size
        self.segments = [tf.constant(np.repeat(owners, own)) for own in counts.T]
        self.edges = tf.constant(self._edges, tf.int32)
        self.energies, self.n_atoms, self.weights = (
            tf.constant(column.reshape(shape), tf.float32)
            for column in (
                np.pad(labels.energies[order], fill),
                np.pad(table.n_atoms[order], fill, constant_values=1),
                np.pad(labels.weights[order], fill),
            )
        )
        self.forces = None
        if part.forces is not None:
            own = part.forces.select(order)
            windows = None
            if reader is not None:
                windows = _windows(own, size, reader, first_batches)
            self.forces = ForceBatches(own, counts, size, labels.weights[order], windows)

    def atoms(self, batch: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Features and segments of the atoms of one batch."""
        ranges = list(zip(self._edges[batch].tolist(), self._edges[batch + 1].tolist(), strict=True))
        return (
            [part[begin:end] for part, (begin, end) in zip(self.features, ranges, strict=True)],
            [part[begin:end] for part, (begin, end) in zip(self.segments, ranges, strict=True)],
        )


def reader_of(data: FitData) -> WindowReader | None:
    """Reads the derivatives, if they are read window by window; close it at the end."""
    if data.train_forces is None or data.train_forces.window is None or data.derivatives_file is None:
        return None
    return WindowReader(data.derivatives_file, data.train_forces.window.kept)


def shuffled(part: Part, size: int, random: np.random.Generator, reader: WindowReader | None) -> Batches:
    """All structures in an order that is drawn; within windows, if there is a reader."""
    if reader is None or part.forces is None or part.forces.window is None:
        return Batches(part, random.permutation(len(part)), size)
    window = part.forces.window
    plan = mixed(part.forces.sizes(window.n_features), size, window.capacity, random)
    return Batches(part, plan.order, size, reader, plan.first_batches)


def _windows(labels: ForceLabels, size: int, reader: WindowReader, first_batches: IntArray | None) -> Windows:
    """The windows of structures in the order of batches."""
    assert labels.window is not None, "derivatives are read in windows"
    sizes = labels.sizes(labels.window.n_features)
    if first_batches is None:
        first_batches = in_turn(sizes, size, labels.window.capacity)
    return Windows(reader, labels.offsets, sizes, size, first_batches)


class ForceBatches:
    """The forces of structures in the order of batches.

    Args:
        labels: in that order.
        counts: (n_structures, n_subnets)
        size: structures of a batch.
        weights: (n_structures,) of the losses.
        windows: of the derivatives; None to use them where they lie.

    Attributes:
        labels, size: as above.
        rows: (n_atoms,) the place of each atom among those of its batch, subnet after subnet.
        first_atom: (n_structures + 1,) where the atoms of each structure begin.
        weights: (n_structures,) of the losses, divided by the atoms with forces of a batch on average.
        n_components: of all forces.
    """

    def __init__(
        self,
        labels: ForceLabels,
        counts: IntArray,
        size: int,
        weights: FloatArray,
        windows: Windows | None = None,
    ) -> None:
        self.labels, self.size, self._windows = labels, size, windows
        batch_of_structure = np.arange(len(counts)) // size
        in_batch = np.zeros((int(batch_of_structure[-1]) + 1, counts.shape[1]), np.int64)
        np.add.at(in_batch, batch_of_structure, counts)
        first_of_batch = np.cumsum(in_batch, axis=0) - in_batch  # among all atoms of a subnet
        first_of_subnet = np.cumsum(in_batch, axis=1) - in_batch  # among the rows of a batch
        batch = np.repeat(batch_of_structure, labels.n_atoms)
        self.rows = np.empty(len(batch), np.int64)
        for k in range(counts.shape[1]):
            own = labels.subnets == k
            rank = np.arange(np.count_nonzero(own))
            self.rows[own] = rank - first_of_batch[batch[own], k] + first_of_subnet[batch[own], k]
        self.first_atom = np.concatenate([[0], np.cumsum(labels.n_atoms)])
        # The loss of a batch is the sum over its atoms with forces divided by those of a full batch on average, so that
        # atoms count alike in batches with few of them. The mean of the losses of all full batches is then the mean
        # loss of an atom.
        n_labelled = int(labels.n_atoms[labels.has_forces].sum())
        self.weights = weights / max(1.0, n_labelled * size / len(counts))
        self.n_components = 3 * n_labelled

    def product(
        self,
        batch: int,
        gradients: Float32Array,
        scale: float,
        pieces: int = 1,
        share: Callable[[Callable[[IntArray], None], Sequence[IntArray]], Iterable[None]] = map,
    ) -> tuple[FloatArray, Float32Array, Float32Array]:
        """Losses of the forces of one batch, and their derivatives; the bits do not depend on `pieces`.

        Args:
            batch: its number.
            gradients: (n_members, n_atoms of the batch, n_features) ∂E/∂G, subnet after subnet.
            scale: error at which the loss turns linear, eV/Å.
            pieces: number of pieces in which `share` gets the work, to give it to several threads.
            share: as `map`.

        Returns:
            (n_members, 2) loss and sum of squared errors of all components; its derivatives with respect to the
            gradients; forces (n_members, n_atoms of the batch, 3), structure after structure.
        """
        own, labels = slice(batch * self.size, (batch + 1) * self.size), self.labels
        first_atom = self.first_atom[own.start : own.stop + 1]
        atoms = slice(int(first_atom[0]), int(first_atom[-1]))
        first_atom = first_atom - first_atom[0]
        jacobian, offsets = labels.jacobian, labels.offsets[own]
        if self._windows is not None:
            jacobian, offsets = self._windows.of_batch(batch)
        whole = ForceBatch(
            offsets,
            first_atom,
            self.rows[atoms],
            labels.forces[atoms],
            self.weights[own].astype(np.float32),
        )
        forces = np.empty((len(gradients), atoms.stop - atoms.start, 3), np.float32)
        derivatives = np.empty_like(gradients)
        results = np.empty((len(whole.offsets), len(gradients), 2))

        def compute(some: IntArray) -> None:
            part = slice(int(some[0]), int(some[-1]) + 1)
            batch_of_part = whole._replace(
                offsets=whole.offsets[part],
                first_atom=first_atom[part.start : part.stop + 1],
                weights=whole.weights[part],
            )
            force_losses(jacobian, batch_of_part, gradients, scale, forces, derivatives, results[part])

        n = len(whole.offsets)
        for _ in share(compute, np.array_split(np.arange(n), min(pieces, n))):
            pass
        return results.sum(axis=0), derivatives, forces
