"""A batch in pieces: consecutive structures, for which one thread can do all the work of a step.

Threads that have a piece each meet once a batch, when the gradients of the pieces are added; threads that share the
networks and structures of a whole batch meet three times, and wait there, as subnets have unequal work. How a batch is
cut depends on the structures and the network alone, so a fit has the same bits whatever the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tio2nn.training.batches import Batches
from tio2nn.training.flat_network import Shape

# Multiplications of a network in a piece, below which no batch is cut: with activations and the Jacobian about half a
# millisecond, where the Python of a piece takes 0.1. More than two pieces are slower: an epoch of TiO2, one network on
# two threads, took 0.90 s with two, 1.05 with four, and four networks 3.4 with two, 4.1 with four. Where there are more
# threads, they share the pieces.
_LEAST_WORK = 8e6
_N_PIECES = 2
# products of matrices of each layer in a step: three for energies, six with derivatives
_PRODUCTS, _PRODUCTS_WITH_GRADIENTS = 3, 6
# A structure of so many atoms takes as long for the products with its Jacobian, which grow with their square, as for
# the network.
_ATOMS_OF_EQUAL_WORK = 50


class Piece(NamedTuple):
    """Consecutive structures of a batch.

    Attributes:
        structures: of the batch.
        atoms: of each subnet, among its atoms in the batch.
    """

    structures: slice
    atoms: list[slice]


class Pieces:
    """The pieces of all batches.

    Args:
        batches: to be cut.
        n: pieces of each; some are empty where structures are few.

    Attributes:
        n: as above.
        most_atoms: (n_subnets,) of each subnet in any piece.
    """

    def __init__(self, batches: Batches, n: int) -> None:
        self.n = n
        first = np.arange(batches.n) * batches.size
        n_atoms = np.diff(batches.first_atom, axis=0).sum(axis=1).reshape(batches.n, batches.size)
        work = n_atoms * (1.0 + batches.uses_gradients * n_atoms / _ATOMS_OF_EQUAL_WORK)
        middle = np.cumsum(work, axis=1) - work / 2
        shares = work.sum(axis=1)[:, None] * np.arange(1, n) / n
        inner = np.count_nonzero(middle[:, None, :] < shares[:, :, None], axis=2)
        ends = np.broadcast_to([[0]], (batches.n, 1)), np.broadcast_to([[batches.size]], (batches.n, 1))
        self._cuts = np.concatenate([ends[0], inner, ends[1]], axis=1)
        self._atoms = batches.first_atom[first[:, None] + self._cuts] - batches.first_atom[first][:, None]
        self.most_atoms: list[int] = np.diff(self._atoms, axis=1).max(axis=(0, 1)).tolist()

    def of_batch(self, batch: int) -> list[Piece]:
        """The pieces of one batch."""
        cuts, atoms = self._cuts[batch].tolist(), self._atoms[batch].tolist()
        return [
            Piece(
                slice(cuts[p], cuts[p + 1]),
                [slice(begin, end) for begin, end in zip(atoms[p], atoms[p + 1], strict=True)],
            )
            for p in range(self.n)
        ]


def n_pieces(shape: Shape, batches: Batches) -> int:
    """How many pieces each batch is worth."""
    products = _PRODUCTS_WITH_GRADIENTS if batches.uses_gradients else _PRODUCTS
    multiplications = products * sum(np.multiply(shape.widths[1:], shape.widths[:-1]).tolist())
    n_atoms = int(batches.first_atom[-1].sum()) / batches.n
    is_worth_it = n_atoms * multiplications > _N_PIECES * _LEAST_WORK
    return min(batches.size, _N_PIECES) if is_worth_it else 1
