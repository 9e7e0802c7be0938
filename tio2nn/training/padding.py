"""Batches of fixed size: shapes are the same in all batches of a fit, so that a graph is compiled once.

Rows of padding belong to one more structure at the end of each batch, which has no weight in any loss. Their features
are zeros; what they get as derivatives of a loss is zero, so they add nothing to those with respect to the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.array_types import IntArray


class Padding(NamedTuple):
    """What the batches of a part have room for.

    Attributes:
        features: for each subnet its features on the device, and a row of zeros after them.
        atoms: (n_subnets,) atoms of a batch.
        forces, stress: as `loads` of the products has them.
    """

    features: Sequence[tf.Variable]
    atoms: IntArray
    forces: IntArray
    stress: IntArray


def most_of_batches(loads: IntArray, size: int, orders: Iterable[IntArray]) -> IntArray:
    """(n,) what the largest batches need.

    Args:
        loads: (n_structures, n) what each structure needs.
        size: structures of a batch.
        orders: of the structures, of each epoch.
    """
    most = np.zeros(loads.shape[1], np.int64)
    for order in orders:
        in_batch = np.add.reduceat(loads[order], np.arange(0, len(order), size), axis=0)
        most = np.maximum(most, in_batch.max(axis=0))
    return most


def places(batch_of: IntArray, n_batches: int, room: int) -> IntArray:
    """(n,) where things lie in an array (n_batches, room), from the batch of each, ascending (n,)."""
    counts = np.bincount(batch_of, minlength=n_batches)
    first = np.cumsum(counts) - counts
    return np.asarray(batch_of * room + np.arange(len(batch_of)) - first[batch_of])


def placed(values: NDArray[Any], at: IntArray, shape: tuple[int, ...], fill: float) -> NDArray[Any]:
    """An array of this shape with values (n, ...) at places (n,) of its first two axes, and `fill` elsewhere."""
    found = np.full((shape[0] * shape[1], *shape[2:]), fill, values.dtype)
    found[at] = values
    return found.reshape(shape)


def counting(lengths: IntArray) -> IntArray:
    """0, 1, ... up to each of these lengths, one after the other."""
    return np.asarray(np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths))
