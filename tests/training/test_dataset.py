from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.training.atom_table import AtomTable, write_transformed
from tio2nn.training.dataset import FitData, ForceLabels, Labels

# subnet of each atom of five structures; one has no atom of subnet 0, one no atom at all
SUBNETS = [[0, 1, 1], [2, 1], [], [1, 0, 2, 0], [0]]
N_SUBNETS = 3


@st.composite
def subnet_lists(draw: st.DrawFn) -> list[list[int]]:
    """For each structure the subnets of its atoms."""
    atoms = st.lists(st.integers(0, N_SUBNETS - 1), max_size=6)
    return draw(st.lists(atoms, min_size=1, max_size=8))


def rows(subnets: list[list[int]]) -> np.ndarray:
    """(n_atoms of all, 2) the structure of each atom, and its number in it."""
    named = [(s, atom) for s, own in enumerate(subnets) for atom in range(len(own))]
    return np.array(named, dtype=np.float64).reshape(-1, 2)


def table(subnets: list[list[int]]) -> AtomTable:
    flat = np.array([k for own in subnets for k in own], dtype=np.int64)
    return AtomTable.from_rows(rows(subnets), flat, np.array([len(own) for own in subnets]), N_SUBNETS)


def expected(subnets: list[list[int]], chosen: list[int], subnet: int) -> list[list[float]]:
    """The atoms of one subnet, one structure after the other."""
    return [[float(s), float(atom)] for s in chosen for atom, k in enumerate(subnets[s]) if k == subnet]


def test_atoms_are_sorted_by_subnet_and_stay_in_order() -> None:
    found = table(SUBNETS)
    assert found.counts.tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 0], [2, 1, 1], [1, 0, 0]]
    assert found.n_atoms.tolist() == [3, 2, 0, 4, 1]
    assert found.features[0].tolist() == [[0, 0], [3, 1], [3, 3], [4, 0]]
    assert found.features[1].tolist() == [[0, 1], [0, 2], [1, 1], [3, 0]]
    assert found.features[2].tolist() == [[1, 0], [3, 2]]
    assert [found.segments(k).tolist() for k in range(3)] == [[0, 3, 3, 4], [0, 0, 1, 3], [1, 3]]


@given(subnet_lists(), st.data())
def test_a_selection_has_the_atoms_of_its_structures_in_its_order(
    subnets: list[list[int]], data: st.DataObject
) -> None:
    # some structures more than once, some not at all
    chosen = data.draw(st.lists(st.integers(0, len(subnets) - 1), max_size=10))
    found = table(subnets).select(np.array(chosen, dtype=np.int64))
    assert found.n_atoms.tolist() == [len(subnets[s]) for s in chosen]
    for k in range(N_SUBNETS):
        assert found.features[k].tolist() == expected(subnets, chosen, k)
        owners = [place for place, s in enumerate(chosen) for own in subnets[s] if own == k]
        assert found.segments(k).tolist() == owners
        assert found.counts[:, k].tolist() == [owners.count(place) for place in range(len(chosen))]


@given(subnet_lists(), st.data())
def test_parts_gathered_from_blocks_are_the_selections_of_the_whole(
    subnets: list[list[int]], data: st.DataObject
) -> None:
    n = len(subnets)
    part_of = data.draw(st.lists(st.sampled_from([None, 0, 1]), min_size=n, max_size=n))
    parts = [np.array([k for k in range(n) if part_of[k] == part], dtype=np.int64) for part in (0, 1)]
    first_atoms = np.cumsum([0, *map(len, subnets)])
    borders = data.draw(st.lists(st.sampled_from(range(n + 1)), max_size=3).map(sorted))
    blocks = np.split(rows(subnets), first_atoms[borders])
    flat = np.array([k for own in subnets for k in own], dtype=np.int64)
    found = AtomTable.gather(blocks, flat, np.array([len(own) for own in subnets]), N_SUBNETS, parts)
    for gathered, part in zip(found, parts, strict=True):
        expected_table = table(subnets).select(part)
        np.testing.assert_array_equal(gathered.counts, expected_table.counts)
        for own, other in zip(gathered.features, expected_table.features, strict=True):
            assert own.dtype == np.float64
            np.testing.assert_array_equal(own, other)


def test_what_is_gathered_and_transformed_in_a_file_is_what_it_is_in_memory(tmp_path: Path) -> None:
    flat = np.array([k for own in SUBNETS for k in own], dtype=np.int64)
    n_atoms = np.array([len(own) for own in SUBNETS])
    parts = [np.array([0, len(SUBNETS) - 1]), np.array([1])]
    scratch, file = tmp_path / "scratch", tmp_path / "features.f32"
    scratch.touch()
    gathered = [
        AtomTable.gather([rows(SUBNETS)], flat, n_atoms, N_SUBNETS, parts, place) for place in (None, scratch)
    ]
    functions = [np.negative, lambda matrix: 3.0 * matrix, np.sqrt]
    written = write_transformed(gathered[1], functions, file)
    for in_memory, in_scratch, in_file in zip(*gathered, written, strict=True):
        assert (in_memory.file, in_scratch.file, in_file.file) == (None, scratch, file)
        whitened = in_memory.transformed(functions)
        np.testing.assert_array_equal(in_file.counts, in_memory.counts)
        begins = in_file.begins()
        values = np.fromfile(file, "<f4")
        for k in range(N_SUBNETS):
            np.testing.assert_array_equal(in_scratch.features[k][:], in_memory.features[k])
            np.testing.assert_array_equal(in_file.features[k][:], whitened.features[k])
            for structure, n in enumerate(in_file.counts[:, k].tolist()):
                own = values[begins[structure, k] :][: 2 * n].reshape(n, 2)
                chosen = whitened.rows(k, np.array([structure]))
                np.testing.assert_array_equal(own, np.asarray(whitened.features[k])[chosen])


def test_blocks_that_are_not_all_atoms_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks: expected 3 rows, got 2"):
        AtomTable.gather([np.zeros((2, 1))], np.zeros(3, int), np.array([3]), 1, [np.array([0])])


@given(subnet_lists(), st.data())
def test_a_selection_of_a_selection_is_one_selection(subnets: list[list[int]], data: st.DataObject) -> None:
    structures = st.integers(0, len(subnets) - 1)
    first = np.array(data.draw(st.lists(structures, min_size=1, max_size=6)), dtype=np.int64)
    second = np.array(data.draw(st.lists(st.integers(0, len(first) - 1), max_size=6)), dtype=np.int64)
    whole = table(subnets)
    found, direct = whole.select(first).select(second), whole.select(first[second])
    np.testing.assert_array_equal(found.counts, direct.counts)
    for part, other in zip(found.features, direct.features, strict=True):
        np.testing.assert_array_equal(part, other)


def test_each_matrix_has_a_transformation_of_its_own_in_float64_and_becomes_float32() -> None:
    def difference(matrix: np.ndarray) -> np.ndarray:
        assert matrix.dtype == np.float64
        return (1e9 + matrix) - 1e9

    found = table(SUBNETS).transformed([difference, np.negative, lambda matrix: matrix[:, :1]])
    assert [part.dtype for part in found.features] == [np.float32] * 3
    assert found.features[0].tolist() == [[0, 0], [3, 1], [3, 3], [4, 0]]
    assert found.features[1].tolist() == [[0, -1], [0, -2], [-1, -1], [-3, 0]]
    assert found.features[2].tolist() == [[1], [3]]
    np.testing.assert_array_equal(found.counts, table(SUBNETS).counts)


def with_forces(jacobian: np.ndarray) -> FitData:
    """A part of two structures, of which the second has forces, twice."""
    one = table([[0, 1], [1, 0, 0]])
    forces = ForceLabels(
        jacobian,
        np.array([-1, 12]),
        np.arange(15, dtype=np.float32).reshape(5, 3),
        np.array([0, 1, 1, 0, 0], np.int8),
        np.array([2, 3]),
    )
    labels = Labels(np.array([1.0, 2.0]), np.ones(2))
    matrices = tuple((k + 1.0) * np.eye(2) for k in range(len(one.features)))
    return FitData(one, labels, one, labels, forces, forces, matrices)


def test_forces_are_read_back_and_their_derivatives_stay_where_they_are(tmp_path: Path) -> None:
    numbers = np.arange(100, dtype="<f4")
    numbers.tofile(tmp_path / "jacobian.f32")
    mapped = np.memmap(tmp_path / "jacobian.f32", dtype="<f4", mode="r")
    data = with_forces(mapped)
    data.save(tmp_path / "data.npz")
    again = FitData.load(tmp_path / "data.npz", data.derivatives_file)
    for one, other in (
        (data.train_forces, again.train_forces),
        (data.validation_forces, again.validation_forces),
    ):
        assert one is not None
        assert other is not None
        assert isinstance(other.jacobian, np.memmap)
        for name in ("jacobian", "offsets", "forces", "subnets", "n_atoms"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
    for matrix, same in zip(data.whitening_matrices, again.whitening_matrices, strict=True):
        np.testing.assert_array_equal(matrix, same)
    with pytest.raises(ValueError, match="expected a memory-mapped file, got an array"):
        _ = with_forces(numbers).derivatives_file


def test_data_without_forces_come_back_without(tmp_path: Path) -> None:
    one = table([[0, 1], [1, 0, 0]])
    labels = Labels(np.array([1.0, 2.0]), np.ones(2))
    data = FitData(one, labels, one, labels)
    data.save(tmp_path / "data.npz")
    assert data.derivatives_file is None
    again = FitData.load(tmp_path / "data.npz", None)
    assert (again.train_forces, again.validation_forces, again.whitening_matrices) == (None, None, ())
    np.testing.assert_array_equal(again.train.features[0], one.features[0])
