"""Products with a Jacobian that lies on the device, in operations of TensorFlow.

The atoms of a structure are cut into groups of a few, the last one padded, and its Jacobian into tiles: ∂G/∂r of the
features of one group with respect to the positions of another, (n_atoms n_features, 3 n_atoms). A batch gathers its
tiles, multiplies each by the gradients of its first group, for all members at once, and adds the products up by its
second group, to get F = -Jᵀ g; the same tiles are multiplied once more, for -J ∂loss/∂F. Rows of padding are zeros in
J, so they add nothing, whatever they are multiplied by.

Every batch has the same number of tiles and of groups: what it does not need are tiles of zeros that belong to a group
without atoms. Where everything lies is computed on the host, once an epoch. Indices are int64, which TensorFlow keeps
on the device, so nothing waits for the device in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.training import device_memory
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import ForceLabels
from tio2nn.training.device_memory import fill, reserved
from tio2nn.training.force_batches import ForceBatches
from tio2nn.training.padding import counting, placed, places
from tio2nn.wording import counted, size

MOST_PADDING = 1.3
"""Numbers of all tiles, at most, per number of the Jacobian."""

_TILES = (8, 6, 4, 3, 2, 1)  # atoms of a group; those of TiO2 take 1.07 times their own numbers with 8
_ROOM = 1 << 29  # bytes for weights and activations


def tile_of(sizes: IntArray) -> int:
    """Atoms of a group for structures of these sizes (n_structures,): many, with little padding."""
    own = np.sum(sizes.astype(np.float64) ** 2)
    return next(n for n in _TILES if np.sum((-(-sizes // n) * n) ** 2.0) <= MOST_PADDING * own)


class Plan(NamedTuple):
    """Where the batches of an epoch find what they need; the last group of each batch has no atoms.

    Attributes:
        tiles: for each table (n_batches, n) its tiles; together they are those of the batch, (n_batches, n_tiles).
        from_groups, to_groups: (n_batches, n_tiles) the groups whose features are differentiated, and by whose
            positions.
        atoms: (n_batches, n_groups n_atoms) the atoms of each group among those of its batch, as in the gradients; any
            where padded.
        targets: (n_batches, n_groups, 3 n_atoms) forces, eV/Å, zeros where padded.
        weights: (n_batches, n_groups, n_atoms) of the losses.
        rows: (n_batches, n) for each atom of the gradients, its place in the groups; one in the last group without
            forces.
    """

    tiles: Any
    from_groups: Any
    to_groups: Any
    atoms: Any
    targets: Any
    weights: Any
    rows: Any


class ResidentForces:
    """Forces by TensorFlow, on the device on which it is made; as `ForceProducts`, for batches with padding.

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
        order = np.argsort(offsets, kind="stable")
        self._offsets, self._sizes = offsets[order], sizes[order]
        self._n = n = tile_of(sizes)
        self._first = np.concatenate([[0], np.cumsum((-(-self._sizes // n)) ** 2)])  # tile of each structure
        self._at_once = (
            device_memory.MOST_NUMBERS // self._numbers - 1
        )  # tiles of a table, but for one of zeros
        self._tables = self._reserve(max(map(self._largest_batch, parts, batch_sizes)))
        for begin, table in zip(self._edges[:-1].tolist(), self._tables, strict=True):
            self._fill(table, begin, parts[0].jacobian)
        self._forces_of_batch = tf.function(self._forces)

    @property
    def n_bytes(self) -> int:
        """Of the derivatives on the device."""
        return int(4 * self._numbers * (self._first[-1] + len(self._edges) - 1))

    @property
    def _numbers(self) -> int:
        """Of a tile."""
        return 3 * self._n_features * self._n**2

    @property
    def _edges(self) -> IntArray:
        """(n_tables + 1,) where the tiles of each table begin among all."""
        n = int(self._first[-1])
        return np.append(np.arange(0, n, self._at_once), n)

    def _largest_batch(self, labels: ForceLabels, batch_size: int) -> int:
        """Bytes of the derivatives of the largest structures, as many as a batch may have."""
        n_tiles = (-(-labels.n_atoms[labels.has_forces] // self._n)) ** 2
        return int(4 * self._numbers * np.sort(n_tiles)[-batch_size:].sum())

    def _reserve(self, batch_bytes: int) -> list[tf.Variable]:
        """Memory for the tables, with room left for the work on a batch.

        Raises:
            DoesNotFitError: there is not enough.
        """
        what = f"the derivatives of {counted(len(self._offsets), 'structure')}, {size(self.n_bytes)},"
        shape = (self._n * self._n_features, 3 * self._n)
        tables = [reserved((n + 1, *shape), what) for n in np.diff(self._edges).tolist()]
        # gathered, perhaps from several tables, and half as much again for what else is about
        copies = 1.5 if len(tables) == 1 else 2.5
        room = [
            reserved((min(_ROOM, n) // 4,), what) for n in _pieces(int(batch_bytes * copies) + _ROOM, _ROOM)
        ]
        del room
        return tables

    def _fill(self, table: tf.Variable, first: int, jacobian: Float32Array) -> None:
        """Copy the derivatives of all tiles from this one on to the device, as many as a table has."""

        def rows(begin: int, end: int) -> Float32Array:
            begin, end = first + begin, first + end
            found = np.empty((end - begin, *table.shape[1:]), np.float32)
            structure = int(np.searchsorted(self._first, begin, side="right")) - 1
            while self._first[structure] < end:
                own_first = int(self._first[structure])
                own = self._tiles_of(jacobian, structure)
                low, high = max(begin, own_first), min(end, own_first + len(own))
                found[low - begin : high - begin] = own[low - own_first : high - own_first]
                structure += 1
            return found

        fill(table, table.shape[0] - 1, rows)

    def _tiles_of(self, jacobian: Float32Array, structure: int) -> Float32Array:
        """The tiles of a structure, those with the same first group together."""
        n, k, n_features = self._n, int(self._sizes[structure]), self._n_features
        offset, groups = int(self._offsets[structure]), -(-k // n)
        numbers = jacobian[offset : offset + 3 * n_features * k * k].reshape(k, n_features, 3 * k)
        if missing := groups * n - k:
            numbers = np.pad(numbers, ((0, missing), (0, 0), (0, 3 * missing)))
        tiles = numbers.reshape(groups, n * n_features, groups, 3 * n).transpose(0, 2, 1, 3)
        return np.reshape(tiles, (groups * groups, n * n_features, 3 * n))

    def loads(self, labels: ForceLabels) -> IntArray:
        """(n_structures, n_tables + 1) tiles of each table, and groups, that each structure needs in a batch."""
        found = np.zeros((len(labels.offsets), len(self._tables) + 1), np.int64)
        present = np.flatnonzero(labels.has_forces)
        at = np.searchsorted(self._offsets, labels.offsets[present])
        edges = np.clip(self._edges[:, None], self._first[at], self._first[at + 1])
        found[present, :-1] = np.diff(edges, axis=0).T
        found[present, -1] = -(-labels.n_atoms[present] // self._n)
        return found

    def begin(self, batches: Batches) -> Plan:
        """As `ForceProducts.begin`."""
        forces, padding = batches.forces, batches.padding
        assert forces is not None, "there are forces"
        assert padding is not None, "there is room in the batches"
        plan, self._places = self.plan(forces, batches.n, padding.forces, int(padding.atoms.sum()))
        self._batches = forces
        return Plan(
            [tf.constant(own, tf.int64) for own in plan.tiles],
            *(tf.constant(own) for own in plan[1:]),
        )

    def plan(
        self, forces: ForceBatches, n_batches: int, room: IntArray, n_rows: int
    ) -> tuple[Plan, IntArray]:
        """The plan as arrays, and (n_atoms,) the place of each atom in the groups of its batch.

        Args:
            forces: of the batches.
            n_batches: number of them.
            room: most of the `loads` of a batch.
            n_rows: atoms in the gradients of a batch.
        """
        labels, n = forces.labels, self._n
        present = np.flatnonzero(labels.has_forces)
        batch_of, n_atoms = present // forces.size, labels.n_atoms[present]
        found = np.searchsorted(self._offsets, labels.offsets[present])
        n_groups = -(-n_atoms // n)
        room_of_groups = int(room[-1]) + 1
        nowhere = (room_of_groups - 1) * n
        # the groups of structures with forces
        first_group = (
            places(np.repeat(batch_of, n_groups), n_batches, room_of_groups)[np.cumsum(n_groups) - n_groups]
            - batch_of * room_of_groups
        )
        # their atoms
        in_structure = counting(n_atoms)
        atom = np.repeat(forces.first_atom[present], n_atoms) + in_structure
        at = np.repeat(first_group * n, n_atoms) + in_structure
        of_atom = np.repeat(batch_of, n_atoms)
        shape = (n_batches, room_of_groups * n)
        flat = of_atom * shape[1] + at
        weights = np.repeat(forces.weights[present], n_atoms).astype(np.float32)
        rows = np.full((n_batches, n_rows), nowhere)
        rows[of_atom, forces.rows[atom]] = at
        all_places = np.full(len(forces.rows), nowhere)
        all_places[atom] = at
        # their tiles
        n_tiles = n_groups**2
        in_structure = counting(n_tiles)
        of_tile, groups = np.repeat(batch_of, n_tiles), np.repeat(n_groups, n_tiles)
        tile = np.repeat(self._first[found], n_tiles) + in_structure
        ends = [
            np.repeat(first_group, n_tiles) + own for own in (in_structure // groups, in_structure % groups)
        ]
        table_of = tile // self._at_once
        tiles: list[IntArray] = []
        from_groups: list[IntArray] = []
        to_groups: list[IntArray] = []
        for k, own_room in enumerate(room[:-1].tolist()):
            own = table_of == k
            own_at = places(of_tile[own], n_batches, own_room)
            own_shape = (n_batches, own_room)
            zeros = self._tables[k].shape[0] - 1
            tiles.append(placed(tile[own] - self._edges[k], own_at, own_shape, zeros))
            for whole, values in zip((from_groups, to_groups), ends, strict=True):
                whole.append(placed(values[own], own_at, own_shape, room_of_groups - 1))
        plan = Plan(
            tiles,
            np.concatenate(from_groups, axis=1),
            np.concatenate(to_groups, axis=1),
            placed(forces.rows[atom], flat, shape, 0),
            placed(labels.forces[atom], flat, (*shape, 3), 0.0).reshape(n_batches, room_of_groups, 3 * n),
            placed(weights, flat, shape, 0.0).reshape(n_batches, room_of_groups, n),
            rows,
        )
        return plan, all_places

    def losses(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `ForceProducts.losses`."""
        n_members, n, n_features = len(gradients), self._n, self._n_features
        forces, tiles = self._product(given, batch, gradients)
        errors, squares, roots = self._errors(given, batch, forces)
        weights = given.weights[batch][:, None]
        losses = tf.stack(
            [tf.reduce_sum(weights * (roots - 1.0), axis=(0, 2)), tf.reduce_sum(squares, axis=(0, 2))], axis=1
        )
        # with the sign of F = -Jᵀ g
        of_forces = errors * (-weights / (self._scale**2 * roots))[..., None]
        stacked = tf.gather(tf.reshape(of_forces, (-1, n_members, 3 * n)), given.to_groups[batch])
        back = tf.math.unsorted_segment_sum(
            tf.matmul(stacked, tiles, transpose_b=True), given.from_groups[batch], of_forces.shape[0]
        )
        of_atoms = tf.reshape(
            tf.transpose(tf.reshape(back, (-1, n_members, n, n_features)), (1, 0, 2, 3)),
            (n_members, -1, n_features),
        )
        return losses, tf.unstack(tf.gather(of_atoms, given.rows[batch], axis=1))

    def predict(
        self, given: Plan, batch: int, gradients: Sequence[tf.Tensor]
    ) -> tuple[FloatArray, Float32Array]:
        """As `ForceProducts.predict`."""
        losses, found = self._forces_of_batch(given, tf.constant(batch), list(gradients))
        first = self._batches.first_atom
        own = slice(*first[np.minimum(np.array([batch, batch + 1]) * self._batches.size, len(first) - 1)])
        return losses.numpy().astype(np.float64), found.numpy()[:, self._places[own]]

    def _forces(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Losses (n_members,) and forces (n_members, n_groups n_atoms, 3) of a batch."""
        forces, _ = self._product(given, batch, gradients)
        _, _, roots = self._errors(given, batch, forces)
        losses = tf.reduce_sum(given.weights[batch][:, None] * (roots - 1.0), axis=(0, 2))
        return losses, tf.reshape(tf.transpose(forces, (1, 0, 2, 3)), (len(gradients), -1, 3))

    def _errors(
        self, given: Plan, batch: tf.Tensor, forces: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Errors (n_groups, n_members, n_atoms, 3), and without the last axis their squares and roots in the loss."""
        errors = forces - tf.reshape(given.targets[batch], (-1, 1, self._n, 3))
        squares = tf.reduce_sum(errors * errors, axis=-1)
        return errors, squares, tf.sqrt(1.0 + squares / self._scale**2)

    def _product(
        self, given: Plan, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Forces (n_groups, n_members, n_atoms, 3) of a batch, and its tiles."""
        n_members, n, n_features = len(gradients), self._n, self._n_features
        gathered = [
            tf.gather(table, own[batch]) for table, own in zip(self._tables, given.tiles, strict=True)
        ]
        tiles = gathered[0] if len(gathered) == 1 else tf.concat(gathered, axis=0)
        # with the sign of F = -Jᵀ g
        of_atoms = -tf.gather(tf.stack(gradients, axis=1), given.atoms[batch])
        of_groups = tf.transpose(tf.reshape(of_atoms, (-1, n, n_members, n_features)), (0, 2, 1, 3))
        stacked = tf.gather(tf.reshape(of_groups, (-1, n_members, n * n_features)), given.from_groups[batch])
        forces = tf.math.unsorted_segment_sum(
            tf.matmul(stacked, tiles), given.to_groups[batch], given.weights.shape[1]
        )
        return tf.reshape(forces, (-1, n_members, n, 3)), tiles

    def close(self) -> None:
        """It has no threads."""


def _pieces(whole: int, most: int) -> list[int]:
    """Sizes of pieces of at most this size."""
    return [min(most, whole - begin) for begin in range(0, whole, most)]
