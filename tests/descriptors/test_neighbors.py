from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from strategies import structures

from tio2nn.descriptors import neighbors as neighbors_module
from tio2nn.descriptors.neighbors import CENTERS_PER_TASK, MOST_NEIGHBORS, neighbor_lists
from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure

FREE = (False, False, False)
Vector = tuple[float, float, float]


def _search(many: list[Structure], cutoff: float) -> list[list[dict[Vector, int]]]:
    """Of each atom of each structure: the vectors to its neighbors, rounded, and which atom each leads to."""
    kinds = np.zeros(sum(structure.n_atoms for structure in many), np.int64)
    found: list[dict[Vector, int]] = []
    for neighbors in neighbor_lists(many, cutoff, kinds, 1):
        assert neighbors.first_atom == len(found)
        for center in range(neighbors.n_atoms):
            row = slice(neighbors.first[center], neighbors.first[center + 1])
            first_atom = _first_atom_of(neighbors.first_atom + center, many)
            rows = zip(neighbors.vectors[row], neighbors.atoms[row] - first_atom, strict=True)
            found.append({_rounded(vector): int(atom) for vector, atom in rows})
            assert len(found[-1]) == neighbors.first[center + 1] - neighbors.first[center]
    ends = np.cumsum([structure.n_atoms for structure in many])
    return [found[end - s.n_atoms : end] for end, s in zip(ends, many, strict=True)]


def _first_atom_of(atom: int, many: list[Structure]) -> int:
    first = 0
    for structure in many:
        if atom < first + structure.n_atoms:
            break
        first += structure.n_atoms
    return first


def _rounded(vector: NDArray[np.float64]) -> Vector:
    x, y, z = (round(float(component), 8) + 0.0 for component in vector)
    return x, y, z


def _expected(structure: Structure, cutoff: float) -> list[dict[Vector, int]]:
    around = [reference.neighbors(structure, center, cutoff) for center in range(structure.n_atoms)]
    return [{_rounded(j.vector): j.atom for j in row} for row in around]


def _crystal(*lengths: float, n_atoms: int = 1) -> Structure:
    positions = np.linspace(0.0, 0.5, n_atoms)[:, None] * np.array(lengths)
    return Structure("crystal", ("O",) * n_atoms, positions, np.diag(lengths), file="crystal.xsf")


@given(st.lists(structures(), min_size=1, max_size=4), st.sampled_from((0.9, 2.3, 4.1)))
def test_neighbors_are_all_images_within_the_cutoff(many: list[Structure], cutoff: float) -> None:
    assert _search(many, cutoff) == [_expected(structure, cutoff) for structure in many]


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
def test_neighbors_of_typical_structures_are_complete(name: str, request: pytest.FixtureRequest) -> None:
    structure = request.getfixturevalue(name)
    assert _search([structure], 4.5) == [_expected(structure, 4.5)]


def test_an_atom_alone_has_its_images_as_neighbors_and_never_itself() -> None:
    (rows,) = _search([_crystal(2.0, 2.0, 2.0)], 2.1)
    assert rows == [{tuple(2.0 * v for v in (x, y, z)): 0 for x, y, z in _NEAREST}]
    assert _search([replace(_crystal(2.0, 2.0, 2.0), periodic=FREE)], 50.0) == [[{}]]


_NEAREST = [v for v in product((-1, 0, 1), repeat=3) if sum(map(abs, v)) == 1]


def test_an_axis_that_is_not_periodic_has_no_images_whatever_its_vector() -> None:
    sheet = replace(_crystal(2.0, 2.0, 0.3), periodic=(True, True, False))
    (rows,) = _search([sheet], 2.5)
    assert len(rows[0]) == 4
    assert all(z == 0.0 for _, _, z in rows[0])


@pytest.mark.parametrize("third", [(0.0, 0.0, 0.0), (9.0, 3.0, 0.5), (0.0, 0.0, 20.0)])
def test_the_third_vector_of_a_slab_does_not_matter(slab: Structure, third: Vector) -> None:
    cell = slab.cell.copy()
    cell[2] = third
    assert _search([replace(slab, cell=cell)], 4.5) == [_expected(slab, 4.5)]


def test_atoms_many_cells_away_have_the_same_neighbors(skew_crystal: Structure) -> None:
    away = np.array([[40, -7, 3], [0, 0, 0], [-25, 1, 60], [2, 2, 2], [0, -90, 0]]) @ skew_crystal.cell
    moved = replace(skew_crystal, positions=skew_crystal.positions + away)
    assert _search([moved], 4.5) == [_expected(skew_crystal, 4.5)]


def test_structures_at_the_same_place_do_not_see_each_other(molecule: Structure, slab: Structure) -> None:
    many = [molecule, replace(molecule, name="again"), slab, molecule]
    assert _search(many, 4.5) == [_expected(structure, 4.5) for structure in many]


def test_neighbors_come_by_kind_and_in_an_order_of_their_own(
    skew_crystal: Structure, thin_crystal: Structure
) -> None:
    def kinds(many: list[Structure]) -> NDArray[np.int64]:
        return np.array([s == "O" for structure in many for s in structure.elements], dtype=np.int64)

    (alone,) = neighbor_lists([skew_crystal], 4.5, kinds([skew_crystal]), 2)
    both = [thin_crystal, skew_crystal]
    (together,) = neighbor_lists(both, 4.5, kinds(both), 2)
    for row in range(10):
        wanted = slice(alone.first[row], alone.first[row + 1])
        got = slice(together.first[row + 4], together.first[row + 5])
        assert wanted.stop > wanted.start
        assert {skew_crystal.elements[atom] for atom in alone.atoms[wanted]} == {("Ti", "O")[row % 2]}
        np.testing.assert_array_equal(together.vectors[got], alone.vectors[wanted])
        np.testing.assert_array_equal(together.atoms[got] - 2, alone.atoms[wanted])


def test_centers_come_in_blocks() -> None:
    chain = np.arange(2.5 * CENTERS_PER_TASK)[:, None] * np.array([1.0, 0.0, 0.0])
    structure = Structure("chain", ("O",) * len(chain), chain, np.zeros((3, 3)), FREE)
    blocks = list(neighbor_lists([structure], 1.1, np.zeros(len(chain), np.int64), 1))
    assert [block.n_atoms for block in blocks] == [
        CENTERS_PER_TASK,
        CENTERS_PER_TASK,
        CENTERS_PER_TASK // 2,
    ]
    assert sum(len(block.vectors) for block in blocks) == 2 * (len(chain) - 1)


def test_coincident_atoms_are_an_error_that_names_them(molecule: Structure) -> None:
    overlapping = replace(molecule, positions=molecule.positions[[0, 1, 2, 1]])
    message = r"^molecule\.xsf: expected atoms at different places, got atoms 2 and 4 at the same place$"
    with pytest.raises(InputError, match=message):
        _search([overlapping], 4.5)


@given(structures(periodicities=((True, True, True),)), st.tuples(*[st.integers(-3, 3)] * 3))
def test_atoms_that_coincide_through_an_image_are_an_error(
    structure: Structure, image: tuple[int, int, int]
) -> None:
    n = structure.n_atoms
    twin = structure.positions[n // 2] + np.array(image) @ structure.cell
    overlapping = replace(
        structure,
        elements=(*structure.elements, "O"),
        positions=np.vstack([structure.positions, twin]),
        file="twin.xsf",
        line=12,
    )
    with pytest.raises(
        InputError, match=rf"^twin\.xsf:12: .* got atoms {n // 2 + 1} and {n + 1} at the same"
    ):
        _search([overlapping], 2.0)


def test_coincident_atoms_are_found_in_the_right_structure_of_a_batch(
    molecule: Structure, skew_crystal: Structure
) -> None:
    overlapping = replace(molecule, positions=molecule.positions[[0, 1, 1, 3]])
    with pytest.raises(InputError, match=r"^molecule\.xsf: .* got atoms 2 and 3 at"):
        _search([skew_crystal, overlapping, skew_crystal], 4.5)


def test_atoms_close_together_are_not_the_same(molecule: Structure) -> None:
    close = replace(molecule, positions=molecule.positions + 0.0)
    close.positions[1] = close.positions[0] + [1e-4, 0.0, 0.0]
    assert (1e-4, 0.0, 0.0) in _search([close], 4.5)[0][0]


@pytest.mark.parametrize("edge", [1e-3, 1e-4, 2e-6])
@pytest.mark.parametrize("others", ["thin", "thick"])
def test_a_cell_too_thin_is_an_error_instead_of_a_full_memory(edge: float, others: str) -> None:
    crystal = _crystal(edge, *[edge if others == "thin" else 4.0] * 2)
    with pytest.raises(InputError, match=r"^crystal\.xsf: expected at most \d+ (atoms|neighbors) .* in Å\?$"):
        _search([crystal], 6.5)


@pytest.mark.parametrize("edge", [0.0, 1e-7, 1e-160, 1e-200, 1e-300, 1e-320])
@pytest.mark.parametrize("others", ["thin", "thick"])
def test_a_cell_of_next_to_nothing_is_an_error(edge: float, others: str) -> None:
    crystal = _crystal(4.0, *[edge if others == "thin" else 4.0, edge])
    with pytest.raises(
        InputError, match=r"^crystal\.xsf: expected cell vectors longer than 1e-06 Å, got a shorter "
    ):
        _search([_crystal(2.0, 2.0, 2.0), crystal], 6.5)


def test_vectors_in_one_plane_are_an_error(skew_crystal: Structure) -> None:
    cell = skew_crystal.cell.copy()
    cell[2] = cell[0] - cell[1]
    with pytest.raises(InputError, match=r"^skew\.xsf: expected independent cell vectors, got "):
        _search([skew_crystal, replace(skew_crystal, cell=cell)], 4.5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
@pytest.mark.parametrize("periodic", [(True, True, True), (True, True, False), FREE])
def test_numbers_out_of_all_bounds_are_an_error(
    skew_crystal: Structure, value: float, periodic: tuple[bool, bool, bool]
) -> None:
    cell, positions = skew_crystal.cell.copy(), skew_crystal.positions.copy()
    cell[1, 1] = positions[3, 0] = value
    for broken in (replace(skew_crystal, cell=cell), replace(skew_crystal, positions=positions)):
        with pytest.raises(
            InputError, match=r"^skew\.xsf: expected positions and cell vectors within 1e\+08 Å, "
        ):
            _search([skew_crystal, replace(broken, periodic=periodic)], 4.5)


def test_a_cell_may_be_as_long_as_a_centimeter() -> None:
    (rows,) = _search([_crystal(9e7, 4.0, 4.0)], 4.1)
    assert rows == [{_rounded(4.0 * np.array(v)): 0 for v in _NEAREST if v[0] == 0}]


def test_a_crowd_is_an_error_that_asks_for_the_unit() -> None:
    # 600 atoms/Å³, as lengths in nm make them: too many pairs for the memory, though the points are few
    rng = np.random.default_rng(0)
    crowd = Structure("nm", ("O",) * 600, rng.uniform(size=(600, 3)), np.eye(3), file="nm.xsf")
    message = (
        rf"^nm\.xsf: expected at most {MOST_NEIGHBORS} neighbors within 2\.2 Å, got \d+ around atom \d+: "
    )
    with pytest.raises(InputError, match=message):
        _search([crowd], 2.2)


def test_the_number_of_neighbors_is_limited_and_not_that_of_atoms() -> None:
    lattice = np.array(list(product(range(28), repeat=3)), dtype=float)
    large = Structure("large", ("O",) * len(lattice), lattice, 28.0 * np.eye(3))
    assert large.n_atoms > MOST_NEIGHBORS
    n_pairs = sum(len(block.vectors) for block in neighbor_lists([large], 1.1, np.zeros(28**3, np.int64), 1))
    assert n_pairs == 6 * 28**3


def test_a_tree_of_groups_finds_what_trying_all_of_them_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    cell = np.array([[40.0, 0.0, 0.0], [7.0, 30.0, 0.0], [0.0, 3.0, 24.0]])
    positions = rng.uniform(size=(2000, 3)) @ cell
    structure = Structure("amorphous", ("O",) * len(positions), positions, cell, (True, True, False))
    kinds = rng.integers(0, 2, len(positions))
    trees = 0

    def tree(*arguments: object, **options: object) -> object:
        nonlocal trees
        trees += 1
        return cKDTree(*arguments, **options)

    monkeypatch.setattr(neighbors_module, "cKDTree", tree)
    one_by_one = list(neighbor_lists([structure], 3.3, kinds, 2))
    assert not trees
    monkeypatch.setattr(neighbors_module, "_FEW_PAIRS", 0)
    by_tree = list(neighbor_lists([structure], 3.3, kinds, 2))
    assert trees
    assert sum(len(block.vectors) for block in by_tree) > 10_000
    for block, other in zip(one_by_one, by_tree, strict=True):
        np.testing.assert_array_equal(block.first, other.first)
        np.testing.assert_array_equal(block.vectors, other.vectors)
        np.testing.assert_array_equal(block.atoms, other.atoms)
