from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from tio2nn.structures.structure import Structure
from tio2nn.structures.zero_forces import message_of_frozen, without_placeholders


def with_zero_forces(atoms: Atoms, n: int = 6, displacement: float = 0.0) -> list[Structure]:
    rng = np.random.default_rng(3)
    made = []
    for k in range(n):
        own = atoms.copy()
        own.set_cell(own.cell[:] * (1.0 + 0.01 * k), scale_atoms=True)
        own.positions += rng.normal(0.0, displacement, own.positions.shape)
        made.append(
            Structure(
                f"s{k}",
                tuple(own.get_chemical_symbols()),
                own.positions,
                own.cell[:],
                tuple(map(bool, own.pbc)),
                energy=0.0,
                forces=np.zeros((len(own), 3)),
            )
        )
    return made


PERFECT = [
    bulk("Cu", cubic=True),
    bulk("Si") * (2, 1, 1),
    bulk("Mg"),
    bulk("NaCl", "rocksalt", a=5.6),
    bulk("ZnS", "zincblende", a=5.4),
    graphene(vacuum=5.0),
    Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 9.0]]),
    Atoms("H"),
]


@pytest.mark.parametrize("atoms", PERFECT, ids=lambda atoms: str(atoms.symbols))
def test_zeros_by_symmetry_are_forces(atoms: Atoms) -> None:
    structures = with_zero_forces(atoms)
    found, n = without_placeholders(structures)
    assert n == 0
    assert all(s.forces is not None for s in found)


@pytest.mark.parametrize("atoms", [*PERFECT[:6], molecule("H2O")], ids=lambda atoms: str(atoms.symbols))
def test_zeros_on_displaced_atoms_are_none(atoms: Atoms) -> None:
    found, n = without_placeholders(
        with_zero_forces(atoms * (2, 1, 1) if atoms.pbc.any() else atoms, 6, 0.03)
    )
    assert n == 6
    assert all(s.forces is None for s in found)


def test_a_few_relaxed_molecules_keep_theirs() -> None:
    few = with_zero_forces(molecule("H2O"), 4)
    assert without_placeholders(few) == (few, 0)


def test_relaxed_molecules_below_others_with_forces_keep_theirs() -> None:
    relaxed = [replace(s, energy=-1.0) for s in with_zero_forces(molecule("H2O"), 6)]
    forces = np.random.default_rng(0).normal(size=(3, 3))
    others = [replace(s, forces=forces, energy=0.0) for s in with_zero_forces(molecule("H2O"), 10, 0.1)]
    found, n = without_placeholders([*relaxed, *others])
    assert n == 0
    assert all(s.forces is not None for s in found)
    # too few others, others with other atoms, and zeros at any energy
    assert without_placeholders([*relaxed, *others[1:]])[1] == 6
    sulfides = [replace(s, elements=("S", "H", "H")) for s in others]
    assert without_placeholders([*relaxed, *sulfides])[1] == 6
    unknown = [replace(s, energy=0.1 * k) for k, s in enumerate(relaxed)]
    assert without_placeholders([*unknown, *others])[1] == 6


def test_coordinates_that_are_rounded_to_two_decimals_do_not_break_symmetry() -> None:
    stretched = bulk("Al") * (2, 2, 2)
    stretched.set_cell(np.round(stretched.cell[:] * 1.06, 2), scale_atoms=True)
    stretched.positions = np.round(stretched.positions, 2)
    structure = with_zero_forces(stretched, 1)[0]
    assert without_placeholders([structure] * 5)[1] == 0


def test_zeros_on_frozen_atoms_are_told() -> None:
    structures = with_zero_forces(bulk("Cu", cubic=True) * (2, 2, 1), 6, 0.06)
    forces = np.random.default_rng(0).normal(size=(16, 3))
    assert message_of_frozen([replace(s, forces=forces) for s in structures]) is None
    forces[:4] = 0.0
    frozen = [replace(s, forces=forces) for s in structures]
    line = message_of_frozen(frozen)
    assert line is not None
    assert line.endswith(
        " atoms in 6 structures are exactly zero, as if frozen: fits learn these zeros; correct them"
    )
    assert message_of_frozen(frozen[:4]) is None
    # hardly any force on the others: relaxed, and rounded
    assert message_of_frozen([replace(s, forces=0.05 * forces / abs(forces).max()) for s in frozen]) is None
