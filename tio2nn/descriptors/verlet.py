"""Neighbors of one structure that moves little between steps: a list with a skin, searched again when it is used up.

L. Verlet, Phys. Rev. 159 (1967) 98.
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.neighbors import Moved, NearPoints, NeighborList, NeighborSearch
from tio2nn.structures.structure import Structure

# Å; at 300 K the fastest atoms of TiO2 use it up in some 30 steps of 1 fs
SKIN = 0.5


class VerletList:
    """The neighbors of one structure, step after step.

    They are searched within the cutoff and a skin. As long as no atom has moved by half of it, and cell, elements and
    cutoff are what they were, later steps only measure the pairs that were found.

    Attributes:
        n_searches: how often neighbors were searched.
    """

    def __init__(self, skin: float = SKIN) -> None:
        """For pairs up to the skin, Å, beyond the cutoff."""
        self.n_searches = 0
        self._skin = skin
        self._made_for: tuple[object, ...] | None = None
        self._start = np.empty((0, 3))
        self._near: dict[tuple[int, int], NearPoints] = {}  # the atoms of each task
        self._search: NeighborSearch | None = None
        self._moved: Moved | None = None

    def move_to(
        self, structure: Structure, cutoff: float, kinds: IntArray, n_kinds: int, threads: int = 1
    ) -> VerletList:
        """Take the positions of the next step, and search if need be.

        Args:
            structure: the next step.
            cutoff, kinds, n_kinds, threads: as for `NeighborSearch`.

        Raises:
            InputError: as `NeighborSearch`.
        """
        made_for = (structure.cell.tobytes(), structure.periodic, kinds.tobytes(), n_kinds, cutoff)
        positions = structure.positions
        if made_for != self._made_for or not self._is_within_skin(positions):
            self._made_for = None
            self._search = NeighborSearch([structure], cutoff + self._skin, kinds, n_kinds, threads)
            self._near = {}
            self._start, self._made_for = positions.copy(), made_for
            self.n_searches += 1
        assert self._search is not None
        points = self._search.points.copy()
        points[:, :3] += (positions - self._start)[self._search.owners]
        self._moved = Moved([structure], points, cutoff)
        return self

    def _is_within_skin(self, positions: FloatArray) -> bool:
        moved = ((positions - self._start) ** 2).sum(axis=1).max()
        # false for NaN
        return bool(moved < (0.5 * self._skin) ** 2)

    def tasks(self) -> list[tuple[int, int]]:
        """As `NeighborSearch.tasks`."""
        assert self._search is not None
        return self._search.tasks()

    def __call__(self, task: tuple[int, int]) -> NeighborList:
        """As `NeighborSearch`; the order of neighbors is that of the step in which they were searched.

        Raises:
            InputError: two atoms at the same place.
        """
        assert self._search is not None
        if task not in self._near:
            self._near[task] = self._search.near(task)
        return self._search.measure(task, self._near[task], self._moved)
