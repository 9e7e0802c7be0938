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
from tio2nn.io.labels import ReadOptions
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


@pytest.mark.parametrize("other", [float(np.float32(outputs.ENERGY)), round(outputs.ENERGY, 4)])
def test_results_and_other_names_may_differ_by_rounding(tmp_path: Path, other: float) -> None:
    for path in (
        trajectory(tmp_path, {"REF_energy": other}, energy=outputs.ENERGY),
        database(tmp_path, results={"energy": outputs.ENERGY}, REF_energy=other),
    ):
        assert outputs.found(path)[0].energy == pytest.approx(outputs.ENERGY, abs=1e-4)


@pytest.mark.parametrize("word", ["n/a?", "none", True])
def test_words_and_flags_under_names_of_labels_are_no_labels(tmp_path: Path, word: Any) -> None:
    check(
        trajectory(tmp_path, {"REF_energy": word}, energy=outputs.ENERGY, forces=outputs.FORCES),
        stress=False,
    )


def test_files_without_the_names_that_the_user_gives_have_the_results_of_the_calculator(
    tmp_path: Path,
) -> None:
    """As in a folder where extended XYZ alone has these names."""
    results = {"energy": outputs.ENERGY, "forces": outputs.FORCES, "stress": VOIGT}
    (tmp_path / "a.xyz").write_text(
        "1\nU_total=-3.5 Properties=species:S:1:pos:R:3:F_total:R:3\nO 0 0 0 1 2 3\n"
    )
    sources = [
        trajectory(tmp_path, {"REF_energy": 9.0}, **results),
        database(tmp_path, results=results),
        tmp_path / "a.xyz",
    ]
    options = ReadOptions(energy_key="U_total", forces_key="F_total")
    *of_ase, own = read_structures([str(path) for path in sources], options=options)
    assert own.energy == -3.5
    assert len(of_ase) == 4
    for structure in of_ase:
        assert structure.energy == outputs.ENERGY
        np.testing.assert_array_equal(structure.forces, outputs.FORCES)
        np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-12)
    with pytest.raises(InputError, match="no structure has the key 'U_total'"):
        list(read_structures([str(path) for path in sources[:2]], options=options))


def test_weights_of_zero_are_those_of_placeholders(tmp_path: Path) -> None:
    results = {"energy": outputs.ENERGY, "forces": outputs.FORCES, "stress": VOIGT}
    info = {"config_forces_weight": 0.0, "config_stress_weight": 0.0, "weight": 2.0}
    found = outputs.found(trajectory(tmp_path, info, **results))[0]
    assert (found.forces, found.stress) == (None, None)
    assert found.extras.remarks == (
        "forces ignored: config_forces_weight is 0",
        "stress ignored: config_stress_weight is 0",
        "weight not used: the weight of a structure is config_weight",
    )


def test_forces_that_are_nan_alone_are_placeholders(tmp_path: Path) -> None:
    results = {"energy": outputs.ENERGY, "forces": np.full_like(outputs.FORCES, np.nan)}
    found = outputs.found(trajectory(tmp_path, {}, **results))[0]
    assert (found.energy, found.forces) == (outputs.ENERGY, None)
    assert found.extras.remarks == ("forces ignored: expected numbers, got NaN only",)


def test_damage_in_data_costs_what_is_damaged(tmp_path: Path) -> None:
    path = database(tmp_path, {"REF_forces": outputs.FORCES, "odd": 1.0}, REF_energy=outputs.ENERGY)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"odd"', b'"o\xffd"'))
    found = outputs.found(path)[0]
    assert found.energy == outputs.ENERGY
    assert found.forces is None
    assert found.extras.remarks == ("data of the row ignored: damaged",)
    some = json.dumps({"a": {"__ndarray__": 5}, "REF_forces": outputs.FORCES.tolist()}).encode()
    assert data_of_row(some, 8) == {"a": {"__ndarray__": 5}, "REF_forces": outputs.FORCES.tolist()}
    binary = (8).to_bytes(8, "little") + some
    assert data_of_row(binary, 9) == {"REF_forces": outputs.FORCES.tolist()}


def test_a_label_has_one_value_in_a_row(tmp_path: Path) -> None:
    path = database(tmp_path, {"REF_energy": outputs.ENERGY}, REF_energy=outputs.ENERGY)
    assert outputs.found(path)[0].energy == outputs.ENERGY
    path = database(tmp_path, {"REF_energy": 2.0}, REF_energy=outputs.ENERGY)
    with pytest.raises(InputError, match="expected one value of REF_energy, got others in key-value pairs"):
        list(read_structures([str(path)]))


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
    assert data_of_row(binary([[2], "object", 8]), 9) == {}
    for none in (b"", None, "text", 3):
        assert data_of_row(none, 9) == data_of_row(none, 8) == {}
    assert data_of_row(b"null", 8) == {}
    for wrong in (b"\0" * 7, b"\xff" * 9, b"\0" * 80, b"[1]", b"{"):
        assert data_of_row(wrong, 9) is data_of_row(wrong, 8) is None


def test_damage_anywhere_ends_in_lines_and_structures_only(tmp_path: Path) -> None:
    data = {"energy": np.array([outputs.ENERGY]), "forces": outputs.FORCES, "stress": outputs.STRESS}
    content = database(tmp_path, data, {"_property_unit_dict": {"energy": "eV"}}).read_bytes()
    place = content.index(b"__ndarray__") - 400
    for k in range(place, place + 700, 3):
        path = tmp_path / "damaged.db"
        path.write_bytes(content[:k] + bytes([content[k] ^ 0x55]) + content[k + 1 :])
        outputs.check_items(path)
