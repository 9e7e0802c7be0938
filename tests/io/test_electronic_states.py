"""Files of several charges or spins are told of, those of one are not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import outputs
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from tio2nn.io.electronic_states import ElectronicStates
from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure


def told(*keys: str, atoms: tuple[str, ...] = ("H", "H")) -> tuple[str, ...]:
    states = ElectronicStates()
    lines = "".join(f"{element} 0 0 {0.8 * k}\n" for k, element in enumerate(atoms))
    names = []
    for k, key in enumerate(keys):
        text = f"{len(atoms)}\nProperties=species:S:1:pos:R:3 energy=-1 {key}\n{lines}"
        (item,) = iter_extxyz(text, name=f"s{k}", file="a.xyz")
        assert isinstance(item, Structure), item
        states.add(item)
        names.append(item.name)
    return states.messages(names)


@pytest.mark.parametrize("key", ["charge", "total_charge", "Charge", "net-charge"])
def test_charges_that_differ_are_told(key: str) -> None:
    (line,) = told(f"{key}=0", f"{key}=1", f"{key}=0.0", "")
    assert line == (
        "structures differ in total charge (2 with 0, 1 with 1), which a potential does not know: fits learn the mean; "
        "extract those of one value into a project of their own"
    )


def test_charges_that_are_equal_or_absent_need_no_word() -> None:
    assert told("charge=1", 'charge="+1"', "charge=1.0", "", "charge=T") == ()
    assert told("charges=1", "charges=2", "mulliken_charge=1", "mulliken_charge=2") == ()


@pytest.mark.parametrize("key", ["spin", "multiplicity", "spin_multiplicity"])
def test_spins_that_differ_for_as_many_electrons_are_told(key: str) -> None:
    (line,) = told(f"{key}=1", f"{key}=3")
    assert line.startswith("structures differ in spin")
    assert told(f"{key}=1", f"{key}=1", "") == ()
    # another number of electrons, or a single atom
    assert told(f"{key}=1 charge=0", f"{key}=2 charge=0", atoms=("H",)) == ()
    assert len(told(f"{key}=1 charge=0", f"{key}=2 charge=1")) == 1


def test_sums_of_partial_charges_and_computed_moments_need_no_word() -> None:
    assert told("charge=0", "charge=-1e-5", "charge=2.3e-4") == ()
    assert told("total_spin=3.912", "total_spin=3.874", "total_spin=4.103") == ()
    assert told("spin=1", "spin=-1", "spin=1.0001") == ()
    (line,) = told("charge=-0.0001", "charge=-1", "charge=0.5")
    assert "(1 with -1, 1 with 0, 1 with 0.5)" in line


def told_by_ase(
    path: Path,
    info: list[dict[str, Any]],
    parameters: list[dict[str, Any]],
    charges: list[list[float] | None],
) -> tuple[str, ...]:
    frames = []
    for own_info, own_parameters, own_charges in zip(info, parameters, charges, strict=True):
        atoms = molecule("H2O")
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
        atoms.calc.parameters = own_parameters
        atoms.info.update(own_info)
        atoms.set_initial_charges(own_charges)
        frames.append(atoms)
    if path.suffix == ".traj":
        write(path, frames)
    else:
        with connect(path) as database:
            for atoms in frames:
                database.write(atoms, key_value_pairs=atoms.info)
    states = ElectronicStates()
    for item in read_structures(path):
        assert isinstance(item, Structure), item
        states.add(item)
    return states.messages([item.name for item in read_structures(path)])


NONE: list[Any] = [{}, {}]


@pytest.mark.parametrize("suffix", [".traj", ".db"])
def test_charges_and_spins_that_ase_keeps_are_told(tmp_path: Path, suffix: str) -> None:
    def told_of(*what: Any) -> tuple[str, ...]:
        return told_by_ase(tmp_path / f"{len(list(tmp_path.iterdir()))}{suffix}", *what)

    (line,) = told_of([{"charge": 0}, {"charge": 1}], NONE, [None, None])
    assert "total charge (1 with 0, 1 with 1)" in line
    (line,) = told_of(NONE, [{"charge": 0}, {"charge": -1, "xc": "PBE"}], [None, None])
    assert "total charge (1 with -1, 1 with 0)" in line
    (line,) = told_of(NONE, [{"mult": 1}, {"mult": 3}], [None, None])
    assert "spin multiplicity (1 with 1, 1 with 3)" in line
    (line,) = told_of(NONE, NONE, [[0.0, 0.0, 0.0], [-0.5, 0.75, 0.75]])
    assert "total charge (1 with 0, 1 with 1)" in line
    # guesses for the atoms, and what is told more plainly
    assert told_of(NONE, NONE, [[0.1, 0.0, 0.0], [-0.5, 0.3, 0.4]]) == ()
    assert told_of([{"charge": 1}] * 2, NONE, [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) == ()
    assert told_of([{"charge": 1}] * 2, [{"charge": 0}, {"charge": 1}], [None, None]) == ()


@pytest.mark.parametrize("suffix", [".traj", ".db"])
@pytest.mark.parametrize("charge", [float("nan"), float("inf")])
def test_initial_charges_that_are_no_charges_cost_no_structure(
    tmp_path: Path, suffix: str, charge: float
) -> None:
    # no label depends on them
    path = tmp_path / f"odd{suffix}"
    assert told_by_ase(path, NONE, NONE, [[charge, charge, 0.0], [0.0, 0.0, 0.0]]) == ()
    assert len(list(read_structures(path))) == 2


@pytest.mark.parametrize("blob", [b"abc", b"", "text", 3])
def test_damaged_initial_charges_of_a_database_cost_no_structure(tmp_path: Path, blob: object) -> None:
    path = tmp_path / "damaged.db"
    told_by_ase(path, NONE, NONE, [[1.0, 0.0, 0.0], None])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE systems SET initial_charges = ? WHERE id = 1", (blob,))
    first, _ = read_structures(path)
    assert not first.extras.states


def found(path: Path, text: str) -> Structure:
    path.write_text(text)
    (structure,) = outputs.found(path)
    return structure


OUTPUTS: dict[str, Callable[[float], str]] = {
    "vasprun.xml": lambda charge: outputs.vasprun(1, charge=charge),
    "pw.out": lambda charge: outputs.espresso(1, charge=charge),
    "aims.out": lambda charge: outputs.aims(charge=charge),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_electrons_in_outputs_tell_the_charge(tmp_path: Path, name: str) -> None:
    states = ElectronicStates()
    structures = [
        replace(found(tmp_path / name, OUTPUTS[name](charge)), name=f"{charge:g}")
        for charge in (-1.0, 0.0, 0.0)
    ]
    for structure in structures:
        states.add(structure)
    assert states.messages(["0"]) == ()
    (line,) = states.messages(["0", "-1"])
    assert "total charge (1 with -1, 1 with 0)" in line


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vasprun.xml", "<c>  4.0</c>", "<c> many </c>"),
        ("vasprun.xml", "<c>  4.0</c>", ""),
        ("vasprun.xml", 'name="NELECT">', 'name="NELECT"> x'),
        ("vasprun.xml", 'name="NELECT"', 'name="NBANDS"'),
        ("vasprun.xml", '"atomtypes"', '"kinds"'),
        ("pw.out", "Si1            4.00", "Si1            ****"),
        ("pw.out", "Si1            4.00", "Si2            4.00"),
        ("pw.out", "number of electrons       =", "number of electrons       = x"),
        (
            "pw.out",
            "number of electrons       =        15.00 (up:   8.50, down:   7.50)",
            "number of electrons =",
        ),
        ("aims.out", "total of", "total of about"),
        ("aims.out", "29.000 electrons", "many electrons"),
    ],
)
def test_electrons_that_cannot_be_read_tell_nothing(tmp_path: Path, name: str, old: str, new: str) -> None:
    text = OUTPUTS[name](1.0)
    assert found(tmp_path / name, text).extras.states == {"charge": "1.00"}
    assert old in text
    assert found(tmp_path / name, text.replace(old, new)).extras.states == {}
