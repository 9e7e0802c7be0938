"""Coverage of a pool: how much nearer it comes to what is known by each structure that is chosen.

Errors grow in proportion to the distance from what is known, so the structure that lowers the sum of distances the most
lowers the expected error the most.

Structures are covered for their energies, their atoms for the forces. By structures alone, 400 chosen ones of TiO2 have
forces as good as 400 at random, by atoms alone energies as good as 480.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import Float32Array, FloatArray, IntArray
from tio2nn.potential.whitening import Whitening
from tio2nn.training.atom_table import AtomTable

Float = TypeVar("Float", bound=np.floating[Any])

# atoms of each element by which a structure is covered: those of a large cell are alike
_MOST_ATOMS = 32
_TOGETHER = 4096  # points from which distances are computed at a time

AtomPoints = tuple[Float32Array, ...]
"""Points of the atoms of each element, (n_atoms, n) each, between which distances are measured."""


class StructureCoverage:
    """The structures of a pool, which are candidates or like one.

    Args:
        points: (n, dimensions) of the candidates.
        apart: (n,) their distances from the nearest known structure.
        weights: (n,) structures that each stands for.
    """

    def __init__(self, points: FloatArray, apart: FloatArray, weights: FloatArray) -> None:
        self._points, self._apart, self._weights = points, apart, weights

    def gains(self, candidates: IntArray) -> FloatArray:
        """By how much each of these would lower the sum of distances."""
        nearer = self._apart[:, None] - distances(self._points, self._points[candidates])
        return np.asarray(self._weights @ np.maximum(nearer, 0.0))

    def take(self, _candidate: int, from_it: FloatArray) -> None:
        """Count one as known from now on, as for `Measure`."""
        self._apart = np.minimum(self._apart, from_it)


class AtomCoverage:
    """Atoms of a pool, a sample of them.

    Args:
        sample: atoms that are to be covered.
        known: atoms of known structures.
        candidates: the atoms of each candidate.
    """

    def __init__(
        self, sample: AtomPoints, known: Sequence[Float32Array], candidates: Sequence[AtomPoints]
    ) -> None:
        self._sample, self._candidates = sample, candidates
        # of an element that no known structure has, distances are those from the mean atom of training
        known = [atoms if len(atoms) else np.zeros((1, atoms.shape[1]), np.float32) for atoms in known]
        self._apart = [_apart(own, of_known) for own, of_known in zip(sample, known, strict=True)]

    def gains(self, candidates: IntArray) -> FloatArray:
        """By how much each of these would lower the sum of distances."""
        found = np.zeros(len(candidates))
        for element, (own, apart) in enumerate(zip(self._sample, self._apart, strict=True)):
            atoms = [self._candidates[k][element] for k in candidates]
            counts = np.array([len(points) for points in atoms])
            some = np.flatnonzero(counts)
            if not len(own) or not len(some):
                continue
            first = np.cumsum(counts[some]) - counts[some]
            nearest = np.minimum.reduceat(distances(own, np.concatenate(atoms)), first, axis=1)
            found[some] += np.maximum(apart[:, None] - nearest, 0.0).sum(axis=0, dtype=np.float64)
        return found

    def take(self, candidate: int, _from_it: FloatArray) -> None:
        """Count one as known from now on, as for `Measure`."""
        for element, own in enumerate(self._sample):
            apart = _apart(own, self._candidates[candidate][element])
            self._apart[element] = np.minimum(self._apart[element], apart)


class AtomSample:
    """Some atoms of many structures, each as likely as any other (algorithm R, J. S. Vitter, 1985).

    Args:
        most: atoms to keep.
    """

    def __init__(self, most: int) -> None:
        self._most, self._random = most, np.random.default_rng(0)
        self._kept: list[tuple[int, Float32Array]] = []  # element and point of each
        self._shapes: list[int] = []
        self._n = 0

    def add(self, atoms: AtomPoints) -> None:
        """Look at the atoms of one structure."""
        self._shapes = [points.shape[1] for points in atoms]
        for element, points in enumerate(atoms):
            places = self._n + np.arange(len(points))
            self._n += len(points)
            drawn = np.where(places < self._most, places, self._random.integers(0, places + 1))
            for k in np.flatnonzero(drawn < self._most).tolist():
                kept = (element, points[k].copy())  # a view would keep the whole structure
                if places[k] < self._most:
                    self._kept.append(kept)
                else:
                    self._kept[drawn[k]] = kept

    def points(self) -> AtomPoints:
        """The atoms that are kept, by element; nothing if there were no structures."""
        found = [[point for element, point in self._kept if element == k] for k in range(len(self._shapes))]
        return tuple(
            np.array(points, dtype=np.float32).reshape(len(points), n)
            for points, n in zip(found, self._shapes, strict=True)
        )


def atom_points(table: AtomTable, whitenings: Sequence[Whitening]) -> list[AtomPoints]:
    """Points of the atoms of each structure, see `Whitening.points`; of many atoms of an element, some at random.

    Args:
        table: features of all structures, by element.
        whitenings: whitening of each element.
    """
    of_element = []
    for k, whitening in enumerate(whitenings):
        points = whitening.points(np.asarray(table.features[k])).astype(np.float32)
        own = np.split(points, np.cumsum(table.counts[:, k])[:-1])
        of_element.append([_some(rows) for rows in own])
    return list(zip(*of_element, strict=True))


def _some(rows: Float32Array) -> Float32Array:
    """Few enough of them, copied, so that the others need not stay in memory."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:_MOST_ATOMS]
    return rows[np.sort(chosen)]


def distances(points: NDArray[Float], others: NDArray[Float]) -> NDArray[Float]:
    """(n_points, n_others); an error of 1e-7 of the points' lengths is far below what is alike, 3e-4 in float32."""
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * (points @ others.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def nearest(points: NDArray[Float], others: NDArray[Float]) -> tuple[IntArray, FloatArray]:
    """Index of the nearest of others, 0 if there are none, and the distance from it, inf if so; (n_points,) each."""
    index, least = np.zeros(len(points), dtype=np.int64), np.full(len(points), np.inf)
    for first in range(0, len(others), _TOGETHER):
        apart = distances(points, others[first : first + _TOGETHER])
        here = apart.argmin(axis=1)
        distance = apart[np.arange(len(points)), here]
        nearer = distance < least
        index[nearer], least[nearer] = first + here[nearer], distance[nearer]
    return index, least


def _apart(atoms: Float32Array, others: Float32Array) -> Float32Array:
    """Distances (n_atoms,) from the nearest of others."""
    return nearest(atoms, others)[1].astype(np.float32)
