"""Stresses as labels: the order of their components, and ASE's sign."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from tio2nn.structures.stress import from_voigt, to_voigt, usable_stress
from tio2nn.structures.structure import Structure

TENSOR = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])


def test_six_numbers_stand_in_the_order_of_voigt() -> None:
    np.testing.assert_array_equal(from_voigt(np.arange(1.0, 7.0)), TENSOR)
    np.testing.assert_array_equal(
        to_voigt(np.stack([TENSOR, 2 * TENSOR])), [np.arange(1, 7), np.arange(2, 13, 2)]
    )


def test_a_virial_is_scaled_by_the_volume() -> None:
    found = usable_stress(TENSOR.ravel(), (True, True, True), -0.5)
    np.testing.assert_array_equal(found.stress, -0.5 * TENSOR)
    assert found.reason is None


@pytest.mark.parametrize("given", ["text", [1.0, 2.0], [[1.0], [2.0, 3.0]], np.ones((3, 3, 1))])
def test_what_is_no_stress_is_told(given: object) -> None:
    found = usable_stress(given, (True, True, True))
    assert found.stress is None
    assert found.reason is not None
    assert found.reason.startswith("expected six or nine numbers, got ")


@pytest.mark.parametrize("given", [np.zeros(6), -np.zeros((3, 3))])
def test_zeros_stand_for_a_stress_that_was_not_computed(given: object) -> None:
    found = usable_stress(given, (True, True, True))
    assert found == (None, "expected numbers that were computed, got zeros only")


def test_a_stretched_crystal_is_under_tension_and_ase_gives_the_same_back() -> None:
    atoms = bulk("Cu", cubic=True)
    stretched = np.array([[1.03, 0.01, 0.0], [0.01, 1.02, 0.0], [0.0, 0.0, 1.02]])
    atoms.set_cell(atoms.cell[:] @ stretched, scale_atoms=True)
    atoms.calc = EMT()
    atoms.get_stress()
    structure = Structure.from_ase(atoms)
    assert structure.stress is not None
    assert np.trace(structure.stress) > 0.1
    back = structure.to_ase()
    assert isinstance(back.calc, SinglePointCalculator)
    np.testing.assert_array_equal(back.get_stress(), to_voigt(structure.stress))
    np.testing.assert_array_equal(Structure.from_ase(back).stress, structure.stress)


def test_a_slab_has_no_stress_to_learn() -> None:
    atoms = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, stress=np.ones(6))
    assert Structure.from_ase(atoms).stress is None


def test_a_stress_is_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"stress: expected shape \(3, 3\), got \(6,\)"):
        Structure("s", ("H",), np.zeros((1, 3)), np.eye(3), stress=np.zeros(6))
