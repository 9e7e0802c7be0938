"""Stresses from files to the store, and what extract says of them."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc211
from ase.calculators.emt import EMT
from command_line import invoke, refusal
from projects import PARAMETERS, extracted_project, structures

from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import MODEL
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import read_store
from tio2nn.structures.stress import GPA, from_voigt, to_voigt
from tio2nn.structures.structure import Structure


@pytest.fixture
def copper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Structure]:
    """Strained copies of a crystal, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    made = []
    for k in range(12):
        atoms = bulk("Cu", cubic=True)
        strain = 0.01 * rng.uniform(-1, 1, (3, 3))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:02d}"), free_energy=None))
    return made


def write(file: str, chosen: list[Structure], key: str = "stress") -> None:
    text = "".join(exact_extxyz(structure, {}) for structure in chosen)
    Path(file).write_text(text.replace(" stress=", f" {key}="), encoding="utf-8")


def extracted(file: str, *options: str) -> str:
    _, err = invoke("extract", file, "-C", "p", *options)
    return err


@pytest.fixture
def project(tmp_path: Path, copper: list[Structure]) -> Project:
    assert len(copper) == 12
    Path("p").mkdir()
    Path("p/params.json").write_text('{"preset": "auto", "elements": ["Cu"]}')
    return Project(tmp_path / "p")


def test_right_stresses_are_confirmed_in_one_line(project: Project, copper: list[Structure]) -> None:
    write("right.xyz", copper)
    err = extracted("right.xyz")
    assert "stresses" in err
    assert re.search(
        r"\d pairs of strained copies agree with energies \(ratio (0.9|1.0)\d\)", " ".join(err.split())
    )
    assert "do not match" not in err
    store = read_store(project.structures_file)
    for structure, original in zip(store, copper, strict=True):
        np.testing.assert_array_equal(structure.stress, original.stress)


def test_wrong_stresses_are_accused_in_one_line(project: Project, copper: list[Structure]) -> None:
    write("wrong.xyz", [replace(s, stress=-10 * GPA * s.stress) for s in copper if s.stress is not None])
    err = extracted("wrong.xyz")
    (line,) = [
        line for line in err.splitlines() if line.startswith("warning: stresses do not match energies")
    ]
    assert line.endswith(
        "as if they were in kbar, of the wrong sign (positive under pressure); correct the files"
    )
    assert project.structures_file.exists()


def test_a_source_with_wrong_stresses_is_accused_in_one_line(
    project: Project, copper: list[Structure]
) -> None:
    write("right.xyz", copper)
    write("wrong.xyz", [replace(s, stress=-GPA * s.stress) for s in copper if s.stress is not None])
    _, err = invoke("extract", "right.xyz", "wrong.xyz", "-C", "p")
    (line,) = [line for line in err.splitlines() if "stresses of" in line]
    assert line.startswith("warning: stresses of wrong.xyz do not match energies: over ")
    assert line.endswith(
        "as if they were in GPa, of the wrong sign (positive under pressure); those of right.xyz agree; "
        "correct the files"
    )
    assert "parts do not match energies, see below" in " ".join(err.split())
    assert not [line for line in err.splitlines() if line.startswith("warning: stresses do not match")]
    store = read_store(project.structures_file)
    assert len(store) == 24
    assert list(store.label_notes.doubts) == ["stress"]
    assert "fits leave the stress out; --stress uses it anyway" in err


def test_slabs_and_broken_stresses_are_counted_in_one_line_each(
    project: Project, copper: list[Structure]
) -> None:
    slabs = [replace(s, periodic=(True, True, False)) for s in copper[:3]]
    nan = [replace(s, stress=np.full((3, 3), np.nan)) for s in copper[3:5]]
    odd = [replace(s, stress=np.arange(9.0).reshape(3, 3)) for s in copper[5:6]]
    write("mixed.xyz", [*slabs, *nan, *odd, *copper[6:]])
    err = extracted("mixed.xyz")
    assert "mixed.xyz:1 and 2 more: stress ignored: expected three periodic axes, got fewer" in err
    assert "mixed.xyz:19 and 1 more: stress ignored: expected finite numbers, got NaN or infinity" in err
    assert "mixed.xyz:31: stress ignored: expected a symmetric matrix, got another" in err
    assert "in 6 of 12 structures" in err
    np.testing.assert_array_equal(read_store(project.structures_file).has_stress, [False] * 6 + [True] * 6)


def test_the_key_of_the_stress_can_be_named(project: Project, copper: list[Structure]) -> None:
    write("mine.xyz", copper, key="my_sigma")
    extracted("mine.xyz")
    assert not read_store(project.structures_file).has_stress.any()
    extracted("mine.xyz", "--stress-key", "my_sigma")
    assert read_store(project.structures_file).has_stress.all()
    line = refusal("extract", "mine.xyz", "-C", "p", "--stress-key", "nothing", code=3)
    assert line.endswith(
        "no structure has the key 'nothing' given by --stress-key; found 'my_sigma': choose with --stress-key KEY"
    )


def test_a_store_with_stresses_has_other_labels(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p", chosen=structures(6))
    before = inputs_of_model(PARAMETERS, read_store(project.structures_file), project.split_file)
    assert "stresses" not in before
    with_stress = [replace(s, stress=np.eye(3) * k) for k, s in enumerate(structures(6))]
    other = extracted_project(tmp_path / "q", chosen=with_stress)
    after = inputs_of_model(PARAMETERS, read_store(other.structures_file), other.split_file)
    assert {**before, "stresses": after["stresses"]} == after
    snapshot = Snapshot(other)
    assert snapshot.changed_since(before) == ("stresses",)
    assert "stresses" in MODEL.records
    assert Snapshot(project).changed_since(before) == ()


def test_other_weights_make_a_model_stale(tmp_path: Path) -> None:
    project = extracted_project(tmp_path / "p", chosen=structures(6))
    before = inputs_of_model(PARAMETERS, read_store(project.structures_file), project.split_file)
    other = extracted_project(
        tmp_path / "q", chosen=[replace(s, weight=0.5 + k) for k, s in enumerate(structures(6))]
    )
    assert Snapshot(other).changed_since(before) == ("weights",)


def test_the_audit_and_the_table_of_energies_have_kinds_weights_and_tensions(
    project: Project, copper: list[Structure]
) -> None:
    kinds = [*(replace(s, config_type="bulk", weight=2.0) for s in copper[:3]), *copper[3:]]
    write("kinds.xyz", [replace(kinds[0], weight=0.0), *kinds[1:11], replace(kinds[11], stress=None)])
    words = " ".join(extracted("kinds.xyz").split())
    assert "kinds (none) (9), bulk (3)" in words
    assert "weights 0 to 2; 1 structure has none in the loss" in words
    with project.energies_file.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["config_type"] for row in rows] == 3 * ["bulk"] + 9 * [""]
    assert [float(row["config_weight"]) for row in rows] == [0.0, 2.0, 2.0] + 9 * [1.0]
    tensions = [float(row["tension_GPa"] or "nan") for row in rows]
    expected = [GPA * np.trace(s.stress) / 3.0 for s in copper[:11] if s.stress is not None]
    np.testing.assert_allclose(tensions, [*expected, np.nan], rtol=1e-12)
    write("plain.xyz", [replace(s, stress=None) for s in copper])
    extracted("plain.xyz")
    header = project.energies_file.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert header[-1] == "outlier"


def test_energies_by_two_constants_are_told_in_one_line(project: Project, copper: list[Structure]) -> None:
    assert project.parameters_file.exists()
    far = [replace(s, energy=-69000.0 + k, stress=None, forces=None) for k, s in enumerate(copper)]
    write("a.xyz", far)
    write("b.xyz", [replace(s, energy=s.energy * 27.21138386 / 27.211386245988) for s in far if s.energy])
    _, err = invoke("extract", "a.xyz", "b.xyz", "-C", "p")
    (line,) = [line for line in err.splitlines() if "Hartree" in line]
    assert line.startswith(
        "warning: the energies of 12 structures that are there twice differ by 8.8e-08 of their size"
    )
    assert line.endswith("CODATA 2006 and CODATA 2018; convert all with one constant")


def test_a_weight_that_is_no_number_rejects_its_frame(project: Project, copper: list[Structure]) -> None:
    write("odd.xyz", copper)
    text = Path("odd.xyz").read_text(encoding="utf-8").replace(" energy=", " config_weight=-3 energy=", 1)
    Path("odd.xyz").write_text(text, encoding="utf-8")
    _, err = invoke("extract", "odd.xyz", "-C", "p", code=3)
    assert "odd.xyz:2: expected a finite number of at least 0 for config_weight, got '-3'" in err
    assert len(read_store(project.structures_file)) == 11


def test_slabs_whose_shears_do_not_fit_their_forces_are_told(project: Project) -> None:
    rng = np.random.default_rng(0)
    slabs = []
    for k in range(6):
        atoms = fcc211("Cu", (3, 2, 3), vacuum=6.0)
        atoms.pbc = True
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        slabs.append(replace(Structure.from_ase(atoms, name=f"s{k}"), free_energy=None))
    write("slabs.xyz", slabs)
    err = extracted("slabs.xyz")
    assert "strained cells; shears of 6 slabs agree with forces" in " ".join(err.split())
    assert "warning" not in err
    other = [
        replace(s, stress=from_voigt(to_voigt(s.stress)[[0, 1, 2, 4, 3, 5]]))
        for s in slabs
        if s.stress is not None
    ]
    write("slabs.xyz", other)
    (line,) = [line for line in extracted("slabs.xyz").splitlines() if line.startswith("warning: ")]
    assert line.startswith(
        "warning: shear stresses of slabs do not match their forces: 6 of 6, such as slabs-1, fit"
    )
    assert line.endswith("in the order xx yy zz xz yz xy; correct the files")
    assert project.structures_file.exists()
