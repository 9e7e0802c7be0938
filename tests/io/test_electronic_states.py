"""Files of several charges or spins are told of, those of one are not."""

from __future__ import annotations

import pytest

from tio2nn.io.electronic_states import ElectronicStates
from tio2nn.io.extxyz import iter_extxyz
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
