"""What a training set must contain: atoms of every element, forces, structures of rare compositions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.wording import counted, listed

# In a set of many compositions, such as random alloys, a fit interpolates between them and the held-out sets measure
# how well: training on every composition that occurs once would leave only the frequent ones for the test.
_STRUCTURES_PER_COMPOSITION = 10
# of a larger set, an element in so few structures tells nothing of its bonds but what these show
_MANY, _RARELY = 10, 2


def with_every_kind_in_training(
    parts: Sequence[str],
    units: Sequence[Sequence[int]],
    compositions: NDArray[np.integer],
    has_forces: NDArray[np.bool_] | None = None,
) -> list[str]:
    """A split whose training set has every element, forces, and, if compositions are few, every composition.

    A unit is a set of structures that stay together. A unit that training needs swaps places with a unit of at most
    its size that training can spare. If there is none, a unit needed for an element or for forces moves to training
    anyway; a unit needed for a composition stays. Compositions are compared as ratios, and kept only if they have 10
    structures each on average. A split that lacks nothing stays as it is.

    Args:
        parts: (n_structures,) "train" or another part.
        units: indices of the structures of each unit, all in one part; earlier units are preferred.
        compositions: (n_structures, n_elements) number of atoms; a row of zeros for a structure that is not used.
        has_forces: (n_structures,) default: none has forces.

    Returns:
        (n_structures,) the new parts.
    """
    marked = np.zeros(len(compositions), np.bool_) if has_forces is None else has_forces
    kinds, n_needed = _kinds(np.asarray(compositions, dtype=np.int64), marked)
    there = {kind for part, own in zip(parts, kinds, strict=True) if part == "train" for kind in own}
    missing = sorted({kind for own in kinds for kind in own} - there)
    found = list(parts)
    if not missing:
        return found
    of_unit = [{kind for index in unit for kind in kinds[index]} for unit in units]
    counts = Counter(
        kind for unit, own in zip(units, of_unit, strict=True) if found[unit[0]] == "train" for kind in own
    )
    for kind in missing:
        outside = [u for u, own in enumerate(of_unit) if kind in own and found[units[u][0]] != "train"]
        if counts[kind] or not outside:
            continue
        needed = min(outside, key=lambda u: len(units[u]))
        dispensable = [
            u
            for u, own in enumerate(of_unit)
            if found[units[u][0]] == "train"
            and len(units[u]) <= len(units[needed])
            and all(counts[k] > 1 or k in of_unit[needed] for k in own)
        ]
        if not dispensable and kind >= n_needed:
            continue
        part = found[units[needed][0]]
        for index in units[needed]:
            found[index] = "train"
        counts.update(of_unit[needed])
        if dispensable:
            leaving = max(dispensable, key=lambda u: len(units[u]))
            for index in units[leaving]:
                found[index] = part
            counts.subtract(of_unit[leaving])
    return found


def rare_elements(compositions: Iterable[Mapping[str, int]]) -> str | None:
    """A warning of elements that next to no structure of many has; None for none.

    Args:
        compositions: the number of atoms of each element, for each structure.
    """
    n = 0
    counts: Counter[str] = Counter()
    for composition in compositions:
        n += 1
        counts.update(composition.keys())
    if n < _MANY:
        return None
    rare = [f"{element} in {counts[element]}" for element in sorted(counts) if counts[element] <= _RARELY]
    if not rare:
        return None
    return (
        f"rare elements: {listed(rare)} of {counted(n, 'structure')}, too few to learn from or to test on; add "
        "structures with them, or leave these out"
    )


def _kinds(compositions: NDArray[np.int64], has_forces: NDArray[np.bool_]) -> tuple[list[list[int]], int]:
    """(n_structures,) what each structure offers to training: elements, then forces, then, if they are few, its
    composition; and how many kinds the elements and forces are."""
    n_needed = compositions.shape[1] + 1
    kinds = [np.flatnonzero(row).tolist() for row in compositions > 0]
    divisors = np.maximum(np.gcd.reduce(compositions, axis=1), 1)
    ratios, own = np.unique(compositions // divisors[:, None], axis=0, return_inverse=True)
    used = [k for k, elements in enumerate(kinds) if elements]
    are_few = np.count_nonzero(ratios.any(axis=1)) * _STRUCTURES_PER_COMPOSITION <= len(used)
    for k in used:
        if has_forces[k]:
            kinds[k].append(n_needed - 1)
        if are_few:
            kinds[k].append(n_needed + int(own.reshape(-1)[k]))
    return kinds, n_needed
