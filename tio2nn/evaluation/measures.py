"""Measures of what a candidate is worth; each choice changes what the others are worth."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray, IntArray

_AT_FIRST, _LATER = 64, 8  # candidates whose gains are computed at a time


class Measure(Protocol):
    """What makes a candidate the best."""

    def largest(self, allowed: BoolArray) -> int:
        """The best one of those allowed, at least one."""

    def take(self, candidate: int, from_it: FloatArray, /) -> None:
        """Count one as known from now on.

        Args:
            candidate: its index.
            from_it: (n,) distances of the candidates from it.
        """


class Coverage(Protocol):
    """What is to be covered."""

    def gains(self, candidates: IntArray) -> FloatArray:
        """By how much each of these would lower the sum of distances from what is known."""

    def take(self, candidate: int, from_it: FloatArray, /) -> None:
        """Count one as known from now on, as for `Measure`."""


class Largest:
    """The candidate with the largest distance from known ones, spread, or product of both.

    Args:
        by: what is to be large.
        apart: (n,) distances of the candidates from the nearest known structure.
        spread: (n,)
    """

    def __init__(
        self, by: Literal["distance", "spread", "both"], apart: FloatArray, spread: FloatArray
    ) -> None:
        self._by, self._apart, self._spread = by, apart, spread

    def largest(self, allowed: BoolArray) -> int:
        """The first of the best ones."""
        score = {"distance": self._apart, "spread": self._spread, "both": self._apart * self._spread}[
            self._by
        ]
        return int(np.where(allowed, score, -1.0).argmax())

    def take(self, _candidate: int, from_it: FloatArray) -> None:
        """Count one as known from now on, as for `Measure`."""
        self._apart = np.minimum(self._apart, from_it)


class Greedy:
    """The candidate with the largest gain.

    One after the other is at most 1/e worse than the best choice of all at once (G. L. Nemhauser et al., Math. Program.
    14 (1978) 265). Every choice makes all gains smaller, so that an earlier one is a limit: few are computed again
    (M. Minoux, 1978).

    Args:
        coverage: that gains.
        n: number of candidates.
    """

    def __init__(self, coverage: Coverage, n: int) -> None:
        self._coverage = coverage
        self._limits = np.full(n, np.inf)

    def largest(self, allowed: BoolArray) -> int:
        """The one with the largest gain."""
        limits = np.where(allowed, self._limits, -1.0)
        best, gain = -1, -1.0
        while True:
            # many at a time in the beginning, when no limit is known, and a few later
            most = limits.max()
            if best >= 0 and gain >= most:
                return best
            n = _AT_FIRST if np.isinf(most) else _LATER
            some = np.argpartition(-limits, min(n, len(limits) - 1))[:n]
            some = some[limits[some] > gain]
            found = self._coverage.gains(some)
            self._limits[some], limits[some] = found, -1.0
            here = int(found.argmax())
            if found[here] > gain:
                best, gain = int(some[here]), float(found[here])

    def take(self, candidate: int, from_it: FloatArray) -> None:
        """Count one as known from now on, as for `Measure`."""
        self._coverage.take(candidate, from_it)
