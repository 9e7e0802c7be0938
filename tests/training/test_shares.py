"""Shares of batches: equal numbers of structures, about equal work, and every structure once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart
from tio2nn.training.shares import dealt, require_shares


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.integers(0, 40))
def test_each_structure_of_a_batch_is_dealt_once_and_full_batches_equally(
    seed: int, n_ranks: int, share: int, n_more: int
) -> None:
    random, size = np.random.default_rng(seed), n_ranks * share
    order = random.permutation(n_more + size)
    work = random.integers(1, 100, len(order))
    shares = [dealt(order, work, size, JobPart(k, n_ranks)) for k in range(1, n_ranks + 1)]
    for begin in range(0, len(order), size):
        batch = set(order[begin : begin + size].tolist())
        own = [[int(one) for one in found if int(one) in batch] for found in shares]
        assert sorted(one for some in own for one in some) == sorted(batch)
        most = max(map(len, own))
        assert most == -(-len(batch) // n_ranks)
        # in the order of the epoch, and at the place where this batch begins
        for found, some in zip(shares, own, strict=True):
            first = begin // size * share
            assert found[first : first + len(some)].tolist() == some
            assert some == [int(one) for one in order[begin : begin + size] if int(one) in some]


def test_ranks_have_about_equal_work() -> None:
    random = np.random.default_rng(0)
    order, work = random.permutation(6400), random.integers(6, 96, 6400) ** 2

    def waiting(of_ranks: list[np.ndarray]) -> float:
        """Share of the time in which a rank waits for the slower one, batch by batch."""
        by_batch = np.array([work[own].reshape(-1, 32).sum(axis=1) for own in of_ranks])
        return float(1 - by_batch.mean(axis=0).sum() / by_batch.max(axis=0).sum())

    every_other = [order[k::2] for k in (0, 1)]
    assert waiting([dealt(order, work, 64, JobPart(k, 2)) for k in (1, 2)]) < 0.25 * waiting(every_other)


def test_batches_that_cannot_be_divided_are_refused_with_what_can() -> None:
    for number in (1, 2, 4, 32, 64):
        require_shares(JobPart(1, number), 64, 1000)
    with pytest.raises(UsageError, match=r"divides the batch size 12 \(2, 3, 4, 6, 12\), got 5$"):
        require_shares(JobPart(2, 5), 12, 13)
    # a single batch
    require_shares(JobPart(2, 5), 12, 12)
    with pytest.raises(UsageError, match="at most 3 ranks, one for each training structure, got 4"):
        require_shares(JobPart(1, 4), 64, 3)
    with pytest.raises(UsageError, match=r"batch size 1 \(none does\)"):
        require_shares(JobPart(1, 2), 1, 10)
