from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import peak_bytes
from strategies import examples, random_structure

from tio2nn.io.read import read_structures
from tio2nn.structures import groups as module
from tio2nn.structures.groups import find_groups
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

ALL = (True, True, True)
SLAB = (True, True, False)
FREE = (False, False, False)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs are compared in full, each time."""
    found, compare = list[int](), module._distances

    def counted(*arguments: np.ndarray) -> np.ndarray:
        distances = compare(*arguments)
        found.append(len(distances))
        return distances

    monkeypatch.setattr(module, "_distances", counted)
    return found


def random(seed: int, periodic: tuple[bool, bool, bool] = ALL, n_atoms: int = 4) -> Structure:
    structure = random_structure(np.random.default_rng(seed), n_atoms=n_atoms, periodic=periodic)
    return replace(structure, name=f"s{seed}", elements=("Ti", "O", "O", "O", "O")[:n_atoms])


def scaled(structure: Structure, scale: float) -> Structure:
    return replace(structure, positions=structure.positions * scale, cell=structure.cell * scale)


def moved(structure: Structure, seed: int) -> Structure:
    """Another frame of the same cell."""
    shift = np.random.default_rng(seed).normal(scale=0.1, size=structure.positions.shape)
    return replace(structure, positions=structure.positions + shift)


def printed(structure: Structure) -> Structure:
    """As a file gives it, with 8 decimals."""
    return replace(structure, positions=structure.positions.round(8), cell=structure.cell.round(8))


@given(
    st.lists(st.floats(0.8, 1.3), min_size=2, max_size=6, unique_by=lambda x: round(x, 3)), st.integers(0, 99)
)
def test_a_volume_scan_is_a_group_however_it_is_spread_and_printed(scales: list[float], seed: int) -> None:
    one = random(seed)
    lattice = np.random.default_rng(seed).integers(-3, 4, size=(4, 3)) @ one.cell
    other = random(seed + 100)
    structures = [other]
    for scale in scales:
        # atoms of one scan may lie in other cells, and all may be displaced together
        member = replace(one, positions=one.positions + lattice + scale)
        structures += [printed(scaled(member, scale)), scaled(other, scale * scale * 1.7 + len(structures))]
    groups = find_groups(structures)
    members = list(range(1, len(structures), 2))
    assert groups.group[members].tolist() == [1] * len(members)
    assert groups.scan[members].tolist() == [1] * len(members)
    assert groups.run.tolist() == [-1] * len(structures)
    assert groups.duplicate_of[members].tolist() == [-1] * len(members)
    assert groups.group[::2].tolist() == [0] * (len(members) + 1)


def test_a_rotated_scan_is_one() -> None:
    one = random(1)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    other = replace(one, positions=one.positions @ rotation * 1.1, cell=one.cell @ rotation * 1.1)
    assert find_groups([one, other]).scan.tolist() == [0, 0]


def test_scans_differ_in_shape_positions_elements_or_periodicity() -> None:
    one = random(1)
    stretched = one.cell * [[1.0], [1.0], [1.001]]
    variations = [
        one,
        replace(one, positions=one.positions @ np.linalg.inv(one.cell) @ stretched, cell=stretched),
        replace(scaled(one, 1.1), positions=scaled(one, 1.1).positions + np.eye(4, 3) * 1e-3),
        replace(scaled(one, 1.2), elements=("O", "Ti", "O", "O")),
        replace(scaled(one, 1.3), periodic=SLAB),
    ]
    assert find_groups(variations).group.tolist() == [0, 1, 2, 3, 4]


def test_slabs_are_scanned_by_the_scale_of_their_plane() -> None:
    slab = random(2, SLAB)
    other = replace(scaled(slab, 1.1), cell=scaled(slab, 1.1).cell * [[1.0], [1.0], [5.0]])
    assert find_groups([slab, other]).scan.tolist() == [0, 0]


def test_frames_of_one_cell_are_a_run_as_long_as_nothing_comes_between() -> None:
    one, other = random(1), random(2)
    frames = [moved(one, seed) for seed in range(3)]
    groups = find_groups([*frames, other, *[moved(one, seed) for seed in (3, 4)], moved(other, 5)])
    assert groups.run.tolist() == [0, 0, 0, -1, 4, 4, -1]
    assert groups.group.tolist() == [0, 0, 0, 3, 4, 4, 6]


def test_frames_differ_in_cell_or_elements() -> None:
    one = random(1)
    sheared = replace(moved(one, 0), cell=one.cell + 1e-3)
    renamed = replace(moved(one, 1), elements=("O", "Ti", "O", "O"))
    assert find_groups([one, sheared]).run.tolist() == [-1, -1]
    assert find_groups([one, renamed]).run.tolist() == [-1, -1]


def test_molecules_are_frames_of_a_run_only_inside_one_file() -> None:
    one = replace(random(1, FREE), file="a.xyz")
    assert find_groups([one, moved(one, 0)]).run.tolist() == [0, 0]
    assert find_groups([one, replace(moved(one, 0), file="b.xyz")]).run.tolist() == [-1, -1]


def test_scans_and_runs_that_share_a_structure_are_one_group() -> None:
    one = random(1)
    groups = find_groups([one, moved(one, 0), random(3), scaled(moved(one, 0), 1.1)])
    assert groups.group.tolist() == [0, 0, 2, 0]
    assert groups.scan.tolist() == [-1, 1, -1, 1]
    assert groups.run.tolist() == [0, 0, -1, -1]


def test_duplicates_are_equal_in_scale_too() -> None:
    one, other = random(1), random(2)
    groups = find_groups([one, other, printed(one), scaled(one, 1.1), other, scaled(one, 1.1)])
    assert groups.duplicate_of.tolist() == [-1, -1, 0, -1, 1, 3]
    assert groups.scan.tolist() == [0, -1, 0, 0, -1, 0]
    assert groups.group.tolist() == [0, 1, 0, 0, 1, 0]


def test_duplicate_molecules_are_found_wherever_they_are() -> None:
    one = replace(random(1, FREE), file="a.xyz")
    other = replace(one, positions=one.positions + np.array([1.0, 2.0, 3.0]), file="b.xyz")
    groups = find_groups([one, other])
    assert groups.duplicate_of.tolist() == [-1, 0]
    assert groups.scan.tolist() == [-1, -1]


@examples(20)
@given(st.permutations(range(12)))
def test_scans_do_not_depend_on_where_their_members_stand(order: list[int]) -> None:
    bases = [random(seed) for seed in range(3)]
    members = [(kind, scaled(bases[kind], 1.0 + 0.03 * step)) for step in range(4) for kind in range(3)]
    shuffled = [members[place] for place in order]
    scan = find_groups([structure for _, structure in shuffled]).scan
    first = {kind: min(p for p, (k, _) in enumerate(shuffled) if k == kind) for kind in range(3)}
    assert scan.tolist() == [first[kind] for kind, _ in shuffled]


@examples(300)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=2, max_size=10))
def test_groups_are_connected_components_although_equality_within_a_tolerance_is_not_transitive(
    offsets: list[list[int]],
) -> None:
    one, cube = random(1), 5.0 * np.eye(3)
    structures = []
    for k, offset in enumerate(offsets):
        # multiples of 0.36 of the tolerance apart; of different scale, lest they be frames of a run
        fractional = one.positions / 5.0
        fractional[1, :2] += 3.6e-6 * np.array(offset[:2])
        fractional[2, :2] += 3.6e-6 * np.array(offset[2:])
        structures.append(scaled(replace(one, positions=fractional @ cube, cell=cube), 1.0 + 0.01 * k))
    group = list(range(len(offsets)))
    for i, j in itertools.combinations(range(len(offsets)), 2):
        if max(abs(a - b) for a, b in zip(offsets[i], offsets[j], strict=True)) <= 2:
            low, high = sorted((group[i], group[j]))
            group = [low if g == high else g for g in group]
    assert find_groups(structures).group.tolist() == group


def test_nothing_has_no_groups() -> None:
    assert find_groups([]).group.shape == (0,)


def test_many_equal_structures_take_no_square_of_time_or_memory() -> None:
    one = random(1)
    groups = find_groups([one] * 20_000)
    assert (groups.group == 0).all()
    assert (groups.duplicate_of[1:] == 0).all()


def test_copies_of_two_structures_that_barely_differ_are_not_each_compared_with_each(
    compared: list[int],
) -> None:
    # an eighth of a cell from the first atom neither sine nor cosine tells 1.1 times the tolerance
    one, rng = (
        replace(random(1), positions=0.625 * np.eye(4, 3, k=-1), cell=5.0 * np.eye(3)),
        np.random.default_rng(0),
    )
    other = replace(one, positions=one.positions * (1.0 + 1.1e-5 / 0.125))
    structures = [
        replace(s, positions=s.positions + rng.uniform(-1e-9, 1e-9, (4, 3)))
        for s in (one, other)
        for _ in range(1000)
    ]
    assert find_groups(structures).duplicate_of.tolist() == [-1] + [0] * 999 + [-1] + [1000] * 999
    assert sum(compared) <= 20 * len(structures)


@pytest.mark.parametrize("tremor", [0.03, 0.003])
def test_frames_of_one_cell_are_compared_with_few_others(tremor: float, compared: list[int]) -> None:
    one, rng = random(1, n_atoms=5), np.random.default_rng(0)
    frames = [
        replace(one, positions=one.positions + rng.normal(scale=tremor, size=(5, 3))) for _ in range(3000)
    ]
    assert (find_groups(frames).duplicate_of == -1).all()
    # each round looks at four times as many neighbors
    assert len(compared) <= 10
    assert sum(compared) <= len(frames)


@pytest.mark.parametrize("noise", [1e-8, 1e-6])
def test_thousands_that_differ_within_the_tolerance_are_not_each_compared_with_each(
    noise: float, compared: list[int]
) -> None:
    one, rng = replace(random(1, n_atoms=5), cell=5.0 * np.eye(3)), np.random.default_rng(0)
    structures = [
        replace(one, positions=one.positions + 5.0 * rng.uniform(-noise, noise, (5, 3))) for _ in range(4000)
    ]
    assert find_groups(structures).duplicate_of.tolist() == [-1] + [0] * 3999
    assert sum(compared) <= 20 * len(structures)


def trembling(n: int, noise: float) -> list[Structure]:
    """A cell of 24 atoms whose coordinates differ by so much; all 72 columns vary alike."""
    rng = np.random.default_rng(0)
    one = Structure("s", ("O",) * 24, rng.uniform(0.0, 5.0, (24, 3)), 5.0 * np.eye(3))
    return [
        replace(one, positions=one.positions + 5.0 * rng.uniform(-noise, noise, (24, 3))) for _ in range(n)
    ]


@pytest.mark.parametrize("noise", [5e-6, 7e-6, 1e-5])
def test_a_crowd_that_trembles_by_the_tolerance_is_not_compared_each_with_each(
    noise: float, compared: list[int]
) -> None:
    structures = trembling(4000, noise)
    duplicate_of = find_groups(structures).duplicate_of
    # twice 64, and some in the rounds before
    assert sum(compared) <= 160 * len(structures)
    assert np.count_nonzero(duplicate_of >= 0) > 0.99 * len(structures)


def test_a_crowd_is_one_wherever_its_members_stand() -> None:
    structures, order = trembling(700, 7e-6), np.random.default_rng(1).permutation(700)
    one, other = find_groups(structures).group, find_groups([structures[k] for k in order]).group
    for k in range(5):
        assert sorted(np.flatnonzero(one == one[k])) == sorted(order[other == other[order == k]])


def test_twins_in_a_crowd_are_found_by_what_differs_in_it(compared: list[int]) -> None:
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(4):
        # the columns that vary most over all are those in which the 600 of one family agree
        still = rng.uniform(0.0, 5.0, (29, 3))
        for _ in range(300):
            positions = np.concatenate([still, 2.5 + rng.uniform(-0.05, 0.05, (1, 3))])
            tremor = rng.uniform(-1e-5, 1e-5, (2, 30, 3))
            structures += [Structure("s", ("O",) * 30, positions + one, 5.0 * np.eye(3)) for one in tremor]
    expected = [[-1, k] for k in range(0, 2400, 2)]
    assert find_groups(structures).duplicate_of.reshape(-1, 2).tolist() == expected
    assert sum(compared) <= 160 * len(structures)


@pytest.mark.parametrize("seed", range(20))
def test_chains_of_many_that_differ_little_are_connected_as_pair_by_pair(seed: int) -> None:
    one, rng = replace(random(1), cell=5.0 * np.eye(3)), np.random.default_rng(seed)
    # some walks by less than the tolerance, of which many lie within it and some come near each other again
    walks = np.cumsum(rng.uniform(-4e-6, 4e-6, (3, 60, 4, 3)), axis=1) + rng.uniform(
        -2e-5, 2e-5, (3, 1, 4, 3)
    )
    walks[:, :, 0] = 0.0
    offsets = walks.reshape(180, 12)
    structures = [
        scaled(replace(one, positions=one.positions + 5.0 * offset.reshape(4, 3)), 1.0 + 0.01 * k)
        for k, offset in enumerate(offsets)
    ]
    equal = np.abs(offsets[:, None] - offsets).max(axis=2) <= 1e-5
    group = np.arange(180)
    for i, j in zip(*np.nonzero(equal), strict=True):
        group[group == max(group[i], group[j])] = min(group[i], group[j])
    assert find_groups(structures).group.tolist() == group.tolist()


def test_copies_are_found_on_both_sides_of_the_border_of_a_box() -> None:
    one, rng = random(1), np.random.default_rng(0)
    structures = []
    for _ in range(500):
        first = replace(one, positions=one.positions + rng.normal(scale=0.1, size=(4, 3)))
        # at half the tolerance, on either side
        noise = rng.uniform(-1e-6, 1e-6, (4, 3))
        structures += [first, replace(first, positions=first.positions + noise @ first.cell)]
    duplicate_of = find_groups(structures).duplicate_of
    assert duplicate_of[1::2].tolist() == list(range(0, 1000, 2))


def test_grouping_takes_little_more_memory_than_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 64)
    n, n_atoms, rng = 1500, 60, np.random.default_rng(0)
    structures = [
        Structure(f"s{k}", ("O",) * n_atoms, rng.uniform(0.0, 9.0, (n_atoms, 3)), 9.0 * np.eye(3))
        for k in range(n)
    ]
    # one copy of the positions is 24 bytes an atom; what a structure takes besides does not grow with its size
    assert peak_bytes(lambda: find_groups(structures)) < 30 * n_atoms * n + 500 * n


def test_the_public_data_has_63_volume_scans(test_data: Path) -> None:
    structures = sorted_by_name(read_structures(test_data / "data" / "data-set-2016-TiO2.tar.bz2"))
    assert len(structures) == 7146
    groups = find_groups(structures)
    assert len(np.unique(groups.scan[groups.scan >= 0])) == 63
    assert np.count_nonzero(groups.scan >= 0) == 3276
    assert len(np.unique(groups.run[groups.run >= 0])) == 29
    assert np.count_nonzero(groups.run >= 0) == 3857
    assert len(np.unique(groups.group)) == 102
    pairs = {
        structures[index].name: structures[first].name
        for index, first in enumerate(groups.duplicate_of)
        if first >= 0
    }
    assert pairs == {
        "structure1957": "structure1062",
        "structure4632": "structure2947",
        "structure6248": "structure6147",
        "structure7191": "structure6350",
        "structure7471": "structure7412",
        "structure7754": "structure7640",
    }
