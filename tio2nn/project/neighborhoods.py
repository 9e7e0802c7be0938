"""Statistics of interatomic distances, from which the preset auto chooses its functions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.neighbors import NeighborList, neighbor_lists
from tio2nn.errors import InputError
from tio2nn.parameters.choose_functions import STEP, Statistics
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.geometry import closest_pairs
from tio2nn.structures.structure import Structure

# Evenly spaced in larger sets: percentiles are then accurate to 0.01 Å
_MOST_STRUCTURES = 2000
_MOST_ATOMS = 20_000
# Å; slightly beyond the longest cutoff chosen for materials of ordinary density
_REACH = 8.0
# in units of the median closest distance: open crystals of large atoms have cutoffs beyond 8 Å; and if lengths are in
# nm, with a thousand neighbors within 1, do not count ten thousand
_SHORTEST_REACH, _LONGEST_REACH = 3.0, 10.0
_FARTHEST = 16.0  # Å; three nearest-neighbor distances in cesium
_ATOMS_AT_ONCE = 1000  # about 10 MB with neighbors
_LOW = 5.0  # percent
_LARGEST = 95.0  # percent
_OF_ONE = 0.9  # of the structures, at least, if they are one molecule


class _Found(NamedTuple):
    """Distances in a batch of structures, one row per atom except in the last array."""

    kinds: NDArray[np.int64]  # (n_atoms,) indices of the elements
    nearest: FloatArray  # (n_atoms, n_kinds) Å, inf where there is none
    counts: NDArray[np.int64]  # (n_atoms, n_steps) neighbors between k and k + 1 steps
    is_finite: NDArray[np.bool_]  # (n_atoms,) no periodic images within reach
    extents: FloatArray  # (n finite structures,) Å, inf beyond reach


def statistics(store: StructureStore, elements: Sequence[str]) -> Statistics:
    """Distances and numbers of neighbors, from all structures or a large sample.

    Args:
        store: at least one structure.
        elements: of the parameter set; those of the structures are among them.
    """
    structures = [store[k] for k in _drawn(store)]
    n_steps = _steps(structures)
    found = [_look_at(batch, elements, n_steps) for batch in _batches(structures)]
    kinds, nearest, counts, is_finite, extents = _joined(found)
    of_any = nearest.min(axis=1)
    distances = {
        (elements[a], elements[b]): np.concatenate([nearest[kinds == a, b], nearest[kinds == b, a]])
        for a, b in itertools.combinations_with_replacement(range(len(elements)), 2)
    }
    most_are_finite = bool(2 * np.count_nonzero(is_finite) > len(is_finite))
    counted = counts[is_finite == most_are_finite]
    return Statistics(
        elements=tuple(elements),
        spacing=_percentile(of_any, _LOW),
        nearest={
            pair: (low, median)
            for pair, values in distances.items()
            if (low := _percentile(values, _LOW)) is not None
            and (median := _percentile(values, 50.0)) is not None
        },
        is_finite=most_are_finite,
        extent=float(np.percentile(extents, _LARGEST, method="higher")) if len(extents) else np.inf,
        neighbors_within=tuple(np.cumsum(counted.sum(axis=0) / max(len(counted), 1)).tolist()),
        is_one_molecule=most_are_finite and _have_one_composition(structures),
    )


def _have_one_composition(structures: Sequence[Structure]) -> bool:
    """But for a few."""
    counts = Counter(tuple(sorted(structure.composition.items())) for structure in structures)
    return max(counts.values()) >= _OF_ONE * len(structures)


def _percentile(distances: FloatArray, percent: float) -> float | None:
    """Percentile of the finite distances; None without any."""
    finite = distances[np.isfinite(distances)]
    return float(np.percentile(finite, percent)) if len(finite) else None


def _drawn(store: StructureStore) -> list[int]:
    """Evenly spaced structures, plus one for each element that these lack."""
    n = len(store)
    n_drawn = min(n, _MOST_STRUCTURES, max(1, n * _MOST_ATOMS // len(store.numbers)))
    drawn = [k * n // n_drawn for k in range(n_drawn)]
    _, first_atoms = np.unique(store.numbers, return_index=True)
    owners = np.searchsorted(store.offsets, first_atoms, side="right") - 1
    are_drawn = np.zeros(len(store.numbers), dtype=np.bool_)
    for k in drawn:
        are_drawn[store.offsets[k] : store.offsets[k + 1]] = True
    lacking = set(np.unique(store.numbers)) - set(np.unique(store.numbers[are_drawn]))
    of_element = dict(zip(np.unique(store.numbers).tolist(), owners.tolist(), strict=True))
    return sorted({*drawn, *(of_element[number] for number in lacking)})


def _steps(structures: Sequence[Structure]) -> int:
    """How far to count neighbors, in units of `STEP`."""
    closest = _percentile(closest_pairs(structures).distances, 50.0)
    if closest is None:
        return round(_REACH / STEP)
    reach = min(max(_REACH, _SHORTEST_REACH * closest), _LONGEST_REACH * closest, _FARTHEST)
    return max(1, round(reach / STEP))


def _batches(structures: Sequence[Structure]) -> Iterator[list[Structure]]:
    batch: list[Structure] = []
    for structure in structures:
        if batch and sum(s.n_atoms for s in batch) + structure.n_atoms > _ATOMS_AT_ONCE:
            yield batch
            batch = []
        batch.append(structure)
    yield batch


def _look_at(structures: list[Structure], elements: Sequence[str], n_steps: int) -> _Found:
    """Distances in some structures; structures with errors are skipped, and reported by `featurize`."""
    kinds = np.array([elements.index(element) for s in structures for element in s.elements], dtype=np.int64)
    sizes = np.array([s.n_atoms for s in structures])
    try:
        blocks = [
            _look_around(block, n_steps, np.repeat(sizes, sizes))
            for block in neighbor_lists(structures, n_steps * STEP, kinds, len(elements))
        ]
    except InputError:
        if len(structures) > 1:
            middle = len(structures) // 2
            halves = (structures[:middle], structures[middle:])
            return _joined([_look_at(half, elements, n_steps) for half in halves])
        nothing = np.empty(0)
        return _Found(
            nothing.astype(np.int64),
            np.empty((0, len(elements))),
            np.empty((0, n_steps), np.int64),
            nothing.astype(np.bool_),
            nothing,
        )
    nearest, counts, farthest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    extents = np.maximum.reduceat(farthest, np.cumsum(sizes) - sizes)
    finite = np.isfinite(extents) | np.array([not any(s.periodic) for s in structures])
    return _Found(kinds, nearest, counts, np.repeat(finite, sizes), extents[finite])


def _joined(found: Sequence[_Found]) -> _Found:
    return _Found(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _look_around(
    block: NeighborList, n_steps: int, sizes: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Nearest neighbor of each kind, numbers of neighbors, and the distance of the farthest atom in the structure.

    The last is inf unless the neighbors of an atom are exactly the other atoms of its structure, each once.
    """
    n_atoms = block.n_atoms
    distances = np.sqrt((block.vectors**2).sum(axis=1))
    # each (atom, kind) has a segment of the arrays, possibly empty
    nearest = np.full(n_atoms * block.n_kinds, np.inf)
    is_there = np.diff(block.first) > 0
    nearest[is_there] = np.minimum.reduceat(distances, block.first[:-1][is_there]) if is_there.any() else []
    n_neighbors = np.diff(block.first[:: block.n_kinds])
    centers = np.repeat(np.arange(n_atoms), n_neighbors)
    steps = np.minimum((distances / STEP).astype(np.int64), n_steps - 1)
    counts = np.bincount(centers * n_steps + steps, minlength=n_atoms * n_steps)
    n_all = len(sizes)
    others = np.unique(centers * n_all + block.atoms)
    is_other = others % n_all != others // n_all + block.first_atom
    n_others = np.bincount(others[is_other] // n_all, minlength=n_atoms)
    sees_all = (n_others == n_neighbors) & (
        n_neighbors == sizes[block.first_atom : block.first_atom + n_atoms] - 1
    )
    farthest = np.where(sees_all, 0.0, np.inf)
    np.maximum.at(farthest, centers, distances)
    return nearest.reshape(n_atoms, -1), counts.reshape(n_atoms, -1), farthest
