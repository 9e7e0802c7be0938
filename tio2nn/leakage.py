"""How near test structures are to the structures that a potential was trained on.

Data sets of materials hold scans of one geometry and frames of one trajectory. A random split puts neighbors of one
such family into both parts, and the test error then says how well the potential interpolates within a family, not
how it does on a new one. The distance of each test structure from its nearest training structure shows it.

A structure is described by the mean of the whitened features of its atoms, element by element, each weighted with
the fraction of the atoms. The distance of two structures is the root mean square of the differences, in units of
that of two structures of the training part drawn at random: 0 is a twin, 1 is a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.nn.dataset import AtomTable
from tio2nn.nn.whitening import Whitening
from tio2nn.residuals import Nearest

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TOGETHER = 256  # test structures compared at a time: with 10⁵ training structures 0.2 GB


def fingerprints(table: AtomTable, whitenings: Sequence[Whitening]) -> FloatArray:
    """Mean whitened features of structures.

    Args:
        table: features of all structures, by element.
        whitenings: of each element.

    Returns:
        (n_structures, n_elements * n_features)
    """
    n_atoms = table.n_atoms[:, None]
    parts = []
    for k, whitening in enumerate(whitenings):
        whitened = whitening(table.features[k])
        sums = np.zeros((len(n_atoms), whitened.shape[1]))
        np.add.at(sums, table.segments(k), whitened)
        parts.append(sums / n_atoms)
    return np.concatenate(parts, axis=1)


def nearest_in_training(
    of_test: FloatArray,
    of_training: FloatArray,
    training_names: Sequence[str],
    test_groups: Sequence[str],
    training_groups: Sequence[str],
) -> list[Nearest]:
    """For each test structure the training structure that is most like it.

    Args:
        of_test: (n_test, n) fingerprints.
        of_training: (n_training, n) fingerprints.
        training_names, test_groups, training_groups: of the structures.
    """
    known = set(training_groups)
    unit = _typical_distance(of_training)
    squares = (of_training**2).sum(axis=1)
    found = []
    for begin in range(0, len(of_test), _TOGETHER):
        part = of_test[begin : begin + _TOGETHER]
        closest = (squares - 2.0 * part @ of_training.T).argmin(axis=1)
        # the expanded square above is exact enough to choose, not to measure
        distances = np.sqrt(((part - of_training[closest]) ** 2).mean(axis=1)) / unit
        groups = test_groups[begin : begin + _TOGETHER]
        for k, distance, group in zip(closest.tolist(), distances.tolist(), groups, strict=True):
            found.append(Nearest(training_names[k], distance, group in known))
    return found


def _typical_distance(of_training: FloatArray) -> float:
    """Root mean square of the distances of pairs, from the variance: E|a - b|² = 2 E|a - mean|²; 1 if there is none."""
    return float(np.sqrt(2.0 * of_training.var(axis=0).mean())) or 1.0
