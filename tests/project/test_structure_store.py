from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.project.structure_store import StructureStore, read_store, write_store
from tio2nn.structures.structure import Structure


@pytest.fixture
def originals(skew_crystal: Structure, slab: Structure, molecule: Structure) -> list[Structure]:
    """Different sizes, periodic axes and labels."""
    forces = np.linspace(-1.0, 1.0, 15).reshape(5, 3)
    return [
        replace(skew_crystal, name="ü-1", energy=-19960.123456789012, forces=forces, line=7),
        replace(slab, energy=-3.0),
        replace(molecule, elements=("Og", "H", "O", "O")),
    ]


@pytest.fixture
def store(originals: list[Structure], tmp_path: Path) -> StructureStore:
    """Written and read back."""
    path = tmp_path / "structures" / "structures.npz"
    write_store(path, originals, groups=["a", "b", "a"], reference_energies={"Ti": -1600.5, "O": -430.25})
    return read_store(path)


def test_geometries_are_digested_without_making_structures(
    store: StructureStore, originals: list[Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(StructureStore, "__getitem__")
    assert store.geometry_hashes == tuple(original.geometry_hash for original in originals)


def test_structures_come_back_to_the_last_bit(originals: list[Structure], store: StructureStore) -> None:
    assert len(store) == 3
    for original, structure in zip(originals, store, strict=True):
        for field in ("name", "elements", "periodic", "energy", "file", "line"):
            assert getattr(structure, field) == getattr(original, field)
        np.testing.assert_array_equal(structure.positions, original.positions)
        np.testing.assert_array_equal(structure.cell, original.cell)
        if original.forces is None:
            assert structure.forces is None
        else:
            np.testing.assert_array_equal(structure.forces, original.forces)
    assert store.geometry_hashes == tuple(original.geometry_hash for original in originals)


def test_a_part_of_the_structures_may_have_a_stress(originals: list[Structure], tmp_path: Path) -> None:
    stress = np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.5], [0.3, 0.5, 0.7]])
    write_store(tmp_path / "with.npz", [replace(originals[0], stress=stress), *originals[1:]])
    store = read_store(tmp_path / "with.npz")
    np.testing.assert_array_equal(store[0].stress, stress)
    assert [structure.stress is None for structure in store] == [False, True, True]
    np.testing.assert_array_equal(store.has_stress, [True, False, False])
    assert store.digest_of_stresses is not None


def test_a_store_without_stresses_is_what_it_was(originals: list[Structure], tmp_path: Path) -> None:
    write_store(tmp_path / "without.npz", originals)
    with np.load(tmp_path / "without.npz") as content:
        assert "stresses" not in content
        header = bytes(content["header"]).decode()
        assert not any(word in header for word in ("stress", "config_type", "weight"))
    store = read_store(tmp_path / "without.npz")
    assert not store.has_stress.any()
    assert store.digest_of_stresses is None
    assert store.weights is None
    assert store.stresses.shape == (3, 3, 3)


def test_kinds_and_weights_are_kept(originals: list[Structure], tmp_path: Path) -> None:
    write_store(tmp_path / "x.npz", [replace(originals[0], config_type="ü", weight=0.1), *originals[1:]])
    store = read_store(tmp_path / "x.npz")
    assert [(s.config_type, s.weight) for s in store] == [("ü", 0.1), ("", 1.0), ("", 1.0)]
    np.testing.assert_array_equal(store.weights, [0.1, 1.0, 1.0])


@pytest.mark.parametrize(
    "notes",
    [
        {"weights": [1.0]},
        {"weights": [1.0, -1.0, 1.0]},
        {"weights": [1.0, "1", 1.0]},
        {"weights": [1.0, float("nan"), 1.0]},
        {"config_types": ["a", 1, "b"]},
        {"config_types": ["a"]},
    ],
)
def test_damaged_kinds_and_weights_are_refused(
    originals: list[Structure], tmp_path: Path, notes: dict[str, list[object]]
) -> None:
    write_store(tmp_path / "x.npz", originals)
    with np.load(tmp_path / "x.npz") as content:
        arrays = dict(content)
    header = json.loads(bytes(arrays["header"]).decode()) | notes
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match="expected a structure store, got "):
        read_store(tmp_path / "x.npz")


def test_structures_are_found_by_index_name_and_slice(store: StructureStore) -> None:
    assert store[-1].name == store["molecule"].name == "molecule"
    assert [structure.name for structure in store[:2]] == ["ü-1", "slab"]
    with pytest.raises(IndexError):
        store[3]
    with pytest.raises(KeyError):
        store["nothing"]


def test_arrays_belong_to_all_structures_at_once(store: StructureStore) -> None:
    np.testing.assert_array_equal(store.n_atoms, [5, 3, 4])
    np.testing.assert_array_equal(store.has_forces, [True, False, False])
    np.testing.assert_array_equal(store.energies, [-19960.123456789012, -3.0, np.nan])
    assert store.positions.shape == (12, 3)
    assert store.elements == ("H", "O", "Og", "Ti")
    assert store.groups == ("a", "b", "a")
    assert store.reference_energies == {"Ti": -1600.5, "O": -430.25}
    np.testing.assert_array_equal(
        store.compositions(store.elements), [[0, 3, 0, 2], [0, 2, 0, 1], [1, 2, 1, 0]]
    )
    np.testing.assert_array_equal(store.element_indices(("Ti", "O", "H", "Og"))[5:], [0, 1, 1, 3, 2, 1, 1])


def test_cohesive_energies_are_totals_without_reference_energies_per_atom(store: StructureStore) -> None:
    expected = [(-19960.123456789012 + 2 * 1600.5 + 3 * 430.25) / 5, (-3.0 + 1600.5 + 2 * 430.25) / 3, np.nan]
    np.testing.assert_allclose(store.cohesive_energies, expected, rtol=1e-15)


def test_an_element_without_reference_energy_leaves_its_structures_alone_unknown(
    tmp_path: Path, originals: list[Structure]
) -> None:
    labeled = [replace(structure, energy=-1.0) for structure in originals]
    write_store(tmp_path / "s.npz", labeled, reference_energies={"Ti": -1.0, "O": -1.0, "H": -1.0})
    np.testing.assert_array_equal(
        np.isnan(read_store(tmp_path / "s.npz").cohesive_energies), [False, False, True]
    )


def test_an_unexpected_element_is_named_with_its_file(store: StructureStore) -> None:
    with pytest.raises(InputError, match=r"molecule\.xsf: expected the elements Ti, O, got Og"):
        store.element_indices(("Ti", "O"))


def test_equal_structures_make_equal_files(tmp_path: Path, originals: list[Structure]) -> None:
    for name in ("one.npz", "other.npz"):
        write_store(tmp_path / name, originals)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_an_empty_store_is_one(tmp_path: Path) -> None:
    write_store(tmp_path / "s.npz", [])
    assert list(read_store(tmp_path / "s.npz")) == []


def test_two_structures_of_one_name_are_refused(tmp_path: Path, molecule: Structure) -> None:
    with pytest.raises(ValueError, match="expected distinct names, got one twice"):
        write_store(tmp_path / "s.npz", [molecule, molecule])


def test_damage_is_noticed_and_named(tmp_path: Path, originals: list[Structure]) -> None:
    path = tmp_path / "s.npz"
    write_store(path, originals)
    whole = path.read_bytes()
    hashes = [structure.geometry_hash for structure in originals]
    random = Random(0)
    complaints = []
    for attempt in range(300):
        damaged = bytearray(whole)
        if attempt % 3 == 0:
            damaged = damaged[: random.randrange(len(whole))]
        else:
            place = random.randrange(len(whole))
            damaged[place : place + 4] = random.randbytes(4)
        path.write_bytes(damaged)
        try:
            store = read_store(path)
        except InputError as error:
            complaints.append(str(error))
        else:
            # a date or another byte that says nothing
            assert [structure.geometry_hash for structure in store] == hashes
            assert [structure.energy for structure in store] == [structure.energy for structure in originals]
    assert len(complaints) > 250
    assert all(complaint.startswith(f"{path}: expected a structure store, got") for complaint in complaints)
    assert all(
        complaint.endswith(f'; run "tio2nn extract -C {tmp_path.parent} SOURCE..." again')
        for complaint in complaints
    )


@pytest.mark.parametrize("content", [b"", b"text\n", b"\x80\x04N."])
def test_other_files_are_no_stores(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(InputError, match="expected a structure store, got"):
        read_store(tmp_path / "s.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s\.npz: expected a structure store, got no file"):
        read_store(tmp_path / "s.npz")


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("offsets", np.array([0, 9, 8, 12], dtype="<i8")),
        ("numbers", np.zeros(12, dtype="u1")),
        ("energies", np.zeros(4)),
        ("positions", np.zeros((12, 3), dtype=np.float32)),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(
    tmp_path: Path, originals: list[Structure], array: str, value: np.ndarray
) -> None:
    path = tmp_path / "s.npz"
    write_store(path, originals)
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **{**arrays, array: value})
    with pytest.raises(InputError, match="expected a structure store, got"):
        read_store(path)


def test_chosen_structures_are_those_of_the_store(store: StructureStore) -> None:
    names = [store.names[k] for k in (2, 0, 1)]
    chosen = store.chosen(np.array([2, 0, 1]))
    assert len(chosen) == 3
    assert [structure.name for structure in chosen] == names
    assert [structure.name for structure in chosen[1:]] == names[1:]
    assert chosen[-1].name == names[-1]
