"""Labels of ASE's atoms that stand in `info`, key-value pairs or data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import outputs
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from tio2nn.errors import InputError
from tio2nn.io.database_data import data_of_row
from tio2nn.io.read import read_structures

VOIGT = outputs.STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def atoms(info: dict[str, Any] | None = None, **results: Any) -> Atoms:
    made = Atoms(outputs.ELEMENTS, outputs.positions(), cell=outputs.CELL, pbc=True, info=info)
    if results:
        made.calc = SinglePointCalculator(made, **results)
    return made


def trajectory(folder: Path, info: dict[str, Any], **results: Any) -> Path:
    path = folder / "a.traj"
    write(path, [atoms(info, **results)] * 2)
    return path


def database(
    folder: Path,
    data: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    **pairs: Any,
) -> Path:
    path = folder / "a.db"
    path.unlink(missing_ok=True)
    with connect(path) as base:
        for _ in range(2):
            base.write(atoms(**(results or {})), key_value_pairs=pairs, data=data or {})
    if metadata:
        connect(path).metadata = metadata
    return path


def check(path: Path, *, forces: bool = True, stress: bool = True, **options: Any) -> None:
    structures = outputs.found(path, **options)
    assert len(structures) == 2
    for structure in structures:
        assert structure.energy == outputs.ENERGY
        assert (structure.forces is None) != forces
        if forces:
            np.testing.assert_array_equal(structure.forces, outputs.FORCES)
        assert (structure.stress is None) != stress
        if stress:
            np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-12)
        assert structure.extras.remarks == ()


@pytest.mark.parametrize("prefix", ["", "REF_", "dft_"])
def test_labels_in_info_of_a_trajectory(tmp_path: Path, prefix: str) -> None:
    info = {f"{prefix}energy": outputs.ENERGY, f"{prefix}stress": VOIGT, "mace_energy": 1.0}
    check(trajectory(tmp_path, info), forces=False)
    volume = np.linalg.det(outputs.CELL)
    info = {f"{prefix}energy": outputs.ENERGY, f"{prefix}virial": -volume * outputs.STRESS}
    check(trajectory(tmp_path, info), forces=False)
    check(trajectory(tmp_path, {**info, "dft_forces": outputs.FORCES}))


@pytest.mark.parametrize("prefix", ["", "REF_", "dft_"])
def test_labels_in_data_and_pairs_of_a_database(tmp_path: Path, prefix: str) -> None:
    data = {f"{prefix}forces": outputs.FORCES, f"{prefix}stress": outputs.STRESS}
    check(database(tmp_path, {**data, f"{prefix}energy": np.array([outputs.ENERGY])}))
    check(database(tmp_path, {**data, f"{prefix}energy": outputs.ENERGY}))
    if prefix:
        check(database(tmp_path, data, **{f"{prefix}energy": outputs.ENERGY}))


def test_names_that_the_user_gives(tmp_path: Path) -> None:
    keys = {"energy_key": "u", "forces_key": "f", "stress_key": "s"}
    data = {
        "f": outputs.FORCES,
        "s": outputs.STRESS,
        "energy": 3.0,
        "forces": 2 * outputs.FORCES,
        "u": outputs.ENERGY,
    }
    check(database(tmp_path, data), **keys)
    check(database(tmp_path, data, results={"energy": 1.0, "forces": 3 * outputs.FORCES}), **keys)
    results = {"energy": outputs.ENERGY, "forces": outputs.FORCES, "stress": VOIGT}
    keys = {"energy_key": "energy", "forces_key": "forces", "stress_key": "stress"}
    check(trajectory(tmp_path, {"REF_energy": 3.0, "dft_stress": 2 * VOIGT}, **results), **keys)
    with pytest.raises(
        InputError, match="no structure has the key 'v' given by --energy-key; found 'energy'"
    ):
        outputs.found(database(tmp_path, data), energy_key="v")


def test_results_and_other_names_must_agree(tmp_path: Path) -> None:
    results = {"energy": outputs.ENERGY, "forces": outputs.FORCES, "stress": VOIGT}
    check(trajectory(tmp_path, {"REF_energy": outputs.ENERGY, "REF_stress": VOIGT}, **results))
    # a result wins against an old one of the same name
    check(trajectory(tmp_path, {"energy": 3.0, "forces": 0.0, "stress": 1.0}, **results))
    for problem in outputs.problems(trajectory(tmp_path, {"REF_energy": 3.0}, **results)):
        assert problem.endswith(
            "expected equal values of REF_energy and energy, got others; choose one with --energy-key"
        )
    for problem in outputs.problems(database(tmp_path, {"REF_forces": 2 * outputs.FORCES}, results=results)):
        assert problem.endswith(
            "expected equal values of REF_forces and forces, got others; choose one with --forces-key"
        )


def test_without_a_label_the_names_that_may_be_one_are_told(tmp_path: Path) -> None:
    for path in (
        trajectory(tmp_path, {"my_energy": 3.0}),
        database(tmp_path, {"my_energy": np.array([3.0])}),
    ):
        for structure in outputs.found(path):
            assert structure.energy is None
            assert structure.extras.no_energy == (
                "expected a total energy, got none; found 'my_energy': choose with --energy-key KEY"
            )


@pytest.mark.parametrize(
    ("units", "distance", "expected"),
    [
        ({"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang/Ang/Ang"}, "Ang", None),
        ({"energy": "eV", "forces": "eV/Angstrom", "stress": "eV/A^3"}, "Angstrom", None),
        ({"energy": "kcal/mol"}, "Ang", "expected energy in eV, got 'kcal/mol'"),
        ({"energy": "eV", "forces": "kcal/mol/Ang"}, "Ang", "expected forces in eV/Å, got 'kcal/mol/Ang'"),
        ({"stress": "GPa"}, "Ang", "expected stress in eV/Å³, got 'GPa'"),
        ({"energy": "Hartree"}, "Ang", "expected energy in eV, got 'Hartree'"),
        ({"dipole": "Debye"}, "Ang", None),
        ({}, "Bohr", "expected a database in Å, got lengths in 'Bohr'"),
    ],
)
def test_units_of_schnetpack(
    tmp_path: Path, units: dict[str, str], distance: str, expected: str | None
) -> None:
    data = {"energy": np.array([outputs.ENERGY]), "forces": outputs.FORCES, "stress": outputs.STRESS}
    path = database(tmp_path, data, {"_property_unit_dict": units, "_distance_unit": distance})
    if expected is None:
        check(path)
    else:
        (problem,) = outputs.problems(path)
        assert expected in problem


def test_arrays_of_three_atoms_may_be_forces_or_stresses(tmp_path: Path) -> None:
    assert len(outputs.ELEMENTS) == 3
    data = {"energy": outputs.ENERGY, "stress": outputs.STRESS, "forces": outputs.FORCES}
    check(database(tmp_path, data))
    check(database(tmp_path, {**data, "stress": outputs.STRESS.ravel()}))


@pytest.mark.parametrize(
    "info",
    [
        {"REF_energy": "high"},
        {"REF_energy": [1.0, 2.0, 3.0]},
        {"REF_energy": float("nan")},
        {"REF_energy": {"a": 1}},
        {"REF_energy": None},
        {"REF_energy": 10**400},
        {"REF_stress": "much"},
    ],
)
def test_values_of_other_kinds_are_never_labels(tmp_path: Path, info: dict[str, Any]) -> None:
    for item in read_structures(trajectory(tmp_path, info), errors="yield"):
        assert isinstance(item, InputError) or (item.energy is None and item.stress is None)


def test_data_of_older_databases_and_damaged_data() -> None:
    old = json.dumps({"a": 1.5, "b": {"__ndarray__": [[2], "float64", [1, 2]]}}).encode()
    found = data_of_row(old, 8)
    assert found["a"] == 1.5
    np.testing.assert_array_equal(found["b"], [1.0, 2.0])

    def binary(described: list[Any], n: int = 2) -> bytes:
        arrays = np.arange(1.0, n + 1).tobytes()
        start = np.array([8 + len(arrays)], dtype="<i8").tobytes()
        return start + arrays + json.dumps({"b": {"__ndarray__": described}}).encode()

    np.testing.assert_array_equal(data_of_row(binary([[2], "float64", 8]), 9)["b"], [1.0, 2.0])
    for described in (
        [[3], "float64", 8],
        [[2], "float64", 9],
        [[-2], "float64", 8],
        [[2], "float64", -8],
        [[10**12], "float64", 8],
        [["a"], "float64", 8],
        [2],
    ):
        assert data_of_row(binary(described), 9) == {}
    assert data_of_row(binary([[2], "object", 8]), 9) == {"b": None}
    for wrong in (b"", b"\0" * 7, b"\xff" * 9, b"\0" * 80, b"[1]", b"{", None, "text", 3):
        assert data_of_row(wrong, 9) == data_of_row(wrong, 8) == {}


def test_damage_anywhere_ends_in_lines_and_structures_only(tmp_path: Path) -> None:
    data = {"energy": np.array([outputs.ENERGY]), "forces": outputs.FORCES, "stress": outputs.STRESS}
    content = database(tmp_path, data, {"_property_unit_dict": {"energy": "eV"}}).read_bytes()
    place = content.index(b"__ndarray__") - 400
    for k in range(place, place + 700, 3):
        path = tmp_path / "damaged.db"
        path.write_bytes(content[:k] + bytes([content[k] ^ 0x55]) + content[k + 1 :])
        outputs.check_items(path)
