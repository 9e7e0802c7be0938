"""Smaller training sets of a split, each inside the next, and all judged by the same structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.facts import are_used
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import LEFT_OUT, Split


class Subsets:
    """Smaller training sets.

    Args:
        parameters: their kind of split says whether groups stay together.
        store: the structures.
        split: whose training set is made smaller, and whose test set judges, or its validation set without one.

    Attributes:
        n_all: structures in the whole training set.
        n_judging: structures that judge.
        judge: "test" or "validation".

    Raises:
        InputError: no structure judges.
    """

    def __init__(self, parameters: ParameterSet, store: StructureStore, split: Split) -> None:
        self._store, self._seed = store, parameters.training.seed
        self._is_grouped = parameters.training.split == "grouped"
        self._split = split.restricted_to(are_used(parameters, store))
        self._train = self._split.indices("train")
        found = [(part, self._split.indices(part)) for part in ("test", "validation")]
        self.judge, self._judging = next((one for one in found if len(one[1])), found[0])
        if not len(self._judging):
            raise InputError(
                "expected structures that are held out to judge the fits, got none; add structures, or draw a split "
                "that has some with --new-split"
            )
        self.n_all, self.n_judging = len(self._train), len(self._judging)

    def size(self, percent: float) -> int:
        """Number of structures of a part of the training set, groups aside."""
        return round(percent / 100.0 * self.n_all)

    def split(self, percent: float, repeat: int) -> Split:
        """The split of a fit: its validation set is what judges.

        Args:
            percent: of the training set.
            repeat: of the draw, from 1; the whole set is the same in all of them.
        """
        parts = [LEFT_OUT] * len(self._split.parts)
        for index in self._judging:
            parts[index] = "validation"
        wanted, n_taken = self.size(percent), 0
        for unit in self._units(repeat):
            # a group may make the set larger than asked for, by less than another group would leave it smaller
            if n_taken and n_taken + len(unit) / 2 > wanted:
                break
            for index in unit:
                parts[index] = "train"
            n_taken += len(unit)
        return replace(self._split, parts=tuple(parts))

    def _units(self, repeat: int) -> list[list[int]]:
        """Structures or groups in a random order, those first that bring an element, or the first forces."""
        store = self._store
        members: dict[str, list[int]] = {}
        for index in self._train.tolist():
            members.setdefault(store.groups[index] if self._is_grouped else store.names[index], []).append(
                index
            )
        names = sorted(members)
        order = np.random.default_rng([self._seed, 0xC0FFE, repeat]).permutation(len(names))
        units = [members[names[k]] for k in order]
        has_element = store.compositions(store.elements) > 0
        return _with_all_kinds_first(units, np.column_stack([has_element, store.has_forces]))


def _with_all_kinds_first(units: Sequence[list[int]], kinds: NDArray[np.bool_]) -> list[list[int]]:
    """The units, reordered so that no kind (a column) is missing longer than necessary."""
    first: list[list[int]] = []
    others: list[list[int]] = []
    seen = np.zeros(kinds.shape[1], dtype=np.bool_)
    for unit in units:
        own = kinds[unit].any(axis=0)
        (first if (own & ~seen).any() else others).append(unit)
        seen |= own
    return first + others
