from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.stress import full_3x3_to_voigt_6_stress
from command_line import invoke
from hypothesis import assume, given
from numpy.typing import NDArray
from potentials import POTENTIAL, make_potential
from projects import PARAMETERS, write_files
from projects import structures as crystals
from strategies import examples, is_clear_of_cutoff, structures
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.errors import InputError
from tio2nn.io.read import read_structures
from tio2nn.io.xsf.file import parse_xsf
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Structure
from tio2nn.workflow.predict import COLUMNS, FORCE_COLUMNS, Format, header, predict_stream, text

TABLES: tuple[Format, ...] = ("tsv", "csv")
FILES: tuple[tuple[Format, str], ...] = (
    ("tsv", ".tsv"),
    ("csv", ".csv"),
    ("json", ".json"),
    ("extxyz", ".xyz"),
    ("xsf", ".xsf"),
)
STEP = 1e-4  # Å, or strain, of central differences
PRINTED = 0.6e-8  # eV, Å and so on: XSF and extended XYZ have eight decimals


def predicted(structure: Structure, potential: Potential = POTENTIAL) -> Prediction:
    (prediction,) = potential.predict([structure], forces=True)
    return prediction


def arrays(prediction: Prediction) -> tuple[NDArray[np.float64], ...]:
    """Forces, their spread and the stress, which all have to be there."""
    found = (prediction.forces, prediction.forces_spread, prediction.stress)
    assert all(array is not None for array in found)
    return tuple(np.asarray(array) for array in found)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a potential and five structures in `files`."""
    POTENTIAL.save(tmp_path / "potential.npz")
    write_files(tmp_path / "files", crystals()[:5])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*arguments: object, code: int = 0) -> tuple[str, str]:
    return invoke("predict", "--potential", "potential.npz", "--forces", *arguments, code=code)


# --- the numbers --------------------------------------------------------------------------------------------


def test_energies_are_the_same_with_forces() -> None:
    without = list(POTENTIAL.predict(crystals()))
    for one, other in zip(without, POTENTIAL.predict(crystals(), forces=True), strict=True):
        assert other.energy == pytest.approx(one.energy, rel=1e-12)
        np.testing.assert_allclose(other.atomic_energies, one.atomic_energies, rtol=1e-12)
        assert other.spread == pytest.approx(one.spread, rel=1e-9)
        np.testing.assert_allclose(other.distances, one.distances, rtol=1e-6)
        assert one.forces is one.forces_spread is one.stress is None


@examples(15)
@given(structures())
def test_forces_are_the_negative_gradient_of_the_energy(structure: Structure) -> None:
    assume(is_clear_of_cutoff(structure, PARAMETERS.cutoff, 4 * STEP * PARAMETERS.cutoff))
    forces = predicted(structure).forces
    assert forces is not None
    assert forces.shape == (structure.n_atoms, 3)
    slopes = np.empty_like(forces)
    for index in np.ndindex(*forces.shape):
        energies = []
        for shift in (STEP, -STEP):
            positions = structure.positions.copy()
            positions[index] += shift
            energies.append(POTENTIAL.energy(replace(structure, positions=positions)))
        slopes[index] = (energies[0] - energies[1]) / (2.0 * STEP)
    np.testing.assert_allclose(forces, -slopes, atol=2e-6 * max(1.0, abs(slopes).max()))


def test_stress_is_the_derivative_with_respect_to_strain_over_the_volume(skew_crystal: Structure) -> None:
    _, _, stress = arrays(predicted(skew_crystal))
    slopes = np.empty((3, 3))
    for index in np.ndindex(3, 3):
        energies = []
        for size in (STEP, -STEP):
            strain = np.eye(3)
            strain[index] += size
            moved = replace(
                skew_crystal, positions=skew_crystal.positions @ strain, cell=skew_crystal.cell @ strain
            )
            energies.append(POTENTIAL.energy(moved))
        slopes[index] = (energies[0] - energies[1]) / (2.0 * STEP)
    volume = skew_crystal.volume
    assert volume is not None
    np.testing.assert_allclose(stress, slopes / volume, atol=1e-7)


def test_a_committee_says_the_mean_of_its_forces_and_how_far_they_disagree() -> None:
    structure = crystals()[1]
    alone = [predicted(structure, replace(POTENTIAL, members=(member,))) for member in POTENTIAL.members]
    forces, spread, stress = arrays(predicted(structure))
    np.testing.assert_allclose(forces, np.mean([one.forces for one in alone], axis=0), atol=1e-12)
    np.testing.assert_allclose(stress, np.mean([one.stress for one in alone], axis=0), atol=1e-12)
    deviations = np.array([one.forces for one in alone]).std(axis=0, ddof=1)
    np.testing.assert_allclose(spread, np.linalg.norm(deviations, axis=1), rtol=1e-9)
    assert spread.min() > 1e-3
    assert [one.forces_spread for one in alone] == [None, None]


def test_one_structure_is_as_many_at_once() -> None:
    for structure, found in zip(crystals(), POTENTIAL.predict(crystals(), forces=True), strict=True):
        assert found.structure is structure
        for array, alone in zip(arrays(found), arrays(predicted(structure)), strict=True):
            np.testing.assert_allclose(array, alone, atol=1e-12)


def test_a_broken_structure_spoils_no_other() -> None:
    first, second, third = crystals()[:3]
    nitride = replace(second, elements=("N", *second.elements[1:]), file="nitride.xsf")
    double = replace(third, positions=np.zeros_like(third.positions), file="double.xsf")
    items = [first, nitride, second, double, InputError("unreadable", file="x.xsf"), third]
    found = list(predict_stream(POTENTIAL, items, forces=True))
    wrong = [result.file for result in found if isinstance(result, InputError)]
    assert wrong == ["nitride.xsf", "double.xsf", "x.xsf"]
    good = [result for result in found if isinstance(result, Prediction)]
    assert [result.structure for result in good] == [first, second, third]
    for result in good:
        np.testing.assert_allclose(arrays(result)[0], arrays(predicted(result.structure))[0], atol=1e-12)


# --- text ---------------------------------------------------------------------------------------------------


def table(form: Format, *predictions: Prediction) -> pd.DataFrame:
    """As pandas reads it."""
    first = header(form, forces=True)
    assert first is not None
    lines = [first.removeprefix("# "), *(text(prediction, form) for prediction in predictions)]
    stream = io.StringIO("\n".join(lines) + "\n")
    separator = "\t" if form == "tsv" else ","
    quoting = csv.QUOTE_NONE if form == "tsv" else csv.QUOTE_MINIMAL
    return pd.read_csv(stream, sep=separator, quoting=quoting)


@pytest.mark.parametrize("form", TABLES)
def test_a_table_has_a_line_for_each_atom(form: Format) -> None:
    found = list(POTENTIAL.predict(crystals()[:3], forces=True))
    frame = table(form, *found)
    assert tuple(frame.columns) == (*COLUMNS, *FORCE_COLUMNS)
    assert len(frame) == sum(prediction.structure.n_atoms for prediction in found)
    for prediction, (file, rows) in zip(found, frame.groupby("file"), strict=True):
        structure, (forces, spread, stress) = prediction.structure, arrays(prediction)
        assert file == structure.file
        assert tuple(rows["atom"]) == tuple(range(1, structure.n_atoms + 1))
        assert tuple(rows["element"]) == structure.elements
        expected = {
            "energy_eV": prediction.energy,
            "energy_eV_per_atom": prediction.energy_per_atom,
            "spread_eV_per_atom": prediction.spread,
            **dict(zip(FORCE_COLUMNS[3:6], forces.T, strict=True)),
            "force_spread_eV_per_A": spread,
            **dict(zip(FORCE_COLUMNS[7:], full_3x3_to_voigt_6_stress(stress), strict=True)),
        }
        for column, values in expected.items():
            # some versions of pandas lose the last digit
            np.testing.assert_allclose(rows[column], np.broadcast_to(values, len(rows)), rtol=1e-14)


@pytest.mark.parametrize("form", TABLES)
def test_what_is_not_there_is_nan_in_a_table(form: Format, molecule: Structure) -> None:
    frame = table(form, predicted(molecule, make_potential(members=1)))
    missing = ["spread_eV_per_atom", "force_spread_eV_per_A", *FORCE_COLUMNS[7:]]
    assert frame[missing].isna().all(axis=None)
    assert frame.drop(columns=missing).notna().all(axis=None)


def test_csv_quotes_a_file_name_in_every_line(molecule: Structure) -> None:
    frame = table("csv", predicted(replace(molecule, name='a,"b"', file='a,"b".xsf')))
    assert list(frame["file"]) == ['a,"b".xsf'] * molecule.n_atoms


def test_json_holds_forces_spread_and_stress() -> None:
    prediction = predicted(crystals()[0])
    document = json.loads(text(prediction, "json"))
    keys = ("forces_eV_per_A", "forces_spread_eV_per_A", "stress_eV_per_A3")
    for key, array in zip(keys, arrays(prediction), strict=True):
        np.testing.assert_array_equal(document[key], array)
    assert document["energy_eV"] == prediction.energy


def test_what_is_not_there_is_null_in_json_and_without_forces_has_no_key(molecule: Structure) -> None:
    potential = make_potential(members=1)
    document: dict[str, Any] = json.loads(text(predicted(molecule, potential), "json"))
    assert document["forces_spread_eV_per_A"] is document["stress_eV_per_A3"] is None
    (energy_alone,) = potential.predict([molecule])
    assert set(document) - set(json.loads(text(energy_alone, "json"))) == {
        "forces_eV_per_A",
        "forces_spread_eV_per_A",
        "stress_eV_per_A3",
    }


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_extended_xyz_is_read_by_ase_with_equal_numbers() -> None:
    out, _ = predict("--format", "extxyz", "files")
    frames = ase.io.read(io.StringIO(out), ":", format="extxyz")
    assert len(frames) == 5
    for atoms, prediction in zip(frames, POTENTIAL.predict(crystals()[:5], forces=True), strict=True):
        structure, (forces, _, stress) = prediction.structure, arrays(prediction)
        assert tuple(atoms.symbols) == structure.elements
        assert atoms.pbc.all()
        np.testing.assert_allclose(atoms.positions, structure.positions, atol=PRINTED)
        np.testing.assert_allclose(atoms.cell, structure.cell, atol=1e-9)
        # the files have energies of their own, which stay what they are
        assert atoms.get_potential_energy() == pytest.approx(structure.energy, abs=1e-8)
        assert atoms.info["tio2nn_energy"] == pytest.approx(prediction.energy, abs=1e-8)
        assert atoms.info["name"] == structure.name
        np.testing.assert_allclose(atoms.arrays["tio2nn_forces"], forces, atol=PRINTED)
        np.testing.assert_allclose(atoms.info["tio2nn_stress"].reshape(3, 3), stress, atol=1e-9)


def test_extended_xyz_of_a_molecule_has_no_stress(molecule: Structure) -> None:
    atoms = ase.io.read(io.StringIO(text(predicted(molecule), "extxyz") + "\n"), format="extxyz")
    assert not atoms.pbc.any()
    assert {"energy", "forces"} <= set(atoms.calc.results)
    assert "stress" not in atoms.calc.results


def test_xsf_is_read_back_with_equal_numbers(here: Path) -> None:
    for structure in crystals()[:5]:
        prediction = predicted(structure)
        out, _ = predict("--format", "xsf", here / "files" / structure.file)
        (read,) = parse_xsf(out, name=structure.name, file=structure.file)
        assert read.elements == structure.elements
        assert read.periodic == structure.periodic
        np.testing.assert_allclose(read.positions, structure.positions, atol=PRINTED)
        np.testing.assert_allclose(read.cell, structure.cell, atol=PRINTED)
        assert read.energy == pytest.approx(prediction.energy, abs=1e-7)
        assert read.forces is not None
        np.testing.assert_allclose(read.forces, prediction.forces, atol=PRINTED)


@pytest.mark.usefixtures("here")
def test_several_structures_are_no_xsf_on_stdout() -> None:
    _, err = predict("--format", "xsf", "files", code=2)
    assert "expected one structure for XSF on stdout, got several; write files with --output DIR" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("form", "suffix"), FILES)
def test_each_structure_has_its_file_in_the_directory_for_output(
    here: Path, form: Format, suffix: str
) -> None:
    out, _ = predict("--format", form, "--output", "new/predicted", "files")
    assert out == ""
    files = sorted((here / "new" / "predicted").iterdir())
    assert [path.name for path in files] == [f"structure000{k}{suffix}" for k in range(1, 6)]
    first = header(form, forces=True)
    for path, structure in zip(files, crystals()[:5], strict=True):
        alone, _ = predict("--format", form, f"files/{structure.file}")
        assert path.read_text("utf-8") == alone
        assert first is None or alone.startswith(f"{first}\n")


@pytest.mark.usefixtures("here")
def test_what_was_written_can_be_predicted_again() -> None:
    table_of_files, _ = predict("files/structure0001.xsf")
    predict("--format", "xsf", "--output", "again", "files")
    again, _ = predict("again/structure0001.xsf")
    energies = [float(lines.splitlines()[1].split("\t")[2]) for lines in (table_of_files, again)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)


def test_a_broken_file_among_good_ones_is_named_and_the_others_are_written(here: Path) -> None:
    (here / "files" / "structure0002.xsf").write_text("CRYSTAL\nPRIMVEC\n1 2\n", encoding="utf-8")
    nitride = replace(crystals()[3], elements=("N", *crystals()[3].elements[1:]))
    write_files(here / "files", [nitride])
    _, err = predict("--format", "xsf", "--output", "out", "files", code=3)
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        f"structure000{k}.xsf" for k in (1, 3, 5)
    ]
    assert "structure0002.xsf:3: expected PRIMCOORD or ATOMS, got neither" in err
    assert "structure0004.xsf:3: expected the elements Ti, O, got N" in err


def test_two_structures_of_one_name_are_called_by_their_paths(here: Path) -> None:
    write_files(here / "other", crystals()[:1])
    predict("--format", "xsf", "--output", "out", "files/structure0001.xsf", "other")
    names = sorted(path.name for path in (here / "out").iterdir())
    assert names == ["files_structure0001.xsf", "other_structure0001.xsf"]


@pytest.mark.parametrize(("unit", "factor"), [("eV/A", 1.0), ("Ha/A", 27.211386024367243)])
def test_xsf_states_the_unit_of_its_forces(here: Path, unit: str, factor: float) -> None:
    file = here / "files" / crystals()[0].file
    (here / "again.xsf").write_text(
        predict("--format", "xsf", "--xsf-forces", unit, file)[0], encoding="utf-8"
    )
    assert f"# forces in {unit}ngstrom\n" in (here / "again.xsf").read_text("utf-8")
    (read,) = parse_xsf((here / "again.xsf").read_bytes(), name="again", file="again.xsf")
    forces, _, _ = arrays(predicted(crystals()[0]))
    assert read.forces is not None
    np.testing.assert_allclose(read.forces, forces, atol=factor * PRINTED)
    by_ase = ase.io.read(here / "again.xsf").get_forces()
    np.testing.assert_allclose(by_ase * factor / 27.211386024367243, forces, atol=factor * PRINTED)


def test_extended_xyz_keeps_what_a_frame_says_of_itself(here: Path) -> None:
    frame = (
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:tags:I:1:dft_force:R:3 config_type="a b" '
        'dft_energy=-7.5 origin={1 2 3} stress="1 2 3 4 5 6" good\nTi 0 0 0 7 1 2 3\nO 2 0 0 8 -1 -2 -3\n'
    )
    (here / "two.xyz").write_text(2 * frame, encoding="utf-8")
    out, _ = predict("--format", "extxyz", "two.xyz")
    (here / "out.xyz").write_text(out, encoding="utf-8")
    first, second = ase.io.read(here / "out.xyz", ":")
    assert (first.info["name"], second.info["name"]) == ("two-1", "two-2")
    assert (first.info["config_type"], first.info["good"], first.info["dft_energy"]) == ("a b", True, -7.5)
    assert first.arrays["tags"].tolist() == [7, 8]
    assert first.arrays["dft_force"].tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert "energy" not in first.info
    one, _ = read_structures(here / "out.xyz")
    assert one.energy == -7.5
    assert one.forces is not None
    assert one.forces.tolist() == [[1, 2, 3], [-1, -2, -3]]
    again, _ = predict("--format", "extxyz", "out.xyz")
    assert again == out


@pytest.mark.usefixtures("here")
def test_without_labels_predictions_have_plain_names() -> None:
    Path("bare.xyz").write_text(
        '2\nLattice="4 0 0 0 4 0 0 0 4" site=b\nTi 0 0 0\nO 2 0 0\n', encoding="utf-8"
    )
    atoms = ase.io.read(io.StringIO(predict("--format", "extxyz", "bare.xyz")[0]), format="extxyz")
    assert {"energy", "forces", "stress"} <= set(atoms.calc.results)
    assert atoms.info["site"] == "b"


def test_a_structure_is_never_overwritten_with_what_is_predicted_for_it(tmp_path: Path) -> None:
    (file,) = write_files(tmp_path / "files", crystals()[:1])
    before = file.read_bytes()
    make_potential(1).save(tmp_path / "potential.npz")
    arguments = ["predict", str(file), "--potential", str(tmp_path / "potential.npz"), "--format", "xsf"]
    refused = CliRunner().invoke(app, [*arguments, "--output", str(file.parent)])
    assert refused.exit_code == 3
    assert "refusing to overwrite the input file" in refused.output
    assert file.read_bytes() == before
    assert CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "new")]).exit_code == 0
