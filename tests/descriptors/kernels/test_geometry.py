"""Neighborhoods and blocks of pairs within reach of each other."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.descriptors.kernels.compiling import U, compiled
from tio2nn.descriptors.kernels.geometry import (
    BLOCK,
    Neighborhood,
    gather_partners,
    new_neighborhood,
    new_pairs,
    place_neighbors,
)

CUTOFF = 4.0


@compiled
def gathered(vectors, js, begin, end):  # type: ignore[no-untyped-def]
    near, pairs = new_neighborhood(vectors.shape[0]), new_pairs(vectors.shape[0])
    place_neighbors(vectors, 0, vectors.shape[0], CUTOFF, near)
    filled = U(0)
    for j in js:
        filled = gather_partners(near, U(j), U(begin), U(end), pairs, filled)
    return near, pairs.partners[:filled], pairs.cosine[:filled], pairs.t[:filled]


@pytest.mark.parametrize(("begin", "end"), [(0, 20), (0, 7), (12, 20), (5, 5)])
def test_pairs_are_those_of_other_neighbors_within_the_cutoff_of_each_other(begin: int, end: int) -> None:
    vectors = np.random.default_rng(begin + end).uniform(-2.5, 2.5, (20, 3))
    js = np.array([3, 4, 15])
    near, partners, cosine, t = gathered(vectors, js, begin, end)
    near = Neighborhood(*near)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(np.stack(near[:3], axis=1), vectors / lengths[:, None], rtol=1e-13)
    np.testing.assert_allclose(near.r * CUTOFF, lengths, rtol=1e-13)
    np.testing.assert_allclose(near.r2, near.r**2, rtol=1e-13)
    np.testing.assert_allclose(near.t, np.maximum(1.0 - near.r2, 0.0), rtol=1e-12)
    expected = [
        (j, k)
        for j in js
        for k in range(begin, end)
        if k != j and np.linalg.norm(vectors[j] - vectors[k]) < CUTOFF
    ]
    assert len(expected) < BLOCK
    assert [k for _, k in expected] == partners.tolist()
    units = vectors / lengths[:, None]
    np.testing.assert_allclose(cosine, [units[j] @ units[k] for j, k in expected], atol=1e-13)
    squares = [np.sum((vectors[j] - vectors[k]) ** 2) for j, k in expected]
    np.testing.assert_allclose(t, 1.0 - np.array(squares) / CUTOFF**2, atol=1e-13)


def test_a_neighbor_is_no_partner_of_itself() -> None:
    _, partners, _, _ = gathered(np.ones((3, 3)), np.array([1]), 0, 3)
    assert partners.tolist() == [0, 2]
