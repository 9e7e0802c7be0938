"""One of two energies is learned, the same one by all structures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tio2nn.io.labels import ReadOptions
from tio2nn.io.read import read_structures
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.workflow.extract import ExtractSummary, extract


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *energies: str, forces: bool = True) -> None:
    """Frames with these keys, each with another geometry."""
    text = ""
    for k, words in enumerate(energies):
        columns = "species:S:1:pos:R:3" + (":forces:R:3" if forces else "")
        rows = [("Ti", 0.0), ("O", 1.9 + 0.01 * k + 0.001 * len(name))]
        text += f'2\nProperties={columns} {words} pbc="F F F"\n'
        text += "".join(f"{e} {x:.6f} 0.0 0.0{' 0.1 0.0 0.0' if forces else ''}\n" for e, x in rows)
    Path(name).write_text(text)


def run(*names: str, energy: str = "auto", key: str | None = None) -> ExtractSummary:
    return extract(Project(Path("p")), names, options=ReadOptions(key, energy=energy))  # type: ignore[arg-type]


def energies() -> list[float]:
    return read_store("p/structures/structures.npz").energies.tolist()


def test_the_free_energy_is_learned_if_all_forces_have_one() -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5", "energy=-2.0 free_energy=-2.25")
    write("bb.xyz", "free_energy=-3.0", forces=False)
    summary = run("a.xyz", "bb.xyz")
    assert energies() == [-1.5, -2.25, -3.0]
    assert summary.energies is not None
    assert summary.energies.message() == (
        "the free energy, to which forces belong; 2 structures have both, up to 0.500000 eV (250.000 meV/atom) apart"
    )
    with Path("p/energies.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["energy_eV"], row["plain_energy_eV"], row["free_energy_eV"]) for row in rows] == [
        ("-1.5", "-1.0", "-1.5"),
        ("-2.25", "-2.0", "-2.25"),
        ("-3.0", "", "-3.0"),
    ]


def test_one_structure_with_forces_and_without_free_energy_decides_for_all() -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5", "free_energy=-2.5")
    write("bb.xyz", "energy=-3.0")
    summary = run("a.xyz", "bb.xyz")
    assert energies() == [-1.0, -3.0]
    # no mixture: what has the other energy alone is left out
    assert [str(error) for error in summary.rejected] == [
        "a.xyz:5: expected an energy, as in other structures, got a free energy alone; see --energy energy|free_energy"
    ]


def test_energies_alone_are_no_free_energies() -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5", forces=False)
    write("bb.xyz", "energy=-3.0", forces=False)
    run("a.xyz", "bb.xyz")
    assert energies() == [-1.0, -3.0]
    write("a.xyz", "free_energy=-1.5", forces=False)
    run("a.xyz")
    assert energies() == [-1.5]


@pytest.mark.parametrize(("choice", "expected"), [("energy", [-1.0, -3.0]), ("free_energy", [-1.5])])
def test_the_user_has_the_last_word(choice: str, expected: list[float]) -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5")
    write("bb.xyz", "energy=-3.0", forces=False)
    summary = run("a.xyz", "bb.xyz", energy=choice)
    assert energies() == expected
    assert len(summary.rejected) == 2 - len(expected)
    found = [s.energy for s in read_structures("a.xyz", options=ReadOptions(energy=choice))]  # type: ignore[arg-type]
    assert found == expected[:1]


def test_a_key_that_is_named_is_the_energy() -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5")
    run("a.xyz", key="energy")
    assert energies() == [-1.0]
    run("a.xyz", key="free_energy")
    assert energies() == [-1.5]


def test_another_decision_is_another_data_set() -> None:
    write("a.xyz", "energy=-1.0 free_energy=-1.5")
    run("a.xyz")
    store = read_store("p/structures/structures.npz")
    assert store.label_notes.label == "free_energy"
    assert (store[0].energy, store[0].plain_energy, store[0].free_energy) == (-1.5, -1.0, -1.5)
    run("a.xyz", energy="energy")
    other = read_store("p/structures/structures.npz")
    assert (other[0].energy, other[0].plain_energy, other[0].free_energy) == (-1.0, -1.0, -1.5)
    assert store.digest_of_energies != other.digest_of_energies


def test_without_free_energies_nothing_is_said() -> None:
    write("a.xyz", "energy=-1.0")
    assert run("a.xyz").energies is None
    assert "free_energy_eV" not in Path("p/energies.csv").read_text()
    assert np.isnan(read_store("p/structures/structures.npz").forces).sum() == 0
