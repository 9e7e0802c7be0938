"""Products with a Jacobian that lies on the device, in operations of TensorFlow.

Structures of about one size form a block, (n_structures, N n_features, 3 N) with the N atoms of the largest. A batch
gathers its structures from each block and multiplies each by the gradients of all members at once, to get F = -Jᵀ g;
errors and losses are computed for all blocks together, and the gathered structures are multiplied once more, for
-J ∂loss/∂F. Rows of padding are zeros in J, so they add nothing, whatever they are multiplied by.

Where structures lie and where blocks begin is computed on the host, once an epoch. What shapes depend on is int32,
which TensorFlow keeps on the host for every device; indices are int64, which it keeps on the device. So nothing waits
for the device in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.training.batches import Batches, ForceBatches
from tio2nn.training.dataset import ForceLabels
from tio2nn.wording import counted, size

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_PADDING = 1.3
"""Numbers of a structure in its block, at most, per number of its own."""

_MOST_NUMBERS = 2**31 - 1  # of a block: kernels of TensorFlow count in 32 bits
_PIECE = 1 << 24  # numbers that are copied to the device at a time
_ROOM = 1 << 29  # bytes for weights, features and activations


class DoesNotFitError(Exception):
    """The derivatives do not fit on the device; the message says how large they are."""


class Block(NamedTuple):
    """Structures that lie together.

    Attributes:
        n_atoms: of each, with padding.
        offsets: (n_structures,) where each begins in the Jacobian, ascending.
        sizes: (n_structures,) atoms of each.
    """

    n_atoms: int
    offsets: IntArray
    sizes: IntArray


def blocks_of(offsets: IntArray, sizes: IntArray, n_features: int) -> list[Block]:
    """Few blocks in which no structure takes more than `MOST_PADDING` times its own numbers.

    Args:
        offsets: (n_structures,) where each begins in the Jacobian.
        sizes: (n_structures,) atoms of each.
        n_features: of an atom.

    Raises:
        DoesNotFitError: a structure is too large for any block.
    """
    found = []
    left = np.argsort(offsets, kind="stable")
    while len(left):
        n = int(sizes[left].max())
        largest = _MOST_NUMBERS // (3 * n_features * n * n)
        if not largest:
            raise DoesNotFitError(f"the derivatives of a structure of {n} atoms are too large for the GPU")
        fits = n * n <= MOST_PADDING * sizes[left].astype(np.float64) ** 2
        own, left = left[fits], left[~fits]
        for begin in range(0, len(own), largest):
            part = own[begin : begin + largest]
            found.append(Block(n, offsets[part], sizes[part]))
    return found


class Plan(NamedTuple):
    """Where the batches of an epoch find what they need. Rows are those of padded structures, block after block.

    Attributes:
        slots: (n_structures,) place of each structure with forces in its block.
        atoms: (n_rows,) the atom of each row among those of its batch, as in the gradients; any where padded.
        targets: (n_rows, 3) forces, eV/Å, zeros where padded.
        weights: (n_rows,) of the losses.
        rows: (n_atoms,) the row of each atom, in the order of the gradients; one after the last without forces.
        slot_edges: (n_batches, n_blocks + 1) where the structures of each block begin in `slots`.
        row_edges, atom_edges: (n_batches + 1,) where those of each batch begin.
    """

    slots: Any
    atoms: Any
    targets: Any
    weights: Any
    rows: Any
    slot_edges: Any
    row_edges: Any
    atom_edges: Any


class ResidentForces:
    """Forces by TensorFlow, on the device on which it is made; as `ForceProducts`.

    Args:
        parts: labels of the training and validation sets.
        batch_sizes: most structures of a batch, of each part.
        n_features: of an atom.
        scale: error at which the loss turns linear, eV/Å.

    Raises:
        DoesNotFitError: not enough memory on the device.
    """

    def __init__(
        self, parts: Sequence[ForceLabels], batch_sizes: Sequence[int], n_features: int, scale: float
    ) -> None:
        self._scale, self._n_features = scale, n_features
        offsets = np.concatenate([part.offsets[part.has_forces] for part in parts])
        sizes = np.concatenate([part.n_atoms[part.has_forces] for part in parts])
        self._blocks = blocks_of(offsets, sizes, n_features)
        # where each structure lies, in the order of offsets
        all_offsets = np.concatenate([block.offsets for block in self._blocks])
        order = np.argsort(all_offsets)
        lengths = [len(block.offsets) for block in self._blocks]
        self._offsets = all_offsets[order]
        self._block_of = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._slot_of = np.concatenate([np.arange(n) for n in lengths])[order]
        self._widths = np.array([block.n_atoms for block in self._blocks])
        self._tensors = self._reserve(max(map(self._largest_batch, parts, batch_sizes)))
        for tensor, block in zip(self._tensors, self._blocks, strict=True):
            self._fill(tensor, block, parts[0].jacobian)
        self._forces_of_batch = tf.function(self._forces, reduce_retracing=True)

    @property
    def n_bytes(self) -> int:
        """Of the derivatives on the device."""
        return sum(4 * len(block.offsets) * self._numbers(block.n_atoms) for block in self._blocks)

    def _numbers(self, n_atoms: Any) -> Any:
        return 3 * self._n_features * n_atoms * n_atoms

    def _largest_batch(self, labels: ForceLabels, batch_size: int) -> int:
        """Bytes of the derivatives of the largest structures, as many as a batch may have."""
        found = np.searchsorted(self._offsets, labels.offsets[labels.has_forces])
        widths = np.sort(self._widths[self._block_of[found]])[-batch_size:]
        return int(4 * self._numbers(widths.astype(np.int64)).sum())

    def _reserve(self, batch_bytes: int) -> list[tf.Variable]:
        """Memory for the blocks, with room left for the work on a batch.

        Raises:
            DoesNotFitError: there is not enough.
        """
        try:
            tensors = [
                tf.Variable(_zeros((len(b.offsets), b.n_atoms * self._n_features, 3 * b.n_atoms)))
                for b in self._blocks
            ]
            # gathered, and half as much again for what else is about
            room = [_zeros((min(_ROOM, n) // 4,)) for n in _pieces(batch_bytes * 3 // 2 + _ROOM, _ROOM)]
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise DoesNotFitError(
                f"the derivatives of {counted(len(self._offsets), 'structure')}, {size(self.n_bytes)}, "
                "do not fit on the GPU"
            ) from None
        del room
        return tensors

    def _fill(self, tensor: tf.Variable, block: Block, jacobian: Float32Array) -> None:
        """Copy the derivatives of a block to the device."""
        n, n_features = block.n_atoms, self._n_features
        at_once = max(1, _PIECE // self._numbers(n))
        for begin in range(0, len(block.offsets), at_once):
            own = slice(begin, begin + at_once)
            # a new one for each piece: TensorFlow may still be reading the last one
            piece = np.zeros((len(block.offsets[own]), n, n_features, n, 3), np.float32)
            for one, offset, k in zip(
                piece, block.offsets[own].tolist(), block.sizes[own].tolist(), strict=True
            ):
                numbers = jacobian[offset : offset + self._numbers(k)]
                one[:k, :, :k] = numbers.reshape(k, n_features, k, 3)
            # unlike `tensor[...].assign`, it does not read first
            tf.raw_ops.ResourceStridedSliceAssign(
                ref=tensor.handle,
                begin=[begin],
                end=[begin + len(piece)],
                strides=[1],
                value=piece.reshape(len(piece), n * n_features, 3 * n),
            )

    def begin(self, batches: Batches) -> Plan:
        """As `ForceProducts.begin`."""
        forces = batches.forces
        assert forces is not None, "there are forces"
        plan = self.plan(forces, batches.n)
        indices = [tf.constant(array, tf.int64) for array in (plan.slots, plan.atoms, plan.rows)]
        edges = [tf.constant(array, tf.int32) for array in plan[-3:]]
        self._plan, self._batches = plan, forces
        return Plan(
            indices[0],
            indices[1],
            tf.constant(plan.targets, tf.float32),
            tf.constant(plan.weights, tf.float32),
            indices[2],
            *edges,
        )

    def plan(self, forces: ForceBatches, n_batches: int) -> Plan:
        """The plan as arrays."""
        labels = forces.labels
        n_blocks = len(self._blocks)
        batch_of = np.arange(len(labels.offsets)) // forces.size
        present = np.flatnonzero(labels.has_forces)
        found = np.searchsorted(self._offsets, labels.offsets[present])
        blocks = self._block_of[found]
        order = np.lexsort((blocks, batch_of[present]))  # stable
        present, found, blocks = present[order], found[order], blocks[order]
        in_block = np.zeros((n_batches, n_blocks), np.int64)
        np.add.at(in_block, (batch_of[present], blocks), 1)
        slot_edges = np.zeros((n_batches, n_blocks + 1), np.int64)
        slot_edges[:, 1:] = np.cumsum(in_block.ravel()).reshape(in_block.shape)
        slot_edges[1:, 0] = slot_edges[:-1, -1]
        row_edges = np.concatenate([[0], np.cumsum((in_block * self._widths).sum(axis=1))])
        atom_edges = forces.first_atom[np.minimum(np.arange(n_batches + 1) * forces.size, len(batch_of))]
        # the row of each atom of a structure with forces
        widths, n_atoms = self._widths[blocks], labels.n_atoms[present]
        first_row = np.cumsum(widths) - widths
        in_structure = np.arange(n_atoms.sum()) - np.repeat(np.cumsum(n_atoms) - n_atoms, n_atoms)
        row = np.repeat(first_row, n_atoms) + in_structure
        atom = np.repeat(forces.first_atom[present], n_atoms) + in_structure
        batch = np.repeat(batch_of[present], n_atoms)
        n_rows = int(row_edges[-1])
        atoms, targets = np.zeros(n_rows, np.int64), np.zeros((n_rows, 3), np.float32)
        weights = np.zeros(n_rows, np.float32)
        atoms[row] = forces.rows[atom]
        targets[row] = labels.forces[atom]
        weights[row] = np.repeat(forces.weights[present], n_atoms)
        rows = np.repeat(np.diff(row_edges), np.diff(atom_edges))
        rows[atom_edges[batch] + forces.rows[atom]] = row - row_edges[batch]
        return Plan(self._slot_of[found], atoms, targets, weights, rows, slot_edges, row_edges, atom_edges)

    def losses(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `ForceProducts.losses`."""
        n_members, own = len(gradients), self._rows(given, batch)
        forces, gathered = self._product(given, batch, gradients)
        errors = forces - given.targets[own]
        squares = tf.reduce_sum(errors * errors, axis=-1)
        roots = tf.sqrt(1.0 + squares / self._scale**2)
        weights = given.weights[own]
        losses = tf.stack(
            [tf.reduce_sum(weights * (roots - 1.0), axis=1), tf.reduce_sum(squares, axis=1)], axis=1
        )
        # with the sign of F = -Jᵀ g
        of_forces = errors * (-weights / (self._scale**2 * roots))[..., None]
        parts = []
        for part, jacobian, width in self._by_block(given, batch, of_forces, gathered):
            stacked = tf.transpose(tf.reshape(part, (n_members, -1, 3 * width)), (1, 0, 2))
            back = tf.transpose(tf.matmul(stacked, jacobian, transpose_b=True), (1, 0, 2))
            parts.append(tf.reshape(back, (n_members, tf.shape(part)[1], self._n_features)))
        # one more row, of the atoms without forces
        parts.append(tf.zeros((n_members, 1, self._n_features)))
        rows = given.rows[given.atom_edges[batch] : given.atom_edges[batch + 1]]
        derivatives = tf.gather(tf.concat(parts, axis=1), rows, axis=1)
        derivatives.set_shape((n_members, *gradients[0].shape))
        return losses, tf.unstack(derivatives)

    def predict(
        self, given: Plan, batch: int, gradients: Sequence[tf.Tensor]
    ) -> tuple[FloatArray, Float32Array]:
        """As `ForceProducts.predict`."""
        losses, padded = self._forces_of_batch(given, tf.constant(batch), list(gradients))
        found = np.pad(padded.numpy(), ((0, 0), (0, 1), (0, 0)))
        own = slice(*self._plan.atom_edges[batch : batch + 2].tolist())
        return losses.numpy().astype(np.float64), found[:, self._plan.rows[own][self._batches.rows[own]]]

    def _forces(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Losses (n_members,) and forces (n_members, n_rows, 3) of a batch."""
        own = self._rows(given, batch)
        forces, _ = self._product(given, batch, gradients)
        squares = tf.reduce_sum((forces - given.targets[own]) ** 2, axis=-1)
        roots = tf.sqrt(1.0 + squares / self._scale**2)
        return tf.reduce_sum(given.weights[own] * (roots - 1.0), axis=1), forces

    def _product(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Forces (n_members, n_rows, 3) of a batch, and its derivatives, gathered from each block."""
        n_members = len(gradients)
        edges = given.slot_edges[batch]
        gathered = [
            tf.gather(tensor, given.slots[edges[k] : edges[k + 1]]) for k, tensor in enumerate(self._tensors)
        ]
        # with the sign of F = -Jᵀ g, once for all blocks
        padded = -tf.gather(tf.stack(gradients), given.atoms[self._rows(given, batch)], axis=1)
        parts = []
        for part, jacobian, width in self._by_block(given, batch, padded, gathered):
            stacked = tf.transpose(
                tf.reshape(part, (n_members, -1, width * self._n_features)), (1, 0, 2)
            )  # structures first
            forces = tf.transpose(tf.matmul(stacked, jacobian), (1, 0, 2))
            parts.append(tf.reshape(forces, (n_members, tf.shape(part)[1], 3)))
        return tf.concat(parts, axis=1), gathered

    def _rows(self, given: Plan, batch: tf.Tensor) -> Any:
        return slice(given.row_edges[batch], given.row_edges[batch + 1])

    def _by_block(self, given: Plan, batch: tf.Tensor, rows: tf.Tensor, gathered: list[tf.Tensor]) -> Any:
        """The part of the rows (n_members, n_rows, ...) of each block, with its derivatives and padded atoms."""
        edges = given.slot_edges[batch]
        lengths = (edges[1:] - edges[:-1]) * tf.constant(self._widths, tf.int32)
        parts = tf.split(rows, lengths, axis=1, num=len(gathered))
        return zip(parts, gathered, self._widths.tolist(), strict=True)

    def close(self) -> None:
        """It has no threads."""


def _zeros(shape: tuple[int, ...]) -> tf.Tensor:
    return tf.zeros(shape, tf.float32)


def _pieces(whole: int, most: int) -> list[int]:
    """Sizes of pieces of at most this size."""
    return [min(most, whole - begin) for begin in range(0, whole, most)]
