"""The exact search for the nearest of many rows, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

from tio2nn.array_types import FloatArray, IntArray

# test and training structures compared at a time: 34 MB
_TOGETHER = 256
_OF_TRAINING = 16_384
# directions of the tree: with 24, a search takes twice as long among 900,000, with 8 every third one goes on
_AXES = 16
_SAMPLE = 4096  # training structures that choose them
_NEAREST, _MORE = 4, 8  # neighbors that a search begins with, and how many times more it goes on with
# a neighbor from the tree takes as long as so many in products of matrices
_WORTH_ALL = 64
_AT_ONCE = 500_000  # neighbors at a time: 8 MB


def closest_rows(of_test: FloatArray, of_training: FloatArray, same: float) -> IntArray:
    """(n_test,) row of `of_training` nearest to each row of `of_test`; the first of equal ones.

    Fingerprints vary along some thirty directions. Along the leading ones a tree finds the nearest few, and their whole
    distances are compared. A row that is left out is farther along these directions alone than those few, so the search
    ends when one of them is nearer than that; otherwise it goes on with more. What it would have to compare with a good
    part of the training set it compares with all of it, in products of matrices.

    From 10,000 rows among 90,000 to 100,000 among 900,000 the time grew with the power 1.4 of their number: a tree has
    more branches near a point, the more directions there are.

    Args:
        of_test: (n_test, n)
        of_training: (n_training, n)
        same: rms of differences that need not be told from zero.
    """
    from scipy.spatial import cKDTree

    first = _first_of_equals(of_training)
    axes = _leading_axes(of_training)
    tree = cKDTree(_along(axes, of_training, first))
    closest, least = np.zeros(len(of_test), dtype=np.int64), np.full(len(of_test), np.inf)
    n_nearest, n_least = _NEAREST, same**2 * of_training.shape[1]
    # in the order of a tree, those after each other find the same part of the other tree in the cache: half the time
    searching = cKDTree(_along(axes, of_test, np.arange(len(of_test)))).indices
    while len(searching) and n_nearest * _WORTH_ALL <= len(first):
        further = []
        for own in _slices(len(searching), 1 + _AT_ONCE // n_nearest):
            some = searching[own]
            along, nearest = tree.query(_along(axes, of_test, some), n_nearest)
            closest[some], least[some] = _first_least(
                _distances(of_test, of_training, some, first[nearest]), first[nearest]
            )
            # rounding of the projection
            further.append(some[(least[some] > n_least) & (along[:, -1] ** 2 < least[some] * (1.0 + 1e-9))])
        searching = np.concatenate(further)
        n_nearest *= _MORE
    for own in _slices(len(searching), _TOGETHER):
        closest[searching[own]] = _closest_of_all(of_test[searching[own]], of_training, first)
    return closest


def _first_of_equals(rows: FloatArray) -> IntArray:
    """The rows that are not equal to an earlier one, ascending."""
    seen: dict[bytes, int] = {}
    for index, row in enumerate(rows):
        seen.setdefault(blake2b(row + 0.0, digest_size=16).digest(), index)  # -0 becomes 0
    return np.fromiter(seen.values(), dtype=np.int64, count=len(seen))


def _leading_axes(rows: FloatArray) -> FloatArray:
    """(n, n_axes) orthonormal directions along which rows vary most, by subspace iteration with some of the rows.

    Any directions give the right neighbors; better ones give them sooner.
    """
    some = rows[:: 1 + len(rows) // _SAMPLE]
    some = some - some.mean(axis=0)
    axes = np.random.default_rng(0).normal(size=(rows.shape[1], min(_AXES, rows.shape[1])))
    for _ in range(3):
        axes = np.linalg.qr(some.T @ (some @ axes))[0]
    return axes


def _along(axes: FloatArray, rows: FloatArray, chosen: IntArray) -> FloatArray:
    """(n_chosen, n_axes) rows along axes."""
    parts = [rows[chosen[own]] @ axes for own in _slices(len(chosen), _TOGETHER)]
    return np.concatenate([np.empty((0, axes.shape[1])), *parts])


def _distances(
    of_test: FloatArray, of_training: FloatArray, tested: IntArray, others: IntArray
) -> FloatArray:
    """(n, n_nearest) squared distances of rows of `of_test` from rows (n, n_nearest) of `of_training`."""
    found = np.empty(others.size)
    one, other = np.repeat(tested, others.shape[1]), others.reshape(-1)
    for own in _slices(len(one), _TOGETHER):
        found[own] = ((of_test[one[own]] - of_training[other[own]]) ** 2).sum(axis=1)
    return found.reshape(others.shape)


def _first_least(distances: FloatArray, rows: IntArray) -> tuple[IntArray, FloatArray]:
    """(n,) the first of the rows (n, n_nearest) at the least distance, and that distance."""
    least = distances.min(axis=1)
    last = np.iinfo(np.int64).max
    return np.where(distances == least[:, None], rows, last).min(axis=1), least


def _closest_of_all(part: FloatArray, of_training: FloatArray, chosen: IntArray) -> IntArray:
    """(n,) the chosen row of `of_training` nearest to each row of `part`; the first if several are equally near."""
    doubled = 2.0 * part
    closest = np.zeros(len(part), dtype=np.int64)
    least = np.full(len(part), np.inf)
    for own in _slices(len(chosen), _OF_TRAINING):
        rows = of_training[chosen[own]]
        # the expanded square is accurate enough to find the nearest, but not for its distance
        apart = (rows**2).sum(axis=1) - doubled @ rows.T
        here = apart.argmin(axis=1)
        distance = apart[np.arange(len(part)), here]
        nearer = distance < least
        closest[nearer], least[nearer] = chosen[own][here[nearer]], distance[nearer]
    return closest


def _slices(n: int, together: int) -> Iterator[slice]:
    return (slice(first, min(first + together, n)) for first in range(0, n, together))
