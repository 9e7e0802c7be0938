"""Where the atoms of structures are among the rows of their batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import IntArray


class Places(NamedTuple):
    """The atoms of structures in the order of batches.

    Attributes:
        rows: (n_atoms,) the place of each atom among those of its batch, subnet after subnet.
        first_atom: (n_structures + 1,) where the atoms of each structure begin.
    """

    rows: IntArray
    first_atom: IntArray

    @classmethod
    def of(
        cls,
        subnets: NDArray[np.int8],
        n_atoms: IntArray,
        counts: IntArray,
        size: int,
        room: IntArray | None = None,
    ) -> Places:
        """The places of atoms.

        Args:
            subnets: (n_atoms of all,) subnet of each atom.
            n_atoms: (n_structures,)
            counts: (n_structures, n_subnets)
            size: structures of a batch.
            room: (n_subnets,) rows of each subnet in a batch; None if there are as many as atoms.
        """
        batch_of_structure = np.arange(len(counts)) // size
        in_batch = np.zeros((int(batch_of_structure[-1]) + 1, counts.shape[1]), np.int64)
        np.add.at(in_batch, batch_of_structure, counts)
        first_of_batch = np.cumsum(in_batch, axis=0) - in_batch  # among all atoms of a subnet
        of_subnets = in_batch if room is None else np.broadcast_to(room, in_batch.shape)
        first_of_subnet = np.cumsum(of_subnets, axis=1) - of_subnets  # among the rows of a batch
        batch = np.repeat(batch_of_structure, n_atoms)
        rows = np.empty(len(batch), np.int64)
        for k in range(counts.shape[1]):
            own = subnets == k
            rank = np.arange(np.count_nonzero(own))
            rows[own] = rank - first_of_batch[batch[own], k] + first_of_subnet[batch[own], k]
        return cls(rows, np.concatenate([[0], np.cumsum(n_atoms)]))


def atoms_of(first_atom: IntArray, structures: slice) -> tuple[slice, IntArray]:
    """The atoms of consecutive structures, and (n_structures + 1,) where those of each begin among them."""
    first = first_atom[structures.start : structures.stop + 1]
    return slice(int(first[0]), int(first[-1])), first - first[0]


def rows_of(counts: IntArray, structures: IntArray) -> IntArray:
    """Rows of these structures, one after the other, in a matrix with `counts` (n_structures,) rows of each."""
    first = np.cumsum(counts) - counts
    chosen = counts[structures]
    before = np.cumsum(chosen) - chosen
    return np.asarray(np.repeat(first[structures] - before, chosen) + np.arange(chosen.sum()))
