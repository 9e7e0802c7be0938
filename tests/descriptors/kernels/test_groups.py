"""Groups of points: what is near, by trying all and by what a tree found, and neighbors of steps of a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.descriptors.kernels.groups import (
    Groups,
    NearGroups,
    all_near_groups,
    cells_of,
    close_pairs,
    fill_groups,
    find_points,
    measure_pairs,
    most_candidates,
    near_groups,
)

SPACING, EDGE, CUTOFF = 100.0, 3.0, 2.5
N_ATOMS = 90  # two structures: 50 and 40 points, each an atom
FIRST_ATOM = np.array([0, 50, 90])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    made = np.random.default_rng(8).uniform(-6.0, 6.0, (N_ATOMS, 4))
    made[:50, 3], made[50:, 3] = 0.0, SPACING
    return made


@pytest.fixture(scope="module")
def groups(points: np.ndarray) -> Groups:
    cells = cells_of(points, FIRST_ATOM, SPACING, EDGE)
    kinds = np.arange(N_ATOMS) % 2
    return Groups(*fill_groups(np.lexsort(cells.T[::-1]), cells, points, np.arange(N_ATOMS), kinds, N_ATOMS))


def test_cells_begin_at_the_first_atom_of_a_structure(points: np.ndarray) -> None:
    cells = cells_of(points, FIRST_ATOM, SPACING, EDGE)
    assert cells[:, 0].tolist() == [0] * 50 + [1] * 40
    for begin, end in ((0, 50), (50, 90)):
        np.testing.assert_array_equal(
            cells[begin:end, 1:], np.floor((points[begin:end, :3] - points[begin, :3]) / EDGE)
        )


def test_groups_have_each_point_once_within_their_radii(points: np.ndarray, groups: Groups) -> None:
    assert sorted(groups.points) == list(range(N_ATOMS))
    assert groups.first[0] == 0
    assert groups.first[-1] == N_ATOMS
    np.testing.assert_array_equal(groups.places.T, points[groups.points, :3])
    np.testing.assert_array_equal(groups.kinds, groups.points % 2)
    for group, (begin, end) in enumerate(zip(groups.first[:-1], groups.first[1:], strict=True)):
        own = groups.points[begin:end]
        assert end > begin
        assert (groups.group_of[own] == group).all()
        distances = np.linalg.norm(points[own] - groups.centers[group], axis=1)
        assert distances.max() == pytest.approx(groups.radii[group], abs=1e-12)
        assert distances.max() <= 0.5 * 3**0.5 * EDGE


def near_by_hand(groups: Groups, chosen: np.ndarray) -> list[list[int]]:
    reach = groups.radii[:, None] + groups.radii + CUTOFF
    distances = np.linalg.norm(groups.centers[:, None] - groups.centers, axis=2)
    return [np.flatnonzero(distances[group] <= reach[group]).tolist() for group in chosen]


@pytest.mark.parametrize("every", [1, 3])
def test_near_groups_are_those_whose_points_may_be_neighbors(groups: Groups, every: int) -> None:
    chosen = np.arange(0, len(groups.radii), every)
    expected = near_by_hand(groups, chosen)
    distances = np.linalg.norm(groups.centers[chosen][:, None] - groups.centers, axis=2)
    lefts, rights = np.nonzero(distances < 50.0)  # as a tree finds them, but in another order
    order = np.random.default_rng(1).permutation(len(lefts))
    of_tree = lefts[order], rights[order], distances[lefts, rights][order]
    for counts, near in (
        all_near_groups(chosen, groups.centers, groups.radii, CUTOFF),
        near_groups(*of_tree, chosen, groups.radii, CUTOFF),
    ):
        assert [part.tolist() for part in np.split(near, np.cumsum(counts)[:-1])] == expected


def searched(points: np.ndarray, groups: Groups, atoms: tuple[int, int]) -> tuple[np.ndarray, ...]:
    chosen = np.arange(len(groups.radii))
    counts, near = all_near_groups(chosen, groups.centers, groups.radii, CUTOFF)
    first = np.concatenate([[0], np.cumsum(counts)])
    most = most_candidates(groups, first, near)
    sizes = np.diff(groups.first)
    assert most == max(sizes[row].sum() for row in near_by_hand(groups, chosen))
    return find_points(groups, NearGroups(first, near, most), atoms, points, 2, CUTOFF)


def test_neighbors_are_those_within_the_cutoff_by_kind(points: np.ndarray, groups: Groups) -> None:
    start, stop = 10, 75
    found = searched(points, groups, (start, stop))
    first, vectors, atoms, coincident = measure_pairs(*found, points, np.arange(N_ATOMS), start, 2, CUTOFF)
    np.testing.assert_array_equal(first, found[0])
    np.testing.assert_array_equal(atoms, found[1])
    assert coincident == -1
    assert len(first) == 2 * (stop - start) + 1
    for center in range(start, stop):
        for kind in range(2):
            row = slice(*first[2 * (center - start) + kind :][:2])
            near = np.linalg.norm(points - points[center], axis=1) <= CUTOFF
            near[center] = False
            assert sorted(atoms[row]) == np.flatnonzero(near & (np.arange(N_ATOMS) % 2 == kind)).tolist()
            np.testing.assert_array_equal(vectors[row], (points[atoms[row]] - points[center])[:, :3])


def test_points_that_moved_are_neighbors_if_they_are_within_the_cutoff_now(
    points: np.ndarray, groups: Groups
) -> None:
    first, partners = searched(points, groups, (0, N_ATOMS))
    moved = points.copy()
    moved[:, :3] += np.random.default_rng(3).uniform(-0.2, 0.2, (N_ATOMS, 3))
    cutoff = CUTOFF - 0.8
    owners = np.random.default_rng(4).permutation(N_ATOMS)
    now, vectors, atoms, coincident = measure_pairs(first, partners, moved, owners, 0, 2, cutoff)
    assert coincident == -1
    assert 0 < now[-1] < first[-1]
    for row in range(len(first) - 1):
        own, old = slice(now[row], now[row + 1]), partners[first[row] : first[row + 1]]
        between = (moved[old] - moved[row // 2])[:, :3]
        kept = np.linalg.norm(between, axis=1) <= cutoff
        np.testing.assert_array_equal(atoms[own], owners[old[kept]])
        np.testing.assert_array_equal(vectors[own], between[kept])


@pytest.mark.parametrize("distance", [0.0, 1.2, CUTOFF + 0.1])
def test_close_pairs_are_those_within_the_distance(
    points: np.ndarray, groups: Groups, distance: float
) -> None:
    start, stop = 10, 75
    found = searched(points, groups, (start, stop))
    first, vectors, atoms, _ = measure_pairs(*found, points, np.arange(N_ATOMS), start, 2, CUTOFF)
    centers, others, between = close_pairs(first, atoms, vectors, start, 2, distance)
    near = np.flatnonzero(np.linalg.norm(vectors, axis=1) < distance)
    rows = np.repeat(np.arange(len(first) - 1), np.diff(first))
    np.testing.assert_array_equal(centers, start + rows[near] // 2)
    np.testing.assert_array_equal(others, atoms[near])
    np.testing.assert_array_equal(between, vectors[near])
