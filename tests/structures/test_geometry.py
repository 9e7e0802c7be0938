from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import closest_distance, random_structure, structures

from tio2nn.structures import geometry
from tio2nn.structures.geometry import closest_pairs, complete_cell, reduced_cell, spans_volume
from tio2nn.structures.structure import Structure

ALL = (True, True, True)
UNIMODULAR = st.lists(
    st.tuples(st.sampled_from([(0, 1), (1, 2), (2, 0), (1, 0)]), st.integers(-9, 9)), max_size=4
)


def skewed(cell: np.ndarray, steps: list[tuple[tuple[int, int], int]]) -> np.ndarray:
    """The same lattice by other vectors."""
    cell = cell.copy()
    for (changed, added), times in steps:
        cell[changed] += times * cell[added]
    return cell


@given(structures())
def test_the_closest_pair_is_that_of_a_search_through_many_images(structure: Structure) -> None:
    pairs = closest_pairs([structure])
    expected = closest_distance(structure)
    assert pairs.distances[0] == (expected if np.isinf(expected) else pytest.approx(expected, rel=1e-9))
    if not np.isinf(expected):
        first, second = pairs.atoms[0]
        images = [range(-8, 9) if axis else (0,) for axis in structure.periodic]
        shifts = np.array(list(itertools.product(*images))) @ structure.cell
        between = structure.positions[second] - structure.positions[first]
        if any(structure.periodic):
            vectors = structure.cell[list(structure.periodic)]
            between = between - np.rint(between @ np.linalg.pinv(vectors)) @ vectors
        distances = np.linalg.norm(between + shifts, axis=1)
        assert np.abs(distances - expected).min() < 1e-9


@given(structures(periodicities=(ALL,)), UNIMODULAR)
def test_the_choice_of_cell_vectors_does_not_matter(
    structure: Structure, steps: list[tuple[tuple[int, int], int]]
) -> None:
    other = replace(structure, cell=skewed(structure.cell, steps))
    distances = closest_pairs([structure, other]).distances
    assert distances[1] == pytest.approx(distances[0], rel=1e-6)


def test_structures_of_mixed_sizes_are_handled_together() -> None:
    rng = np.random.default_rng(3)
    mixed = [random_structure(rng, n_atoms=int(n)) for n in rng.integers(1, 6, size=40)]
    found = closest_pairs(mixed).distances
    np.testing.assert_allclose(found, [closest_distance(structure) for structure in mixed], rtol=1e-9)


def test_nothing_has_no_closest_pair() -> None:
    assert closest_pairs([]).distances.shape == (0,)


@pytest.mark.parametrize("periodic", [ALL, (True, False, True), (False, True, False), (False, False, False)])
def test_a_tree_finds_in_large_structures_what_all_pairs_find(
    periodic: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    cells = [np.diag(rng.uniform(2, 9, 3)) + rng.normal(size=(3, 3)) for _ in range(8)]
    large = [
        Structure("x", ("O",) * 30, rng.uniform(-1, 2, (30, 3)) @ cell, cell, periodic)
        for cell in cells
        if spans_volume(cell, periodic)
    ]
    expected = closest_pairs(large)
    monkeypatch.setattr(geometry, "_MOST_ATOMS_FOR_ALL_PAIRS", 0)
    found = closest_pairs(large)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-9)
    np.testing.assert_array_equal(found.atoms, expected.atoms)


@given(structures(periodicities=(ALL,)), UNIMODULAR)
def test_a_reduced_cell_is_the_same_lattice_by_its_shortest_vectors(
    structure: Structure, steps: list[tuple[tuple[int, int], int]]
) -> None:
    cell = skewed(structure.cell, steps)
    reduced = reduced_cell(cell, ALL)
    coefficients = reduced @ np.linalg.inv(cell)
    np.testing.assert_allclose(coefficients, np.rint(coefficients), atol=1e-6)
    assert abs(np.linalg.det(reduced)) == pytest.approx(abs(np.linalg.det(cell)), rel=1e-6)
    combinations = np.array([c for c in itertools.product(range(-2, 3), repeat=3) if any(c)])
    shortest = np.sort(np.linalg.norm(combinations @ reduced, axis=1))[0]
    assert np.linalg.norm(reduced, axis=1).min() == pytest.approx(shortest, rel=1e-6)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(reduced), axis=0)
    assert np.linalg.norm(reduced, axis=1).min() <= 1.5 * heights.min()


def test_a_cell_of_two_periodic_vectors_keeps_the_third() -> None:
    cell = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 20.0], [7.0, 2.0, 0.0]])
    reduced = reduced_cell(cell, (True, False, True))
    np.testing.assert_array_equal(reduced[1], cell[1])
    np.testing.assert_allclose(np.sort(np.linalg.norm(reduced[[0, 2]], axis=1)), [1.0, 2.0])


def test_a_cell_that_is_too_long_to_be_told_from_its_rounding_stays_the_same_lattice() -> None:
    rng = np.random.default_rng(1)
    fcc = 0.5e5 * (1.0 - np.eye(3))
    for _ in range(1000):
        cell = fcc @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        coefficients = reduced_cell(cell, ALL) @ np.linalg.inv(cell)
        np.testing.assert_allclose(coefficients, np.rint(coefficients), atol=1e-9)


@pytest.mark.parametrize("periodic", list(itertools.product((True, False), repeat=3)))
def test_a_complete_cell_keeps_periodic_vectors_and_adds_normals(periodic: tuple[bool, bool, bool]) -> None:
    mask = np.array(periodic)
    cell = np.array([[4.0, 1.0, 0.3], [-1.0, 3.0, 0.2], [0.5, 0.7, 5.0]])
    complete = complete_cell(np.where(mask[:, None], cell, 0.0), periodic)
    np.testing.assert_array_equal(complete[mask], cell[mask])
    np.testing.assert_allclose(complete[~mask] @ complete[mask].T, 0.0, atol=1e-12)
    np.testing.assert_allclose(complete[~mask] @ complete[~mask].T, np.eye(int((~mask).sum())), atol=1e-12)


def test_flat_cells_span_nothing_along_periodic_axes() -> None:
    flat = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [3.0, 4.0, 0.0]])
    assert not spans_volume(flat, ALL)
    assert spans_volume(flat, (True, True, False))
    assert not spans_volume(np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]]), (True, True, False))
    assert spans_volume(flat, (True, False, False))
    assert not spans_volume(np.zeros((3, 3)), (True, False, False))
    assert spans_volume(np.zeros((3, 3)), (False, False, False))
    assert spans_volume(np.diag([1e-3, 1e3, 1.0]), ALL)
