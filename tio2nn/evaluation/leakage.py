"""Leakage: how close test structures are to training structures.

Data sets of materials contain scans of one geometry and frames of one trajectory. A random split puts relatives into
both the training and the test set, and the test error then measures interpolation within such a group rather than the
error on a new one. The distance of each test structure from its nearest training structure reveals this.

The fingerprint of a structure is the mean of the whitened features of its atoms, element by element, weighted with the
fraction of the element. The distance of two structures is the root mean square of the differences of their
fingerprints, in units of that of two random training structures: 0 for identical, 1 for unrelated structures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tio2nn.evaluation.residuals import Nearest
from tio2nn.potential.whitening import Whitening
from tio2nn.training.dataset import AtomTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# test and training structures compared at a time: 34 MB
_TOGETHER = 256
_OF_TRAINING = 16_384
# directions of the tree; of 10,000 test structures, 140 features, 16 leave 23 candidates each, 24 leave 6, 32 leave 2
_AXES = 24
_SAMPLE = 4096  # training structures that choose them
_NEAREST, _MORE = 4, 8  # neighbors that a search begins with, and how many times more it goes on with
# a neighbor from the tree takes as long as so many in products of matrices
_WORTH_ALL = 64
_AT_ONCE = 500_000  # neighbors at a time: 8 MB
_SAME = 1e-6  # distance of copies: which one of several so near is named has no meaning
# atoms whose features are whitened at a time: 0.2 GB for 70 functions
_ATOMS_TOGETHER = 65_536


def fingerprints(table: AtomTable, whitenings: Sequence[Whitening]) -> FloatArray:
    """Fingerprints: the mean whitened features of the atoms of each element, see `Whitening.points`.

    Args:
        table: features of all structures, by element.
        whitenings: whitening of each element.

    Returns:
        (n_structures, n_elements * n_features)
    """
    n_atoms = table.n_atoms[:, None]
    parts = []
    for k, whitening in enumerate(whitenings):
        points = whitening.points(table.features[k])
        sums = np.zeros((len(n_atoms), points.shape[1]))
        np.add.at(sums, table.segments(k), points)
        parts.append(sums / n_atoms)
    return np.concatenate(parts, axis=1)


def fingerprints_of(
    parts: Sequence[IntArray],
    blocks: Iterable[FloatArray],
    element_of_atom: IntArray,
    n_atoms: IntArray,
    whitenings: Sequence[Whitening],
) -> list[FloatArray]:
    """Fingerprints of several sets of structures, from features read block by block.

    Args:
        parts: indices of the structures of each set, ascending.
        blocks: (n_atoms of some consecutive structures, n_features); together, they cover all atoms.
        element_of_atom: (n_atoms of all,) index of a whitening.
        n_atoms: (n_structures,)
        whitenings: whitening of each element.

    Returns:
        An array (n_structures of the set, n_elements * n_features) for each set.
    """
    found: list[list[FloatArray]] = [[] for _ in parts]
    first_atom = np.concatenate([[0], np.cumsum(n_atoms)])
    atom = 0
    for block in _gathered(blocks):
        first, last = np.searchsorted(first_atom, [atom, atom + len(block)])
        own = slice(atom, atom + len(block))
        table = AtomTable.from_rows(block, element_of_atom[own], n_atoms[first:last], len(whitenings))
        for of_part, structures in zip(found, parts, strict=True):
            inside = structures[(structures >= first) & (structures < last)]
            of_part.append(fingerprints(table.select(inside - first), whitenings))
        atom += len(block)
    return [np.concatenate(of_part) for of_part in found]


def _gathered(blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Join small blocks into larger ones, to reduce the overhead per block."""
    waiting: list[FloatArray] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= _ATOMS_TOGETHER:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def nearest_in_training(
    of_test: FloatArray,
    of_training: FloatArray,
    training_names: Sequence[str],
    test_groups: Sequence[str],
    training_groups: Sequence[str],
) -> list[Nearest]:
    """The nearest training structure of each test structure; the first of those with the same fingerprint.

    Args:
        of_test: (n_test, n) fingerprints.
        of_training: (n_training, n) fingerprints.
        training_names: names of the training structures.
        test_groups, training_groups: group names of the structures.
    """
    known = set(training_groups)
    unit = _typical_distance(of_training)
    closest = _closest(of_test, of_training, _SAME * unit)
    found = []
    for own in _slices(len(of_test), _TOGETHER):
        apart = of_test[own] - of_training[closest[own]]
        distances = np.sqrt((apart**2).mean(axis=1)) / unit
        for k, distance, group in zip(
            closest[own].tolist(), distances.tolist(), test_groups[own], strict=True
        ):
            found.append(Nearest(training_names[k], distance, group in known))
    return found


def _closest(of_test: FloatArray, of_training: FloatArray, same: float) -> IntArray:
    """(n_test,) row of `of_training` nearest to each row of `of_test`.

    Fingerprints vary along some thirty directions. Along the leading ones a tree finds the nearest few, and their whole
    distances are compared. A row that is left out is farther along these directions alone than those few, so the search
    ends when one of them is nearer than that; otherwise it goes on with more. What it would have to compare with a good
    part of the training set it compares with all of it, in products of matrices.

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
    searching, n_nearest, n_least = np.arange(len(of_test)), _NEAREST, same**2 * of_training.shape[1]
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


def _typical_distance(of_training: FloatArray) -> float:
    """Rms distance of pairs, from the variance: E|a - b|² = 2 E|a - mean|²; 1 if it is zero."""
    return float(np.sqrt(2.0 * of_training.var(axis=0).mean())) or 1.0
