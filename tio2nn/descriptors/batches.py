"""Small structures together: one search of neighbors and one pass of the kernels for many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK
from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure, checked_structure

_Result = TypeVar("_Result")


def batch_wise(
    structures: Iterable[Structure], compute: Callable[[Sequence[Structure]], list[_Result]]
) -> Iterator[_Result]:
    """The results of all structures, in order, computed batch by batch.

    Raises:
        InputError: of `compute`, when the turn of the structure at fault comes.
    """
    for batch in batches(structures):
        try:
            results = compute(batch)
        except InputError:
            # those before the one at fault are still wanted
            for structure in batch:
                yield from compute([structure])
        else:
            yield from results


def batches(structures: Iterable[Structure]) -> Iterator[Sequence[Structure]]:
    """Consecutive structures with together at most `CENTERS_PER_BLOCK` atoms, or one larger structure.

    Raises:
        InputError: of a reader that they come from; those before are in batches that came.
        TypeError: an item that is no structure.
    """
    if isinstance(structures, Structure):
        raise TypeError("structures: expected several, got one Structure; put it in a list")
    batch: list[Structure] = []
    n_atoms = 0
    try:
        for structure in structures:
            checked_structure(structure)
            if batch and n_atoms + structure.n_atoms > CENTERS_PER_BLOCK:
                yield batch
                batch, n_atoms = [], 0
            batch.append(structure)
            n_atoms += structure.n_atoms
    except InputError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
