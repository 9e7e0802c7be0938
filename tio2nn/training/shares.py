"""Shares of the batches of an epoch, for several processes that compute the same batches together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart

IntArray = NDArray[np.int64]


def require_shares(rank: JobPart, batch_size: int, n_structures: int) -> None:
    """Refuse a number of ranks by which batches cannot be divided.

    Args:
        rank: one of them.
        batch_size: of the settings.
        n_structures: of the training set, which is a single batch if it is smaller.

    Raises:
        UsageError: a full batch has no equal shares.
    """
    if n_structures <= batch_size:
        if rank.total > n_structures:
            raise UsageError(
                f"--rank: expected at most {n_structures} ranks, one for each training structure, got {rank.total}"
            )
    elif batch_size % rank.total:
        fitting = [str(n) for n in range(2, batch_size + 1) if batch_size % n == 0]
        raise UsageError(
            f"--rank: expected a number of ranks that divides the batch size {batch_size} "
            f"({', '.join(fitting) or 'none does'}), got {rank.total}"
        )


def dealt(order: IntArray, work: IntArray, size: int, rank: JobPart) -> IntArray:
    """The structures of one rank: of each batch an equal number, and about equal work.

    The structures of a batch are dealt from the largest to the smallest, to and fro: with two ranks, whose waiting for
    each other is then 1 % of the work of TiO2, and 7 % if every other structure is taken.

    Args:
        order: (n_structures,) of an epoch.
        work: (n_structures of the set,) of each structure.
        size: structures of a batch; all ranks get the same number of a full one if they divide it.
        rank: which one.

    Returns:
        Its structures, in their order.
    """
    if rank.total == 1:
        return order
    places = np.arange(len(order))
    # within each batch, the largest first
    largest_first = np.lexsort((places, -work[order], places // size))
    turn, seat = np.divmod(places % size, rank.total)
    seat = np.where(turn % 2 == 0, seat, rank.total - 1 - seat)
    return np.asarray(order[np.sort(largest_first[seat == rank.number - 1])])
