from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tio2nn.structures.audit import audit, compositions
from tio2nn.structures.energy_check import EnergyFindings, check_energies
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure

ATOMIC = {"Au": -4000.0, "Cu": -1000.0}


def alloys(n: int = 30) -> list[Structure]:
    """Chains of 2 to 9 atoms with total energies."""
    rng = np.random.default_rng(4)
    made = []
    for k in range(n):
        elements = tuple(rng.choice(["Au", "Cu"], int(rng.integers(2, 10))).tolist())
        positions = np.zeros((len(elements), 3))
        positions[:, 2] = np.cumsum(rng.normal(2.6, 0.05, len(elements)))
        energy = sum(ATOMIC[element] for element in elements) + len(elements) * float(rng.normal(-3.0, 0.3))
        made.append(Structure(f"s{k}", elements, positions, np.zeros((3, 3)), (False,) * 3, energy=energy))
    return made


def found(structures: list[Structure]) -> EnergyFindings:
    elements = tuple(sorted({element for s in structures for element in s.elements}))
    counts = compositions(structures, elements)
    energies = np.array([s.energy for s in structures], dtype=np.float64)
    return check_energies(
        audit(structures, ReferenceEnergies.fit(elements, counts, energies)), counts, energies
    )


def with_energies(change: float, per_atom: bool = False) -> list[Structure]:
    return [replace(s, energy=(s.energy or 0.0) / (s.n_atoms if per_atom else 1) + change) for s in alloys()]


@pytest.mark.parametrize("offset", [0.0, -1e5])
def test_total_energies_need_no_word(offset: float) -> None:
    shifted = [replace(s, energy=(s.energy or 0.0) + offset * s.n_atoms) for s in alloys()]
    assert found(shifted) == EnergyFindings()


def test_reference_energies_that_are_given_are_not_held_against_energies() -> None:
    structures = alloys()
    elements = ("Au", "Cu")
    counts = compositions(structures, elements)
    energies = np.array([s.energy for s in structures], dtype=np.float64)
    given = ReferenceEnergies.given({"Au": 0.0, "Cu": 0.0})
    assert check_energies(audit(structures, given), counts, energies) == EnergyFindings()


def test_energies_per_atom_are_recognized() -> None:
    (line,) = found(with_energies(0.0, per_atom=True)).messages
    assert "energies per atom; give total energies" in line


def test_a_constant_in_each_energy_is_recognized() -> None:
    (line,) = found(with_energies(-1e6)).messages
    assert "the same constant; subtract it" in line


def test_half_of_another_method_is_recognized() -> None:
    structures = [
        replace(s, energy=(s.energy or 0.0) + 700.0 * s.n_atoms * (k % 2)) for k, s in enumerate(alloys())
    ]
    (line,) = found(structures).messages
    assert "total energies by one method" in line


def test_a_wild_energy_among_few_is_named() -> None:
    few = alloys(4)
    few = [replace(s, elements=("Cu",) * s.n_atoms, energy=-1003.0 * s.n_atoms) for s in few]
    assert found(few) == EnergyFindings()
    result = found([replace(few[0], energy=4000.0), *few[1:]])
    assert result.are_wrong
    assert "more than bonds can explain: check units" in result.messages[0]


def test_what_is_left_out_or_collides_is_no_reason() -> None:
    structures = alloys()
    wild = replace(structures[0], energy=(structures[0].energy or 0.0) + 1e4)
    assert found([wild, *structures[1:]]) == EnergyFindings()
    atoms = structures[1]
    close = replace(
        atoms, positions=0.3 * atoms.positions, energy=(atoms.energy or 0.0) + 60.0 * atoms.n_atoms
    )
    assert not found([structures[0], close, *structures[2:4]]).are_wrong


def test_a_geometry_with_two_energies_is_told_but_spoils_nothing_else() -> None:
    structures = alloys()
    again = replace(structures[3], name="again", energy=(structures[3].energy or 0.0) + 0.5)
    same = replace(structures[4], name="same", energy=(structures[4].energy or 0.0) + 1e-3)
    result = found([*structures, again, same])
    assert not result.are_wrong
    (line,) = result.messages
    assert line.startswith("1 structure has the geometry of another but a different energy, by up to ")


def test_one_energy_for_all_is_none_where_forces_act() -> None:
    same = [
        replace(s, elements=("Cu",) * s.n_atoms, energy=0.0, forces=np.full((s.n_atoms, 3), 0.3))
        for s in alloys()
    ]
    result = found(same)
    assert result.are_wrong
    (line,) = result.messages
    assert line.startswith("all energies are 0 eV, but forces reach 0.52 eV/Å")
    assert found([replace(s, forces=None) for s in same]) == EnergyFindings()
    assert found(same[:2]) == EnergyFindings()


def test_a_set_of_molecules_in_kcal_per_mol_is_named_but_no_label_is_wrong_by_itself() -> None:
    rng = np.random.default_rng(8)
    water = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    molecules = [
        Structure(
            f"w{k}",
            ("O", "H", "H"),
            water + rng.normal(0.0, 0.02, (3, 3)),
            np.zeros((3, 3)),
            (False,) * 3,
            energy=-76.4 * 627.509 + float(rng.normal(0.0, 2.0)),
        )
        for k in range(12)
    ]
    findings = found(molecules)
    assert not findings.are_wrong
    assert [line.split(":")[0] for line in findings.messages] == ["energies seem to be in kcal/mol"]
