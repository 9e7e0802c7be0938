from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tio2nn.structures.absolute_energies import all_electron_energy, message_of_unit

# Hartree, all electrons: B3LYP and PBE, to 0.1 %
MOLECULES = {
    "ethanol": ({"C": 2, "H": 6, "O": 1}, -155.0),
    "water": ({"H": 2, "O": 1}, -76.4),
    "methane": ({"C": 1, "H": 4}, -40.5),
    "benzene": ({"C": 6, "H": 6}, -232.2),
    "nitrogen": ({"N": 2}, -109.5),
    "chloride": ({"Na": 1, "Cl": 1}, -622.5),
    "gold": ({"Au": 1}, -19_020.0),
}
EV = 27.211386
UNITS = {"kcal/mol": 627.509, "kJ/mol": 2625.5}
LIGHT = ("ethanol", "water", "methane", "benzene", "nitrogen")


def message(counts: dict[str, int], energies: Sequence[float]) -> str | None:
    elements = sorted(counts)
    compositions = np.array([[counts[element] for element in elements]] * len(energies))
    return message_of_unit(elements, compositions, np.array(energies))


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("unit", ["kcal/mol", "kJ/mol"])
def test_a_whole_set_in_units_of_chemists_is_named(name: str, unit: str) -> None:
    counts, hartree = MOLECULES[name]
    line = message(counts, [hartree * UNITS[unit] + shift for shift in (-20.0, 0.0, 30.0)])
    assert line is not None
    assert line.startswith(f"energies seem to be in {unit}: ")
    assert line.endswith("; convert energies and forces to eV and eV/Å")


@pytest.mark.parametrize("name", LIGHT)
def test_a_whole_set_of_organic_molecules_in_hartree_is_named(name: str) -> None:
    counts, hartree = MOLECULES[name]
    line = message(counts, [hartree])
    assert line is not None
    assert line.startswith("energies seem to be in Hartree: ")


def test_a_few_molecules_with_other_elements_do_not_hide_hartree() -> None:
    elements, hartree = ("C", "H", "S"), {"C": -38.0, "H": -0.6, "S": -398.0}
    compositions = np.array([[1, 4, 0]] * 9 + [[1, 4, 1]])
    energies = compositions @ np.array([hartree[element] for element in elements])
    line = message_of_unit(elements, compositions, energies)
    assert line is not None
    assert line.startswith("energies seem to be in Hartree: ")
    assert message_of_unit(elements, np.array([[1, 4, 1]] * 9 + [[1, 4, 0]]), energies) is None


@pytest.mark.parametrize("name", MOLECULES)
def test_all_electrons_in_ev_are_right(name: str) -> None:
    counts, hartree = MOLECULES[name]
    assert message(counts, [hartree * EV]) is None


# eV: VASP, pseudopotentials, GFN2-xTB, DFTB (mio), and from free atoms
@pytest.mark.parametrize(
    ("counts", "energy"),
    [
        ({"C": 2, "H": 6, "O": 1}, -46.9),
        ({"C": 1}, -9.1),
        ({"C": 1}, -155.0),
        ({"C": 1}, -48.8),
        ({"C": 1}, -46.8),
        ({"H": 2, "O": 1}, -14.2),
        ({"H": 2, "O": 1}, -469.0),
        ({"H": 2, "O": 1}, -138.0),
        ({"H": 2, "O": 1}, -111.0),
        ({"H": 2}, -6.8),
        ({"H": 2}, -31.8),
        # methane and hydrogen, from free atoms
        ({"C": 1, "H": 10}, -44.4),
        # GFN2-xTB ethanol, GFN1-xTB water: 0.074 and 0.076 of all electrons
        ({"C": 2, "H": 6, "O": 1}, -309.4),
        ({"H": 2, "O": 1}, -157.3),
        ({"Ti": 1, "O": 2}, -2481.0),
        ({"Si": 1}, -5.4),
        ({"Cl": 1}, -450.0),
        ({"Li": 1}, -198.0),
        ({"Cu": 1}, 0.0),
        ({"Cu": 1}, 3.5),
    ],
)
def test_other_methods_in_ev_are_right(counts: dict[str, int], energy: float) -> None:
    assert message(counts, [energy]) is None


def test_energies_below_those_of_all_electrons_are_of_no_known_unit() -> None:
    line = message({"C": 1, "H": 4}, [-40.5 * EV * 1000.0])
    assert line is not None
    assert line.startswith("energies are not in eV: they are 1.02e+03 times")


@pytest.mark.parametrize(
    ("element", "hartree", "error"),
    # nonrelativistic Hartree-Fock: C. F. Bunge et al., At. Data Nucl. Data Tables 53 (1993) 113
    [("Ar", 526.8, 0.01), ("Fe", 1262.4, 0.01), ("Kr", 2752.1, 0.01), ("Xe", 7232.1, 0.01)],
)
def test_energies_of_atoms_beyond_neon(element: str, hartree: float, error: float) -> None:
    assert -all_electron_energy(element) / EV == pytest.approx(hartree, rel=error)


def test_hydrogen_by_itself_is_of_no_known_unit() -> None:
    line = message({"H": 2}, [-6.77 * 96.485])
    assert line is not None
    assert line.startswith("energies are not in eV: ")
