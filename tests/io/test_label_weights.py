"""Weights of single labels: which labels are placeholders, and which weights are not used."""

from __future__ import annotations

import pytest

from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.labels import Remarks
from tio2nn.structures.structure import Structure

STRESS = 'REF_stress="1 2 3 0 0 0" REF_virials="-125 -250 -375 0 0 0"'


def read(keys: str) -> Structure:
    text = (
        '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:REF_forces:R:3 '
        f"{keys}\nCu 0 0 0 0.5 0 0\nCu 0 0 2.5 -0.5 0 0\n"
    )
    (item,) = iter_extxyz(text, name="x", file="x.xyz")
    assert isinstance(item, Structure), item
    return item


@pytest.mark.parametrize("weight", ["0", "0.0", '"0.0"', "0e0"])
def test_an_energy_without_weight_is_none(weight: str) -> None:
    found = read(f"REF_energy=0.0 free_energy=0.0 config_energy_weight={weight}")
    assert (found.energy, found.free_energy) == (None, None)
    assert found.extras.no_energy == "expected a total energy, got none: config_energy_weight is 0"


def test_forces_without_weight_are_none() -> None:
    found = read("REF_energy=-1 config_forces_weight=0.0")
    assert (found.energy, found.forces) == (-1.0, None)
    assert found.extras.remarks == ("REF_forces ignored: config_forces_weight is 0",)


def test_a_stress_or_virial_without_weight_is_none() -> None:
    for name in ("stress", "virials"):
        other = read(f"REF_energy=-1 {STRESS} config_{name}_weight=0")
        assert other.stress is not None
        assert other.extras.remarks == (f"REF_{name} ignored: config_{name}_weight is 0",)
    neither = read(f"REF_energy=-1 {STRESS} config_stress_weight=0 config_virials_weight=0")
    assert neither.stress is None
    assert len(neither.extras.remarks) == 2


def test_a_weight_of_one_changes_nothing() -> None:
    words = " ".join(f"config_{name}_weight=1.0" for name in ("energy", "forces", "stress", "virials"))
    found = read(f"REF_energy=-1 {STRESS} {words} weight=1")
    assert found.energy == -1.0
    assert found.forces is not None
    assert found.stress is not None
    assert found.extras.remarks == ()


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ("config_energy_weight=2", "config_energy_weight"),
        ("config_energy_weight=0.5 config_forces_weight=10", "config_energy_weight and config_forces_weight"),
        ("weight=0.5", "weight"),
        ("Weight=0", "Weight"),
        ("config_stress_weight=heavy", "config_stress_weight"),
    ],
)
def test_other_weights_are_told_in_one_line(keys: str, names: str) -> None:
    remarks = Remarks()
    for value in ("-1", "-2"):
        found = read(f"REF_energy={value} {keys}")
        assert found.energy == float(value)
        assert found.weight == 1.0
        remarks.add(found)
    assert remarks.lines() == (
        f"x.xyz:1 and 1 more: {names} not used: the weight of a structure is config_weight",
    )


def test_a_weight_that_is_used_needs_no_word() -> None:
    found = read("REF_energy=-1 weight=0.5 config_weight=0.5")
    assert found.weight == 0.5
    assert found.extras.remarks == ()


def test_weights_are_not_offered_as_energies() -> None:
    assert read("my_energy=-1 config_energy_weight=1").extras.no_energy == (
        "expected a total energy, got none; found 'my_energy': choose with --energy-key KEY"
    )
