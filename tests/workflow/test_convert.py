"""What is written in formats of other programs is read back without the loss of a bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from ase.io import read as ase_read
from command_line import invoke, refusal
from projects import PARAMETERS
from strategies import random_structure

from tio2nn.errors import InputError
from tio2nn.io.labeled_text import exact_xsf
from tio2nn.io.labels import ReadOptions
from tio2nn.io.read import read_structures
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore, read_store, write_store
from tio2nn.structures.energy_label import labeled
from tio2nn.structures.structure import Structure
from tio2nn.workflow import convert as verb
from tio2nn.workflow.convert import convert
from tio2nn.workflow.extract import extract


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StructureStore:
    """Structures with two energies, with and without forces and periodic axes, with odd names and all digits."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    made = []
    for k, periodic in enumerate(
        ((True, True, True), (True, True, False), (False, False, False), (True, True, True))
    ):
        structure = random_structure(rng, n_atoms=4)
        energy = float(rng.normal(-5000.0, 1.0))
        stress = rng.normal(size=(3, 3)) * 10.0 ** rng.integers(-12, 3, size=(3, 3))
        made.append(
            replace(
                structure,
                name=('a "b" \\ c', "Ä 1", "3", "d-4")[k],
                periodic=periodic,
                cell=structure.cell if any(periodic) else np.zeros((3, 3)),
                positions=structure.positions + rng.normal(size=(4, 3)) * 1e-9,
                energy=energy + 0.1,
                free_energy=energy + 0.1,
                config_type=("AIMD-NVT", 'a "b" \\ c', "", "1e5")[k],
                weight=(1.0, 0.1, 0.0, 2.5)[k],
                stress=stress + stress.T if k == 0 else None,
                plain_energy=energy,
                forces=rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-12, 3, size=(4, 3))
                if k != 2
                else None,
            )
        )
    project = Project.create(tmp_path / "p", PARAMETERS)
    write_store(project.structures_file, made, groups=["g", "g", "3", "1e5"], label="free_energy")
    return read_store(project.structures_file)


def same(written: Structure, read: Structure, *, stress: bool = True, notes: bool = True) -> bool:
    assert written.elements == read.elements
    for name in ("positions", "cell", "forces", *(["stress"] if stress else [])):
        one, other = getattr(written, name), getattr(read, name)
        assert (one is None) == (other is None), name
        assert one is None or one.tobytes() == other.tobytes(), name
    if notes:
        assert (written.config_type, written.weight) == (read.config_type, read.weight)
    return written.periodic == read.periodic


@pytest.mark.parametrize("file", ["out.xyz", "out.db"])
def test_both_energies_come_back(store: StructureStore, file: str) -> None:
    assert convert("p", file, "db" if file.endswith("db") else "extxyz").n_structures == 4
    for written, read in zip(store, read_structures(file), strict=True):
        assert same(written, read)
        assert (read.plain_energy, read.free_energy) == (written.plain_energy, written.free_energy)
    Project.create(Path("again"), PARAMETERS)
    extract("again", [file])
    again = read_store("again/structures/structures.npz")
    assert again.digest_of_energies == store.digest_of_energies
    assert again.digest_of_forces == store.digest_of_forces
    assert again.digest_of_stresses == store.digest_of_stresses is not None
    assert again.label_notes == store.label_notes


def test_runner_in_angstrom_loses_nothing(store: StructureStore) -> None:
    summary = convert("p", "out.data", "runner", units="A,eV")
    assert summary.n_without_forces == 1
    for written, read in zip(store, read_structures("out.data"), strict=True):
        assert same(written, read)
        assert (read.plain_energy, read.free_energy) == (written.plain_energy, written.free_energy)
        assert labeled(read, "free_energy").energy == written.energy
    convert("p", "atomic.data", "runner")
    for written, read in zip(store, read_structures("atomic.data"), strict=True):
        np.testing.assert_allclose(read.positions, written.positions, rtol=1e-15, atol=1e-15)
        assert read.free_energy == pytest.approx(written.energy, rel=1e-15)
    # no structure is read in units that it states not to have
    options = ReadOptions(runner_units="A,eV")
    assert [s.energy for s in read_structures("atomic.data", options=options)] == [
        s.energy for s in read_structures("atomic.data")
    ]


def test_xsf_has_no_place_for_stresses_kinds_and_weights(store: StructureStore) -> None:
    assert convert("p", "folder", "xsf").n_without_stress == 1
    for written, read in zip(store, read_structures("folder"), strict=True):
        assert same(written, read, stress=False, notes=False)
        assert read.energy == written.energy


def test_ase_reads_what_is_written(store: StructureStore) -> None:
    convert("p", "out.xyz", "extxyz")
    convert("p", "out.db", "db")
    for file in ("out.xyz", "out.db"):
        for structure, atoms in zip(store, ase_read(file, index=":"), strict=True):
            assert tuple(atoms.get_chemical_symbols()) == structure.elements
            assert atoms.calc.results["free_energy"] == structure.free_energy
            assert atoms.calc.results["energy"] == structure.plain_energy
            if structure.stress is not None:
                np.testing.assert_array_equal(atoms.get_stress(voigt=False), structure.stress)
    assert [atoms.info["name"] for atoms in ase_read("out.xyz", index=":")] == [
        'a "b" \\ c',
        "Ä 1",
        "3",
        "d-4",
    ] or [str(atoms.info["name"]) for atoms in ase_read("out.xyz", index=":")] == [
        'a "b" \\ c',
        "Ä 1",
        "3",
        "d-4",
    ]
    with connect("out.db") as rows:
        assert [row.data["group"] for row in rows.select()] == ["g", "g", "3", "1e5"]


def test_split_and_groups_stand_beside_the_labels(store: StructureStore) -> None:
    parts = ["train", "test", "train", "validation"]
    rows = [
        f'"{name.replace(chr(34), 2 * chr(34))}",{part}'
        for name, part in zip(store.names, parts, strict=True)
    ]
    Path("p/split.csv").write_text("\n".join(["structure,part", *rows]) + "\n", encoding="utf-8")
    convert("p", "out.xyz", "extxyz")
    info = [structure.extras.info for structure in read_structures("out.xyz")]
    assert [one["split"].strip('"') for one in info] == parts
    assert [one["group"].strip('"') for one in info] == ["g", "g", "3", "1e5"]
    assert convert("p", "train.db", "db", part="train").n_structures == 2
    with connect("train.db") as found:
        assert found.count(tio2nn_split="train") == 2


def test_what_xsf_cannot_express_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (odd, good) = (random_structure(np.random.default_rng(k), n_atoms=4) for k in range(2))
    project = Project.create(tmp_path / "p", PARAMETERS)
    made = [
        replace(odd, name="odd", periodic=(False, True, True), energy=-1.0),
        replace(good, name="good", energy=-1.0),
    ]
    write_store(project.structures_file, made)
    _, err = invoke("convert", "out", "-C", "p", code=3)
    assert "odd: expected the periodic axes first, as XSF demands" in err
    assert [path.name for path in Path("out").iterdir()] == ["structure000002.xsf"]


def test_there_is_a_whole_folder_or_none(store: StructureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def fails_at_third(structure: Structure, notes: Mapping[str, str]) -> str:
        written.append(structure.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return exact_xsf(structure, notes)

    Path("empty").mkdir()
    for folder in ("out", "empty"):
        written.clear()
        with monkeypatch.context() as changed:
            changed.setattr(verb, "exact_xsf", fails_at_third)
            with pytest.raises(KeyboardInterrupt):
                convert("p", folder, "xsf")
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "p"]
    assert not any(Path("empty").iterdir())
    assert convert("p", "empty", "xsf").n_structures == len(store)


def test_nothing_is_overwritten(store: StructureStore) -> None:
    Path("out.xyz").write_text("mine")
    with pytest.raises(InputError, match=r"^out\.xyz: expected a new file or an empty folder"):
        convert("p", "out.xyz", "extxyz")
    assert Path("out.xyz").read_text() == "mine"
    assert len(store) == 4


def test_the_command_takes_the_format_from_the_suffix(store: StructureStore) -> None:
    out, err = invoke("convert", "some.data", "-C", "p", "--runner-units", "A,eV")
    assert out == ""
    assert (
        "1 structure without forces have zeros in some.data" in err
        or "wrote 4 structures to some.data" in err
    )
    _, err = invoke("convert", "folder", "-C", "p")
    assert "warning: 1 stress is left out, as XSF cannot hold a stress" in err
    assert refusal("convert", "x.cif", "-C", "p", code=2).startswith(
        "expected --format with one of extxyz, db"
    )
    assert refusal("convert", "x.xyz", "-C", "p", "--only", "test", code=3)
    assert len(store) == 4
