"""Tables that lie on the device for a whole fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array
from tio2nn.files.rows import Rows
from tio2nn.training.atom_table import AtomTable
from tio2nn.wording import size

MOST_NUMBERS = 2**31 - 1
"""Of a table: kernels of TensorFlow count in 32 bits."""
PIECE = 1 << 24
"""Numbers that are copied to the device at a time."""


class DoesNotFitError(Exception):
    """What a fit needs does not fit on the device; the message says what, and how large it is."""


def reserved(shape: tuple[int, ...], what: str) -> tf.Variable:
    """A table of zeros, float32.

    Args:
        shape: of the table.
        what: is to lie in it, for the message.

    Raises:
        DoesNotFitError: there is no room for it.
    """
    try:
        return tf.Variable(zeros(shape), trainable=False)
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise DoesNotFitError(f"{what} do not fit on the GPU") from None


def zeros(shape: tuple[int, ...]) -> tf.Tensor:
    """Zeros, float32."""
    return tf.zeros(shape, tf.float32)


def fill(table: tf.Variable, n_rows: int, rows: Callable[[int, int], Float32Array]) -> None:
    """Copy rows to the beginning of a table, piece by piece.

    Args:
        table: (at least n_rows, ...).
        n_rows: to copy.
        rows: gives those from one number to before another one, in a new array: TensorFlow may be reading the last one.
    """
    at_once = max(1, PIECE // int(np.prod(table.shape[1:])))
    for begin in range(0, n_rows, at_once):
        end = min(begin + at_once, n_rows)
        # unlike `table[...].assign`, it does not read first
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=table.handle, begin=[begin], end=[end], strides=[1], value=rows(begin, end)
        )


def resident_features(table: AtomTable) -> list[tf.Variable]:
    """The features of each subnet, float32, with a row of zeros after them.

    Raises:
        DoesNotFitError: not enough memory on the device.
    """
    what = f"the features, {size(sum(4 * part.shape[0] * part.shape[1] for part in table.features))},"
    found = []
    for part in table.features:
        n_rows, n_features = part.shape
        own = reserved((n_rows + 1, n_features), what)
        fill(own, n_rows, partial(_rows, part))
        found.append(own)
    return found


def _rows(part: Rows, begin: int, end: int) -> Float32Array:
    return np.array(part[begin:end], np.float32)
