"""The order of windows: every structure once in each epoch, in whole batches, mixed from the whole file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.training import windows as module
from tio2nn.training.windows import Window, in_turn, mixed

SIZES = st.lists(st.one_of(st.just(0), st.integers(1, 500)), min_size=1, max_size=80)


@given(SIZES, st.integers(1, 9), st.integers(1, 2000), st.integers(0, 5))
def test_an_order_has_every_structure_once_in_windows_of_whole_batches(
    sizes: list[int], batch_size: int, capacity: int, seed: int
) -> None:
    values = np.array(sizes)
    order, first = mixed(values, batch_size, capacity, np.random.default_rng(seed))
    n_batches = -(-len(sizes) // batch_size)
    assert sorted(order.tolist()) == list(range(len(sizes)))
    assert (first[0], first[-1]) == (0, n_batches)
    assert (np.diff(first) > 0).all()
    padded = np.zeros(n_batches * batch_size, np.int64)
    padded[: len(sizes)] = values[order]
    of_batch = padded.reshape(n_batches, batch_size).sum(axis=1)
    # the middle of each batch of a window lies in its share; before the shuffle no batch had more than the largest ones
    largest = np.sort(values)[::-1][:batch_size].sum()
    assert np.add.reduceat(of_batch, first[:-1]).max() <= capacity + 2 * largest


def test_windows_fill_their_capacity() -> None:
    _order, first = mixed(np.full(1000, 10), 5, 1050, np.random.default_rng(0))
    assert len(first) == 11
    assert len(set(np.diff(first).tolist())) == 1
    assert in_turn(np.zeros(8, np.int64), 3, 10).tolist() == [0, 3]


def test_a_window_mixes_blocks_from_the_whole_file_and_reads_them_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BLOCKS_OF_WINDOW", 10)
    order, first = mixed(np.full(4000, 10), 5, 10_000, np.random.default_rng(0))
    n = 5 * first[1]
    window = order[:n]
    assert n == 800  # five equal windows; four would exceed the capacity by a part of a batch
    # blocks of 100 structures, of which at most a cut one at its beginning and end is not whole
    runs = np.split(np.sort(window), np.flatnonzero(np.diff(np.sort(window)) > 1) + 1)
    assert len(runs) <= 12
    assert len({int(k) // 1000 for k in window}) >= 3
    # and they are shuffled
    assert np.count_nonzero(np.abs(np.diff(window)) == 1) < 20


def test_epochs_cut_and_order_blocks_in_other_ways() -> None:
    first, second = (
        mixed(np.full(400, 10), 5, 1000, np.random.default_rng([3, epoch])).order for epoch in (0, 1)
    )
    assert len(set(first[:95].tolist()) & set(second[:95].tolist())) < 60


def test_structures_without_derivatives_are_spread_over_all_windows() -> None:
    sizes = np.where(np.arange(2000) < 200, 10, 0)
    order, first = mixed(sizes, 5, 220, np.random.default_rng(0))
    of_window = [np.count_nonzero(sizes[order[5 * a : 5 * b]]) for a, b in itertools.pairwise(first)]
    n_of_window = 5 * np.diff(first)
    assert len(of_window) >= 9
    np.testing.assert_allclose(np.array(of_window) / n_of_window, 0.1, atol=0.04)


@pytest.mark.parametrize(
    ("n_values", "memory", "processes", "expected"),
    [
        (1000, 4000.0, 1, None),
        (1001, 4000.0, 1, Window(250, 500, 7)),
        (1001, 4000.0, 5, Window(50, 500, 7)),
    ],
)
def test_what_fits_into_memory_needs_no_windows(
    n_values: int, memory: float, processes: int, expected: Window | None
) -> None:
    assert Window.of(n_values, memory, 7, processes) == expected
