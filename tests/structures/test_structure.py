"""Structures from and to atoms of ASE; what else a structure refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from projects import structures_with_forces

from tio2nn.errors import InputError
from tio2nn.structures.structure import Structure


def same(one: Structure, other: Structure) -> bool:
    """In all that ASE knows of a structure, to the last bit."""
    if (one.forces is None) != (other.forces is None):
        return False
    has_same_forces = one.forces is None or one.forces.tobytes() == np.asarray(other.forces).tobytes()
    return one.geometry_hash == other.geometry_hash and one.energy == other.energy and has_same_forces


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
def test_a_structure_comes_back_from_ase(name: str, request: pytest.FixtureRequest) -> None:
    structure: Structure = request.getfixturevalue(name)
    atoms = structure.to_ase()
    assert tuple(atoms.get_chemical_symbols()) == structure.elements
    assert atoms.calc is None
    back = Structure.from_ase(atoms, name=structure.name)
    assert same(back, structure)
    assert (back.name, back.periodic) == (structure.name, structure.periodic)


@pytest.mark.parametrize("labels", ["energy", "forces", "both"])
def test_labels_come_back_from_ase(labels: str) -> None:
    structure = structures_with_forces()[0]
    if labels == "energy":
        structure = replace(structure, forces=None)
    elif labels == "forces":
        structure = replace(structure, energy=None)
    atoms = structure.to_ase()
    if structure.energy is not None:
        assert atoms.get_potential_energy() == structure.energy
    if structure.forces is not None:
        np.testing.assert_array_equal(atoms.get_forces(), structure.forces)
    assert same(Structure.from_ase(atoms), structure)


def test_neither_side_shares_numbers_with_the_other(skew_crystal: Structure) -> None:
    structure = replace(skew_crystal, forces=np.ones((5, 3)))
    atoms = structure.to_ase()
    back = Structure.from_ase(atoms)
    atoms.calc.results["forces"] *= 2.0
    atoms.positions += 1.0
    atoms.cell[0] *= 2.0
    for kept in (structure, back):
        assert kept.geometry_hash == skew_crystal.geometry_hash
        assert kept.forces is not None
        assert (kept.forces == 1.0).all()


def test_forces_are_those_without_constraints() -> None:
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    atoms.calc = EMT()
    unconstrained = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0]))
    assert (atoms.get_forces()[0] == 0.0).all()
    structure = Structure.from_ase(atoms)
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces, unconstrained)
    assert structure.energy == atoms.get_potential_energy()


def test_nothing_is_computed_for_labels() -> None:
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    atoms.calc = EMT()
    structure = Structure.from_ase(atoms)
    assert (structure.energy, structure.forces) == (None, None)
    atoms.get_potential_energy()
    structure = Structure.from_ase(atoms)
    assert structure.energy == atoms.calc.results["energy"]


@pytest.mark.parametrize("calculator", [EMT, SinglePointCalculator], ids=lambda kind: kind.__name__)
def test_results_of_atoms_that_have_moved_are_no_labels(calculator: type) -> None:
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    if calculator is EMT:
        atoms.calc = EMT()
        atoms.get_forces()
    else:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    assert Structure.from_ase(atoms).energy is not None
    atoms.positions[1, 2] += 0.1
    structure = Structure.from_ase(atoms)
    assert (structure.energy, structure.forces) == (None, None)
    # the calculator keeps what it had
    assert "energy" in atoms.calc.results


def test_what_is_no_structure_is_refused() -> None:
    with pytest.raises(InputError, match=r"^expected atoms, got none$"):
        Structure.from_ase(Atoms())
    with pytest.raises(InputError, match=r"^expected chemical symbols, got none for atom 2$"):
        Structure.from_ase(Atoms("OX", [[0, 0, 0], [0, 0, 2]]))


def test_the_letters_of_a_text_are_no_elements() -> None:
    """Those of CO are carbon and oxygen, those of Co are nothing."""
    with pytest.raises(TypeError, match=r"elements: expected one chemical symbol for each atom, got 'CO'"):
        Structure("x", "CO", np.eye(2, 3), np.zeros((3, 3)))  # type: ignore[arg-type]
