from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.io.read import read_structures
from tio2nn.io.xsf.file import write_xsf
from tio2nn.structures.structure import Structure


def test_structures_and_errors_come_in_the_order_of_the_sources(
    tmp_path: Path, skew_crystal: Structure
) -> None:
    for name in ("c", "a"):
        (tmp_path / f"{name}.xsf").write_text(write_xsf(skew_crystal))
    (tmp_path / "b.xsf").write_text("nonsense\n")
    (tmp_path / "d.xyz").write_text("1\n\nO 0 0 0\n1\n\nO 0 0 zero\n1\n\nO 0 0 2\n")
    paths = [tmp_path / name for name in ("c.xsf", "b.xsf", "d.xyz", "a.xsf")]
    items = list(read_structures(paths, errors="yield"))
    kinds = [item.name if isinstance(item, Structure) else item.line for item in items]
    assert kinds == ["c", 1, "d-1", 6, "d-3", "a"]


def test_a_structure_needs_no_energy(tmp_path: Path, molecule: Structure) -> None:
    (tmp_path / "m.xsf").write_text(write_xsf(molecule))
    (structure,) = read_structures(tmp_path / "m.xsf")
    assert structure.energy is None


def complaint(tmp_path: Path, structure: Structure) -> str:
    path = tmp_path / "x.xsf"
    path.write_text(write_xsf(structure))
    (error,) = read_structures(path, errors="yield")
    assert isinstance(error, InputError)
    return str(error).removeprefix(f"{tmp_path}/")


def test_atoms_at_one_place_are_refused_through_images_too(tmp_path: Path, skew_crystal: Structure) -> None:
    positions = skew_crystal.positions.copy()
    positions[4] = positions[1] + np.array([1, -2, 3]) @ skew_crystal.cell + [0.03, 0.04, 0.0]
    assert complaint(tmp_path, replace(skew_crystal, positions=positions)) == (
        "x.xsf:1: expected atoms at least 0.1 Å apart, got 0.05 Å (atoms 2 and 5)"
    )


def test_a_cell_thinner_than_an_atom_is_refused(tmp_path: Path) -> None:
    thin = Structure("x", ("O",), np.zeros((1, 3)), np.array([[4.0, 0, 0], [4.0, 0.05, 0], [0, 0, 5.0]]))
    assert complaint(tmp_path, thin) == (
        "x.xsf:1: expected atoms at least 0.1 Å apart, got 0.05 Å (atom 1 and its image)"
    )


def test_coordinates_beyond_any_measure_are_refused(tmp_path: Path, skew_crystal: Structure) -> None:
    positions = skew_crystal.positions.copy()
    positions[2, 1] = -1e30
    expected = "x.xsf:1: expected coordinates of at most 1e+06 Å, got 1e+30 Å"
    assert complaint(tmp_path, replace(skew_crystal, positions=positions)) == expected
    assert complaint(tmp_path, replace(skew_crystal, cell=skew_crystal.cell * 1e30)).startswith(
        "x.xsf:1: expected coord"
    )


def test_labels_beyond_any_measure_are_refused(tmp_path: Path, skew_crystal: Structure) -> None:
    forces = np.zeros((5, 3))
    forces[3, 2] = -1e20
    assert complaint(tmp_path, replace(skew_crystal, forces=forces)) == (
        "x.xsf:1: expected force components of at most 1e+06 eV/Å, got 1e+20 eV/Å"
    )
    assert complaint(tmp_path, replace(skew_crystal, energy=-6e7)) == (
        "x.xsf:3: expected a total energy of at most 1e+07 eV per atom, got 1.2e+07 eV per atom"
    )


def test_an_energy_of_all_electrons_of_the_heaviest_atoms_is_read(tmp_path: Path) -> None:
    oganesson = Structure(
        "x",
        ("Og",),
        np.zeros((1, 3)),
        np.zeros((3, 3)),
        (False,) * 3,
        energy=-1.5e6,
        forces=np.full((1, 3), 1e6),
    )
    (tmp_path / "x.xsf").write_text(write_xsf(oganesson))
    (structure,) = read_structures(tmp_path / "x.xsf")
    assert structure.energy == -1.5e6


# --- what may be named, and what a bad file does ------------------------------------------------------------


def test_one_source_need_not_be_a_list(
    tmp_path: Path, skew_crystal: Structure, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.xsf").write_text(write_xsf(skew_crystal))
    monkeypatch.chdir(tmp_path)
    sources: list[Any] = ["folder", "folder/a.xsf", "folder/*.xsf", Path("folder"), Path("folder/a.xsf"), "-"]
    for source in sources:
        (structure,) = read_structures(source, stdin=["folder/a.xsf\n"])
        assert (structure.name, structure.file) == ("a", "folder/a.xsf")
        (again,) = read_structures(iter([source]), stdin=["folder/a.xsf\n"])
        assert again.geometry_hash == structure.geometry_hash


def test_the_letters_of_a_name_are_no_sources(tmp_path: Path) -> None:
    """Of an absolute path one is "/", which holds every structure file of the disk."""
    missing = str(tmp_path / "missing.xsf")
    (error,) = read_structures(missing, errors="yield")
    assert isinstance(error, InputError)
    assert error.file == missing
    assert error.reason == "no such file or folder"


def test_what_is_no_name_is_refused() -> None:
    for source in (b"bytes.xsf", 3, None, [3], [["a.xsf"]]):
        with pytest.raises(TypeError):
            list(read_structures(source))  # type: ignore[arg-type]


def test_the_list_of_names_is_no_single_text() -> None:
    with pytest.raises(TypeError, match="stdin: expected lines, got a single string"):
        list(read_structures("-", stdin="a.xsf"))


def test_a_bad_file_ends_the_reading_unless_errors_are_to_be_yielded(
    tmp_path: Path, skew_crystal: Structure
) -> None:
    for name in ("a", "c"):
        (tmp_path / f"{name}.xsf").write_text(write_xsf(skew_crystal))
    (tmp_path / "b.xsf").write_text("nonsense\n")
    structures = read_structures(tmp_path)
    assert next(structures).name == "a"
    with pytest.raises(InputError, match=r"b\.xsf:1: expected") as raised:
        next(structures)
    assert list(structures) == []
    first, error, last = read_structures(tmp_path, errors="yield")
    assert isinstance(error, InputError)
    assert str(error) == str(raised.value)
    assert [item.name for item in (first, last) if isinstance(item, Structure)] == ["a", "c"]


def test_errors_are_raised_or_yielded_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="errors: expected 'raise' or 'yield', got 'ignore'"):
        read_structures(tmp_path, errors="ignore")  # type: ignore[call-overload]
