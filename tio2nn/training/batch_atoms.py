"""The atoms of the batches of an epoch on a GPU, in a graph of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tio2nn.array_types import IntArray
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.padding import Padding, placed, places


class BatchAtoms(NamedTuple):
    """Where the graph finds the atoms of each batch.

    Attributes:
        features: for each subnet those of the part, and a row of zeros.
        rows: for each subnet the rows of each batch (n_batches, n).
        segments: for each subnet the place of each atom's structure in its batch, as the rows.
    """

    features: Sequence[Any]
    rows: Sequence[tf.Tensor]
    segments: Sequence[tf.Tensor]

    @classmethod
    def of(cls, table: AtomTable, order: IntArray, shape: tuple[int, int], padding: Padding) -> BatchAtoms:
        """The atoms of structures in an order.

        Args:
            table: of the part.
            order: (n_structures,)
            shape: number of batches, structures of a batch.
            padding: what each batch is padded to.
        """
        n, size = shape
        batch_of = np.arange(len(order)) // size
        rows, segments = [], []
        for k, counts in enumerate(table.counts[order].T):
            room = int(padding.atoms[k])
            at = places(np.repeat(batch_of, counts), n, room)
            found, owners = table.rows(k, order), np.repeat(np.arange(len(order)) % size, counts)
            # int64, because TensorFlow keeps int32 on the host, whatever the device
            rows.append(tf.constant(placed(found, at, (n, room), len(table.features[k]))))
            segments.append(tf.constant(placed(owners, at, (n, room), size)))
        return cls(padding.features, rows, segments)

    def of_batch(self, batch: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Features and segments of the atoms of one batch."""
        return (
            [tf.gather(part, own[batch]) for part, own in zip(self.features, self.rows, strict=True)],
            [own[batch] for own in self.segments],
        )
