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

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.evaluation.nearest import closest_rows
from tio2nn.evaluation.residuals import Nearest
from tio2nn.potential.whitening import Whitening
from tio2nn.training.atom_table import AtomTable

# structures whose distances are computed at a time
_TOGETHER = 256
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
        points = whitening.points(np.asarray(table.features[k]))
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
    closest = closest_rows(of_test, of_training, _SAME * unit)
    found = []
    for first in range(0, len(of_test), _TOGETHER):
        own = slice(first, first + _TOGETHER)
        apart = of_test[own] - of_training[closest[own]]
        distances = np.sqrt((apart**2).mean(axis=1)) / unit
        for k, distance, group in zip(
            closest[own].tolist(), distances.tolist(), test_groups[own], strict=True
        ):
            found.append(Nearest(training_names[k], distance, group in known))
    return found


def _typical_distance(of_training: FloatArray) -> float:
    """Rms distance of pairs, from the variance: E|a - b|² = 2 E|a - mean|²; 1 if it is zero."""
    return float(np.sqrt(2.0 * of_training.var(axis=0).mean())) or 1.0
