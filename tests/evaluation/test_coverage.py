"""Coverage of the atoms of a pool, against searches that look at everything at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tio2nn.evaluation.coverage import AtomCoverage, AtomPoints, AtomSample, atom_points, distances
from tio2nn.evaluation.measures import Greedy
from tio2nn.evaluation.pool import Item, Sieve
from tio2nn.potential.whitening import Whitening
from tio2nn.training.atom_table import AtomTable

FloatArray = NDArray[Any]


def atoms(counts: tuple[int, int], rng: np.random.Generator, center: float = 0.0) -> AtomPoints:
    """Atoms of two elements, in clusters."""
    centers = rng.normal(size=(5, 4)) + center
    return tuple(
        (centers[rng.integers(0, 5, n)] + 0.2 * rng.normal(size=(n, 4))).astype(np.float32) for n in counts
    )


def all_of(structures: list[AtomPoints]) -> AtomPoints:
    return tuple(np.concatenate([own[k] for own in structures]) for k in range(2))


def left_over(sample: AtomPoints, known: AtomPoints) -> float:
    """Sum of the distances of atoms from the nearest known one of their element."""
    return float(sum(distances(s, k).min(axis=1).sum() for s, k in zip(sample, known, strict=True)))


def test_atoms_are_covered_as_by_a_search_among_all() -> None:
    rng = np.random.default_rng(0)
    pool = [atoms((int(rng.integers(0, 5)), int(rng.integers(1, 9))), rng) for _ in range(90)]
    known, sample = atoms((6, 6), rng), all_of(pool)
    greedy = Greedy(AtomCoverage(sample, known, pool), len(pool))
    allowed = np.ones(len(pool), dtype=np.bool_)
    for _ in range(12):
        left = [left_over(sample, all_of([known, candidate])) for candidate in pool]
        best = greedy.largest(allowed)
        assert left[best] == pytest.approx(min(left), rel=1e-5)
        greedy.take(best, np.empty(0))
        allowed[best] = False
        known = all_of([known, pool[best]])


def test_an_element_that_is_not_known_yet_is_far_by_as_much_as_its_atoms_are_unusual() -> None:
    """Not infinitely, or the first structure that has it would win, an outlier or not."""
    rng = np.random.default_rng(4)
    usual = [(np.empty((0, 4), np.float32), 1.0 + 0.1 * atoms((0, 5), rng)[1]) for _ in range(30)]
    outlier = (np.empty((0, 4), np.float32), np.full((5, 4), 40.0, np.float32))
    pool: list[AtomPoints] = [outlier, *usual]
    known = (np.zeros((3, 4), np.float32), np.empty((0, 4), np.float32))
    coverage = AtomCoverage(all_of(pool), known, pool)
    assert np.isfinite(coverage.gains(np.arange(31))).all()
    sample = all_of(usual)
    assert Greedy(AtomCoverage(sample, known, pool), 31).largest(np.ones(31, dtype=np.bool_)) > 0


def test_structures_and_atoms_have_their_turns() -> None:
    """Of structures that differ little as a whole, those with unusual atoms come when atoms have their turn."""
    rng = np.random.default_rng(1)
    known_points = rng.normal(size=(20, 6))
    points = rng.normal(size=(50, 6))
    own = [atoms((3, 6), np.random.default_rng(7)) for _ in range(50)]
    unusual = {11, 33}
    for k in unusual:
        points[k] = points.mean(axis=0)
        own[k] = atoms((3, 6), rng, center=6.0)
    sieve = Sieve(known_points, 6)
    sieve.add(points, [Item(k, (3, 6), atoms=of) for k, of in enumerate(own)])
    found = sieve.choose("coverage", all_of(own), own[0]).choices
    assert [choice.for_atoms for choice in found] == [False, True] * 3
    assert {choice.item.place for choice in found[1:4:2]} == unusual
    alone = sieve.choose("coverage").choices
    assert not any(choice.for_atoms for choice in alone)


def test_a_sample_is_bounded_and_every_atom_as_likely() -> None:
    counts = np.zeros(300)
    for start in range(200):
        sample = AtomSample(30)
        order = np.random.default_rng(start).permutation(300)
        for k in range(0, 300, 3):
            rows = order[k : k + 3, None].astype(np.float32)
            sample.add((rows[:1], rows[1:]))
        first, second = sample.points()
        assert len(first) + len(second) == 30
        kept = np.concatenate([first, second]).astype(int)[:, 0]
        assert len(set(kept.tolist())) == 30
        counts[kept] += 1
    assert counts.sum() == 6000
    assert counts.std() == pytest.approx(np.sqrt(20 * 0.9), rel=0.2)  # of 200 draws of a tenth


def test_a_sample_keeps_all_of_few_and_nothing_of_nothing() -> None:
    rng, sample = np.random.default_rng(2), AtomSample(1000)
    assert sample.points() == ()
    structures = [atoms((0, 4), rng), atoms((2, 0), rng)]
    for own in structures:
        sample.add(own)
    for kept, own in zip(sample.points(), all_of(structures), strict=True):
        np.testing.assert_array_equal(kept, own)


def test_atoms_belong_to_their_structures_and_of_many_some_are_taken() -> None:
    rng = np.random.default_rng(3)
    n_atoms = np.array([3, 200, 5])
    features, elements = rng.normal(size=(208, 4)), np.tile([0, 1], 104)
    whitening = Whitening.fit(features)
    own = atom_points(AtomTable.from_rows(features, elements, n_atoms, 2), [whitening] * 2)
    points = whitening.points(features).astype(np.float32)
    first = 0
    for n, of_structure in zip(n_atoms, own, strict=True):
        for k in range(2):
            rows = points[first : first + n][elements[first : first + n] == k]
            found = of_structure[k]
            assert len(found) == min(len(rows), 32)
            assert len({row.tobytes() for row in found}) == len(found)
            assert {row.tobytes() for row in found} <= {row.tobytes() for row in rows}
        first += n
