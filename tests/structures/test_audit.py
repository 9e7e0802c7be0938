from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import random_structure

from tio2nn.structures.audit import Audit, audit, compositions
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.structure import Structure

REFERENCE = ReferenceEnergies.given({"O": -400.0, "Ti": -1600.0})


def labeled(name: str, seed: int, cohesive: float, forces: bool = True) -> Structure:
    """TiO2 with a cohesive energy, eV/atom."""
    structure = random_structure(np.random.default_rng(seed), n_atoms=3)
    return replace(
        structure,
        name=name,
        elements=("Ti", "O", "O"),
        energy=-2400.0 + 3 * cohesive,
        forces=np.array([[0.0, 3.0, 4.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) if forces else None,
    )


def several(energies: list[float]) -> Audit:
    return audit([labeled(f"s{k}", k, energy) for k, energy in enumerate(energies)], REFERENCE)


def test_cohesive_energies_are_per_atom_without_reference_energies() -> None:
    np.testing.assert_allclose(several([-0.5, 0.25]).cohesive, [-0.5, 0.25], atol=1e-12)


def test_the_largest_force_is_the_longest_vector() -> None:
    findings = audit([labeled("a", 1, 0.0), labeled("b", 2, 0.0, forces=False)], REFERENCE)
    np.testing.assert_array_equal(findings.max_forces, [5.0, np.nan])
    assert dict(findings.facts())["forces"] == "in 1 of 2 structures; largest 5.000 eV/Å in a"


def test_energies_far_outside_the_bulk_are_outliers() -> None:
    findings = several([*np.linspace(-0.1, 0.1, 20), 0.9, -0.9, 0.2])
    assert findings.outliers == ("",) * 20 + ("high", "low", "")
    low, high = findings.fences
    assert -0.9 < low < -0.1
    assert 0.2 < high < 0.9
    fact = dict(findings.facts())["cohesive energies"]
    assert fact.endswith(f"; 1 outlier below {low:.3f} (s21); 1 outlier above {high:.3f} (s20)")


def test_differences_of_noise_make_no_outliers() -> None:
    assert set(several([0.0] * 20 + [1e-4]).outliers) == {""}


def test_few_structures_have_no_outliers() -> None:
    assert several([0.0, 0.0, 0.0, 100.0]).outliers == ("",) * 4


def test_the_summary_says_what_there_is() -> None:
    scan = labeled("a1", 1, 0.0)
    larger = replace(scan, name="a2", positions=scan.positions * 1.1, cell=scan.cell * 1.1)
    again = replace(scan, name="a3", energy=-2399.5)
    molecule = replace(
        labeled("m", 2, 0.1),
        elements=("O", "H", "H"),
        positions=np.eye(3) * 0.7,
        periodic=(False, False, False),
    )
    reference = ReferenceEnergies.fit(
        ("H", "O", "Ti"), compositions([scan], ("H", "O", "Ti")), np.array([-2400.0])
    )
    findings = audit([scan, larger, again, molecule], reference)
    assert findings.formulas == ("TiO2", "TiO2", "TiO2", "H2O")
    assert findings.group_names == ("a1", "a1", "a1", "m")
    assert findings.duplicates == ("", "", "a1", "")
    assert findings.closest_elements[3] == "H-O"
    facts = dict(findings.facts())
    assert facts["structures"] == "4, with 12 atoms"
    assert facts["compositions"] == "TiO2 (3), H2O (1)"
    assert facts["groups"] == ("2, the largest with 3 structures: 1 volume scan (3 structures), 1 single")
    assert facts["duplicates"] == (
        "1 structure with the geometry of another (a3 of a1), 0 also with its energy; energies differ by up to 0.5 eV"
    )
    assert facts["reference energies"].endswith("(least squares; not determined by the compositions)")
    assert facts["closest atoms"].startswith(f"{findings.closest.distances.min():.3f} Å (")


def test_an_atom_alone_has_no_closest_atoms() -> None:
    alone = Structure("s", ("O",), np.zeros((1, 3)), np.zeros((3, 3)), (False,) * 3, -400.0)
    facts = dict(audit([alone], REFERENCE).facts())
    assert facts["structures"] == "1, with 1 atom"
    assert facts["closest atoms"] == "none: every structure is a single atom"


def test_many_compositions_are_cut_short() -> None:
    atoms = [
        Structure(f"s{n}", ("O",) * n, np.arange(3.0 * n).reshape(n, 3), np.eye(3), (False,) * 3, -400.0 * n)
        for n in range(2, 15)
    ]
    assert dict(audit(atoms, REFERENCE).facts())["compositions"].endswith(" and 3 more")


def test_a_set_without_duplicates_and_forces_says_so() -> None:
    facts = dict(
        audit([labeled("a", 1, 0.0, forces=False), labeled("b", 2, 0.0, forces=False)], REFERENCE).facts()
    )
    assert (facts["duplicates"], facts["forces"]) == ("none", "none")


def test_compositions_count_the_elements_that_are_asked_for(molecule: Structure) -> None:
    np.testing.assert_array_equal(compositions([molecule], ("Ti", "N", "O")), [[1, 0, 3]])


@pytest.mark.parametrize("energy", [0.0, -2400.0])
def test_duplicates_carry_the_difference_of_their_energies(energy: float) -> None:
    one = labeled("a", 1, 0.0)
    findings = audit([one, replace(one, name="b", energy=energy)], REFERENCE)
    np.testing.assert_array_equal(findings.duplicate_energies, [np.nan, energy + 2400.0])


def test_an_energy_beyond_any_physical_scale_is_a_gross_outlier_and_named() -> None:
    findings = several([*np.linspace(-0.1, 0.1, 20), 500.0, -0.9])
    assert findings.outliers[-2:] == ("gross", "low")
    facts = dict(findings.facts())
    assert facts["gross outliers"] == (
        "1, far outside the range of all others: s20 (500.000 eV/atom, forces to 5.000 eV/Å)"
    )
    assert "gross outliers" not in dict(several([0.0, 0.1]).facts())


@pytest.mark.parametrize(
    ("scale", "cause"),
    [
        (1 / 27.211386, ", as if in Hartree"),
        (1 / 13.605693, ", as if in Rydberg"),
        (23.0605, ", as if in kcal/mol"),
        (96.4853, ", as if in kJ/mol"),
        (1 / 3, ", as if per atom"),
        (-1.0, ", as if with the other sign"),
        (0.7, ""),
    ],
)
def test_a_gross_outlier_is_told_its_unit(scale: float, cause: str) -> None:
    structures = [labeled(f"s{k}", k, 0.01 * k) for k in range(20)]
    right = structures[7]
    assert right.energy is not None
    structures[7] = replace(right, energy=right.energy * scale)
    (fact,) = [text for name, text in audit(structures, REFERENCE).facts() if name == "gross outliers"]
    assert fact.endswith(f"eV/Å{cause})")


def test_a_unit_is_told_by_energies_that_are_there() -> None:
    # with the other sign it would be 2 eV/atom up, within the fences of energies that spread, but above all of them
    structures = [labeled(f"s{k}", k, 0.05 * k) for k in range(20)]
    structures[7] = replace(structures[7], energy=3 * (800.0 - 2.0))
    findings = audit(structures, REFERENCE)
    assert findings.fences[1] > 2.0
    assert findings.outliers[7] == "gross"
    assert findings.units[7] == ""
