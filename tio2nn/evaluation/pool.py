"""Which structures of a pool to label next: far from what is known, where a committee disagrees, never two alike.

A structure is the point of its fingerprint (see `leakage`): the mean over its atoms, so that many atoms do not make it
far. Distances are in units of that of two random known structures.

`Sieve` takes a pool of any size, one batch after the other, and keeps a bounded number of candidates. It leaves out a
structure if a candidate of its composition with at least its spread is within a radius, and where there are too many
candidates, it widens the radius of the composition that has the most of them, until at most three quarters are left:
the doubling algorithm of M. Charikar et al., SIAM J. Comput. 33 (2004) 1417, in smaller steps and for each composition.
With each candidate it keeps how far the farthest structure may be that was left out for it, so that what it says of the
whole pool is so.

`Sieve.choose` then takes one candidate after the other. By coverage, it is the one that brings the structures of the
pool nearest to known or chosen ones, or their atoms, in turns (see `coverage`). By distance, it is the one farthest
from all known and chosen ones, as in T. F. Gonzalez, Theor. Comput. Sci. 38 (1985) 293; else the one of the largest
product of distance and spread, or of the largest spread. Each composition gets at least half of what it would get at
random, and one structure, if there are as many that differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Literal, NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.cores import one_blas_thread
from tio2nn.evaluation.coverage import AtomCoverage, AtomPoints, StructureCoverage, distances, nearest
from tio2nn.evaluation.measures import Coverage, Greedy, Largest, Measure

Composition = tuple[int, ...]

By = Literal["coverage", "distance", "spread", "both"]

# Structures nearer than this are alike: labels of both teach hardly more than one. In TiO2, 5 % of the structures have
# another one so near, of a scan or a run of frames; files with rounded digits are 1e-4 apart.
ALIKE = 0.01
_SHARE = 0.5  # of what a composition would get at random, at least
# candidates for each structure that is chosen, and at least so many in all
_CANDIDATES_EACH, _FEWEST_CANDIDATES = 10, 4096
_KEPT = 0.75  # of the candidates, at most, when there were too many; and at least half
_STEPS = 8  # of the search for the radius that leaves so many
_TOGETHER = 512  # points whose distances from all others are computed at a time


class Item(NamedTuple):
    """A structure of the pool.

    Attributes:
        place: in the pool, from 0.
        composition: (n_elements,) number of atoms.
        spread: of the committee; 0 if it is not asked for.
        geometry: digest of it.
        atoms: of it, some of those of each element; they matter to coverage alone.
    """

    place: int
    composition: Composition
    spread: float = 0.0
    geometry: str = ""
    atoms: AtomPoints = ()


class Choice(NamedTuple):
    """A structure that is chosen, and why.

    Attributes:
        item: the structure.
        rank: from 1.
        distance: from the nearest known structure, or of those chosen before.
        nearest: the rank of that one; 0 if a known structure is nearer.
        known: index of the nearest known structure.
        known_distance: from it.
        for_share: whether it is chosen for its composition, before others that are farther or less certain.
        for_atoms: whether it is chosen for its atoms, not as a whole.
    """

    item: Item
    rank: int
    distance: float
    nearest: int
    known: int
    known_distance: float
    for_share: bool
    for_atoms: bool = False


@dataclass
class _Candidate:
    item: Item
    known: int
    known_distance: float
    cover: float = 0.0  # distance of the farthest structure that was left out for it, at most
    count: int = 1  # structures that it stands for, itself included


@dataclass
class Chosen:
    """The result of a choice.

    Attributes:
        choices: by rank.
        radius: no structure of the pool is farther from all known and chosen ones.
    """

    choices: list[Choice] = field(default_factory=list)
    radius: float = 0.0


class Sieve:
    """Candidates of a pool.

    Args:
        known: (n_known, n) fingerprints of the structures that have labels.
        count: how many structures are to be chosen.
        most: number of candidates to keep; by default enough.

    Attributes:
        n: structures so far.
        n_known: of them, structures that are like a known one.
        n_alike: those that are like a candidate.
    """

    def __init__(self, known: FloatArray, count: int, most: int | None = None) -> None:
        self._count = count
        self._most = max(_CANDIDATES_EACH * count, _FEWEST_CANDIDATES) if most is None else most
        unit = float(np.sqrt(2.0 * known.var(axis=0).mean())) or 1.0
        self._scale = 1.0 / (unit * np.sqrt(known.shape[1]))
        self._known = known * self._scale
        self._points = np.empty((0, known.shape[1]))
        self._kept: list[_Candidate] = []
        self._kinds: list[Composition] = []  # of the candidates
        self._radii: dict[Composition, float] = {}
        self._of_kind: Counter[Composition] = Counter()
        self._coarseness = 0
        self.n = self.n_known = self.n_alike = 0

    def add(self, fingerprints: FloatArray, items: Sequence[Item]) -> None:
        """Look at the next structures of the pool, (n_items, n)."""
        for first in range(0, len(items), _TOGETHER):
            own = slice(first, first + _TOGETHER)
            self._add(fingerprints[own] * self._scale, items[own])

    def _add(self, points: FloatArray, items: Sequence[Item]) -> None:
        self.n += len(items)
        for item in items:
            self._of_kind[self._kind(item.composition)] += 1
        self._coarsen()
        known, known_distance = nearest(points, self._known)
        is_new = known_distance > ALIKE
        self.n_known += int(np.count_nonzero(~is_new))
        apart = distances(points, self._points)
        kinds = [self._kind(item.composition) for item in items]
        among = distances(points, points)
        added: list[int] = []
        for k in np.flatnonzero(is_new).tolist():
            if not self._is_left_out(items[k], kinds[k], np.concatenate([apart[k], among[k, added]])):
                added.append(k)
                self._kept.append(_Candidate(items[k], int(known[k]), float(known_distance[k])))
                self._kinds.append(kinds[k])
        self._points = np.concatenate([self._points, points[added]])
        if len(self._kept) > self._most:
            self._reduce()

    def _is_left_out(self, item: Item, kind: Composition, apart: FloatArray) -> bool:
        """Whether a structure at these distances from all candidates is left out for one of them."""
        near = np.flatnonzero(apart <= self._radii.get(kind, ALIKE))
        of = [
            k
            for k in near.tolist()
            if apart[k] <= ALIKE or (self._kinds[k] == kind and self._kept[k].item.spread >= item.spread)
        ]
        if not of:
            return False
        closest = min(of, key=lambda k: float(apart[k]))
        self.n_alike += bool(apart[closest] <= ALIKE)
        self._kept[closest].cover = max(self._kept[closest].cover, float(apart[closest]))
        self._kept[closest].count += 1
        return True

    def _reduce(self) -> None:
        """Widen the radius of the compositions with the most candidates until few enough are left."""
        while len(self._kept) > _KEPT * self._most:
            kind, n = Counter(self._kinds).most_common(1)[0]
            if n == 1:
                return
            # the least certain ones are left out for others
            own = [k for k, of in enumerate(self._kinds) if of == kind]
            own.sort(key=lambda k: -self._kept[k].item.spread)
            self._radii[kind], left_out = self._widened(own, self._radii.get(kind, ALIKE))
            for k, (first, distance) in left_out.items():
                cover = distance + self._kept[k].cover
                self._kept[first].cover = max(self._kept[first].cover, cover)
                self._kept[first].count += self._kept[k].count
            kept = [k for k in range(len(self._kept)) if k not in left_out]
            self._points = self._points[kept]
            self._kept, self._kinds = [self._kept[k] for k in kept], [self._kinds[k] for k in kept]

    def _widened(self, own: Sequence[int], radius: float) -> tuple[float, dict[int, tuple[int, float]]]:
        """A larger radius that leaves out some of these candidates, at most half if that is possible; and which."""
        least, most = radius, np.inf
        best: tuple[float, dict[int, tuple[int, float]]] = (radius, {})
        for _ in range(_STEPS):
            radius = 1.5 * least if most == np.inf else 0.5 * (least + most)
            left_out = self._left_out(own, radius)
            if len(left_out) < (1.0 - _KEPT) * len(own):
                least = radius
                continue
            most, best = radius, (radius, left_out)
            if len(left_out) <= 0.5 * len(own):
                break
        return best if best[1] else (least, {})

    def _left_out(self, own: Sequence[int], radius: float) -> dict[int, tuple[int, float]]:
        """The candidates, of some in an order, within a radius of one before that stays, and which, and how far."""
        found: dict[int, tuple[int, float]] = {}
        stays: list[int] = []
        for first in range(0, len(own), _TOGETHER):
            some = list(own[first : first + _TOGETHER])
            points = self._points[some]
            apart = distances(points, self._points[stays + some])
            places = list(range(len(stays)))  # of what stays, among the columns
            n_before, others = len(stays), stays + some
            for row, k in enumerate(some):
                near = places[int(apart[row, places].argmin())] if places else -1
                if near >= 0 and apart[row, near] <= radius:
                    found[k] = (others[near], float(apart[row, near]))
                else:
                    stays.append(k)
                    places.append(n_before + row)
        return found

    # --- compositions -------------------------------------------------------------------------------------------

    def _kind(self, composition: Composition) -> Composition:
        """What structures share that share one part of the choice: the formula, else the elements, else nothing."""
        if self._coarseness == 0:
            divisor = reduce(gcd, composition)
            return tuple(n // divisor for n in composition)
        return tuple(int(n > 0) for n in composition) if self._coarseness == 1 else ()

    def _coarsen(self) -> None:
        """If there are too many compositions for each to have a share, let those of the same elements be one."""
        while self._coarseness < 2 and len(self._of_kind) > max(1, self._count // 2):
            self._coarseness += 1
            counts: Counter[Composition] = Counter()
            for kind, n in self._of_kind.items():
                counts[self._kind(kind)] += n
            radii: dict[Composition, float] = {}
            for kind, radius in self._radii.items():
                radii[self._kind(kind)] = max(radius, radii.get(self._kind(kind), 0.0))
            self._of_kind, self._radii = counts, radii
            self._kinds = [self._kind(kind) for kind in self._kinds]

    # --- the choice ---------------------------------------------------------------------------------------------

    @property
    def n_candidates(self) -> int:
        """Number of structures that it keeps."""
        return len(self._kept)

    def choose(self, by: By, sample: AtomPoints = (), known: AtomPoints = ()) -> Chosen:
        """Choose as many structures as asked for, or all that differ if there are fewer.

        Args:
            by: the measure.
            sample: atoms of the pool that are to be covered; none if structures alone are.
            known: atoms of known structures.
        """
        # of several threads, products have other last bits, and two candidates may change places
        with one_blas_thread():
            return self._choose(self._measures(by, sample, known))

    def _measures(self, by: By, sample: AtomPoints, known: AtomPoints) -> Sequence[Measure]:
        """What makes a candidate the best, in turns."""
        apart = np.array([candidate.known_distance for candidate in self._kept])
        if by != "coverage":
            spread = np.array([candidate.item.spread for candidate in self._kept])
            return [Largest(by, apart, spread)]
        weights = np.array([candidate.count for candidate in self._kept], dtype=np.float64)
        found: list[Coverage] = [StructureCoverage(self._points, apart, weights)]
        if any(map(len, sample)):
            found.append(AtomCoverage(sample, known, [candidate.item.atoms for candidate in self._kept]))
        return [Greedy(coverage, len(self._kept)) for coverage in found]

    def _choose(self, measures: Sequence[Measure]) -> Chosen:
        points, kept, found = self._points, self._kept, Chosen()
        apart = np.array([candidate.known_distance for candidate in kept])
        nearest_rank = np.zeros(len(kept), dtype=np.int64)
        taken = np.zeros(len(kept), dtype=np.bool_)
        names = sorted(self._of_kind)
        of_kind = np.array([names.index(kind) for kind in self._kinds], dtype=np.int64)
        owed = self._shares(names)
        for rank in range(1, self._count + 1):
            allowed = ~taken & (apart > ALIKE)
            if not allowed.any():
                break
            turn = (rank - 1) % len(measures)
            pick = best = measures[turn].largest(allowed)
            left = np.minimum(owed, np.bincount(of_kind[allowed], minlength=len(names)))
            if left.sum() > self._count - rank and left[of_kind[best]] == 0:
                pick = measures[turn].largest(allowed & (left[of_kind] > 0))
            one = kept[pick]
            choice = Choice(
                one.item,
                rank,
                float(apart[pick]),
                int(nearest_rank[pick]),
                one.known,
                one.known_distance,
                for_share=pick != best,
                for_atoms=turn > 0,
            )
            found.choices.append(choice)
            taken[pick] = True
            owed[of_kind[pick]] = max(0, owed[of_kind[pick]] - 1)
            from_it = np.linalg.norm(points - points[pick], axis=1)
            for measure in measures:
                measure.take(pick, from_it)
            nearest_rank[from_it < apart] = rank
            apart = np.minimum(apart, from_it)
        covers = np.array([candidate.cover for candidate in kept])
        found.radius = float(max(np.max(apart + covers, initial=0.0), ALIKE if self.n_known else 0.0))
        return found

    def _shares(self, names: Sequence[Composition]) -> IntArray:
        """(n_kinds,) how many structures each composition is to get, at least."""
        counts = np.array([self._of_kind[name] for name in names], dtype=np.float64)
        shares = np.floor(_SHARE * self._count * counts / max(1.0, counts.sum())).astype(np.int64)
        return np.asarray(np.maximum(shares, 1) if len(names) <= self._count else shares)
