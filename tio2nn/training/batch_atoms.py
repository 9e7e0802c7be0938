"""The atoms of the batches of an epoch, in a graph of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.training.atom_table import AtomTable
from tio2nn.training.padding import Padding, placed, places

IntArray = NDArray[np.int64]


class BatchAtoms(NamedTuple):
    """Where the graph finds the atoms of each batch.

    Attributes:
        features: for each subnet the rows of all batches, one batch after the other; with padding, those of the part,
            and a row of zeros; none if they are read window by window.
        rows: with padding, for each subnet the rows of each batch (n_batches, n); otherwise none.
        segments: for each subnet the place of each atom's structure in its batch, as the rows.
        edges: (n_batches + 1, n_subnets) where the atoms of each batch begin, without padding.
    """

    features: Sequence[Any]
    rows: Sequence[tf.Tensor]
    segments: Sequence[tf.Tensor]
    edges: tf.Tensor

    @classmethod
    def of(
        cls, table: AtomTable, order: IntArray, shape: tuple[int, int], padding: Padding | None
    ) -> BatchAtoms:
        """The atoms of structures in an order.

        Args:
            table: of the part.
            order: (n_structures,)
            shape: number of batches, structures of a batch.
            padding: None for no padding.
        """
        n, size = shape
        counts = table.counts[order]
        fill = n * size - len(order)
        in_batch = np.pad(counts, ((0, fill), (0, 0))).reshape(n, size, -1).sum(axis=1)
        edges = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(in_batch, axis=0)])
        # int64, because TensorFlow keeps int32 on the host, where edges belong, whatever the device
        owners = [np.repeat(np.arange(len(order)) % size, own) for own in counts.T]
        on_host = tf.constant(edges, tf.int32)
        if padding is None:
            features = []
            if table.file is None:
                # one subnet at a time, to save memory
                features = [tf.constant(own[table.rows(k, order)]) for k, own in enumerate(table.features)]
            return cls(features, [], [tf.constant(own) for own in owners], on_host)
        rows, segments = [], []
        for k, own in enumerate(owners):
            room = int(padding.atoms[k])
            at = places(np.repeat(np.arange(n), in_batch[:, k]), n, room)
            found = table.rows(k, order)
            rows.append(tf.constant(placed(found, at, (n, room), len(table.features[k]))))
            segments.append(tf.constant(placed(own, at, (n, room), size)))
        return cls(padding.features, rows, segments, on_host)

    def of_batch(self, batch: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Features and segments of the atoms of one batch; no features if they are read window by window."""
        if self.rows:
            return (
                [tf.gather(part, own[batch]) for part, own in zip(self.features, self.rows, strict=True)],
                [own[batch] for own in self.segments],
            )
        begin, end = self.edges[batch], self.edges[batch + 1]
        features, segments = (
            [part[begin[k] : end[k]] for k, part in enumerate(parts)]
            for parts in (self.features, self.segments)
        )
        return features, segments
