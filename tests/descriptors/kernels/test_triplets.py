"""Blocks of triplets: all pairs of neighbors within reach of each other, once, in order, and never too many."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.descriptors.kernels.compiling import compiled
from tio2nn.descriptors.kernels.lanes import LANES
from tio2nn.descriptors.kernels.triplets import (
    BLOCK,
    CANDIDATES,
    COSINE,
    FACTOR,
    N_NEAR,
    N_ROWS,
    OWN_T,
    TAU,
    VALUE,
    gather_block,
    new_segments,
    place_in_rows,
)

CUTOFF = 4.0


@compiled
def next_block(vectors, values, candidates):  # type: ignore[no-untyped-def]
    n = vectors.shape[0]
    size = BLOCK + n + LANES
    near, table = np.zeros((N_NEAR, n + LANES)), np.full((N_ROWS, size), np.nan)
    rows, partners = np.zeros((2, CANDIDATES + n + LANES)), np.zeros(size, np.int64)
    segments = new_segments(n)
    place_in_rows(vectors, 0, n, CUTOFF, near)
    near[VALUE, :n] = values
    j, filled, n_segments = gather_block(near, rows, table, partners, segments, candidates)
    lefts, ends = segments.lefts[:n_segments].copy(), segments.ends[: n_segments + 1].copy()
    return j, lefts, ends, partners[:filled].copy(), table[:, : filled + LANES].copy()


def expected_pairs(vectors: np.ndarray, js: range, k_first: int, k_end: int) -> list[tuple[int, int]]:
    return [
        (j, k)
        for j in js
        for k in range(j + 1 if k_first < 0 else k_first, k_end)
        if np.linalg.norm(vectors[j] - vectors[k]) < CUTOFF
    ]


@pytest.mark.parametrize(
    ("n", "j_begin", "j_end", "k_first", "k_end"),
    [(70, 0, 70, -1, 70), (90, 0, 30, 30, 90), (90, 5, 6, 6, 90), (3, 0, 1, -1, 1), (120, 40, 120, -1, 120)],
)
def test_blocks_have_every_pair_once_and_the_geometry_of_each(
    n: int, j_begin: int, j_end: int, k_first: int, k_end: int
) -> None:
    rng = np.random.default_rng(n + j_begin)
    vectors = rng.normal(size=(n, 3))
    vectors *= rng.uniform(1.0, 0.99 * CUTOFF, (n, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = rng.uniform(0.5, 1.0, n)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    t = 1.0 - (vectors**2).sum(axis=1) / CUTOFF**2
    found: list[tuple[int, int]] = []
    j = j_begin
    while j < j_end:
        before = j
        j, lefts, ends, partners, table = next_block(vectors, values, (j, j_end, k_first, k_end))
        assert before < j <= j_end
        assert len(partners) < BLOCK + n
        assert ends[0] == 0
        assert ends[-1] == len(partners)
        pairs = [
            (int(left), int(k))
            for left, begin, end in zip(lefts, ends[:-1], ends[1:], strict=True)
            for k in partners[begin:end]
        ]
        # it ends with a neighbor, and only where it is full or nothing is left
        assert pairs == expected_pairs(vectors, range(before, j), k_first, k_end)
        if j < j_end:
            tried = sum(k_end - (i + 1 if k_first < 0 else k_first) for i in range(before, j))
            assert len(pairs) >= BLOCK or tried >= CANDIDATES
        one, other = (np.array([pair[end] for pair in pairs], dtype=int) for end in (0, 1))
        own = slice(len(pairs))
        np.testing.assert_allclose(table[COSINE, own], (units[one] * units[other]).sum(axis=1), atol=1e-13)
        squares = ((vectors[one] - vectors[other]) ** 2).sum(axis=1)
        np.testing.assert_allclose(table[OWN_T, own], 1.0 - squares / CUTOFF**2, atol=1e-13)
        np.testing.assert_allclose(table[TAU, own], t[one] + t[other], atol=1e-13)
        np.testing.assert_allclose(table[FACTOR, own], values[one] * values[other], rtol=1e-14)
        # what stands behind the last one has no effect on a sum
        assert not table[[COSINE, OWN_T, TAU, FACTOR], len(pairs) :].any()
        found += pairs
    assert found == expected_pairs(vectors, range(j_begin, j_end), k_first, k_end)
