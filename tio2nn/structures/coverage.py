"""What a training part must not lack: atoms of every element, forces, and structures of rare compositions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Where compositions are many, as in random alloys, a fit has to interpolate between them and the held-out parts must
# tell how well: to train on every one that occurs once would leave only the frequent ones to be tested.
_STRUCTURES_PER_COMPOSITION = 10


def with_every_kind_in_training(
    parts: Sequence[str],
    units: Sequence[Sequence[int]],
    compositions: NDArray[np.integer],
    has_forces: NDArray[np.bool_] | None = None,
) -> list[str]:
    """Parts in which training has every element, forces, and every composition where there are few.

    A unit of structures that stay together, and that is needed in training, changes places with one of the same size,
    or smaller, that is not. For an element, or for forces, it goes there also where none can take its place; for a
    composition it does not. Compositions are compared as ratios, and looked after if there are 10 structures for each
    on average. What lacks nothing stays as it is.

    Args:
        parts: (n_structures,) "train" or another.
        units: positions of the structures of each unit, which all have one part; earlier ones are preferred.
        compositions: (n_structures, n_elements) number of atoms; a row of zeros for a structure that is not used.
        has_forces: (n_structures,) by default of none.

    Returns:
        (n_structures,)
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


def _kinds(compositions: NDArray[np.int64], has_forces: NDArray[np.bool_]) -> tuple[list[list[int]], int]:
    """(n_structures,) what training must not lack of each, elements first, then forces, and compositions behind, and
    how many kinds of the first two there are; compositions only where they are few."""
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
