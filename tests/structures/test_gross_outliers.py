from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.calculators.emt import EMT

from tio2nn.structures.audit import compositions
from tio2nn.structures.gross_outliers import gross_outliers
from tio2nn.structures.structure import Structure

Labelled = tuple[Atoms, float, float]  # total energy, eV; largest force, eV/Å


def gross(labelled: Sequence[Labelled]) -> list[int]:
    """Which are gross outliers, with forces and without, which is the same."""
    atoms, energies, forces = zip(*labelled, strict=True)
    structures = [
        Structure(
            name=f"s{k}",
            elements=tuple(own.get_chemical_symbols()),
            positions=own.positions,
            cell=np.array(own.cell),
            periodic=tuple(bool(axis) for axis in own.pbc),
        )
        for k, own in enumerate(atoms)
    ]
    elements = sorted({element for structure in structures for element in structure.elements})
    counts = compositions(structures, elements)
    found = [
        np.flatnonzero(gross_outliers(structures, counts, np.array(energies), own)).tolist()
        for own in (np.array(forces), np.full(len(atoms), np.nan))
    ]
    assert found[0] == found[1]
    return found[0]


def labelled(atoms: Atoms) -> Labelled:
    own = atoms.copy()
    own.calc = EMT()
    return atoms, own.get_potential_energy(), float(np.linalg.norm(own.get_forces(), axis=1).max())


def shifted(one: Labelled, energy: float) -> Labelled:
    """With another energy, by so much per atom."""
    return one[0], one[1] + energy * len(one[0]), one[2]


def crystals(n: int, seed: int = 0, symbol: str = "Cu") -> list[Labelled]:
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk(symbol, cubic=True) * (2, 2, 1)
        atoms.set_cell(atoms.cell * rng.uniform(0.97, 1.04), scale_atoms=True)
        atoms.rattle(0.05, rng=rng)
        found.append(labelled(atoms))
    return found


@pytest.mark.parametrize("n", [5, 6, 7])
def test_one_wild_energy_of_few_is_found(n: int) -> None:
    copper = [shifted(one, 0.05 * k) for k, one in enumerate(crystals(n))]
    copper[2] = shifted(copper[2], 500.0)
    assert gross(copper) == [2]


def test_forces_beyond_all_others_are_found() -> None:
    energies, forces = np.full(20, -14.8), np.random.default_rng(0).uniform(0.0, 5.0, 20)
    structures, counts = [], np.full((20, 1), 4)
    assert not gross_outliers(structures, counts, energies, forces).any()
    forces[7], forces[8], energies[9] = 3e4, np.nan, np.nan
    np.testing.assert_array_equal(np.flatnonzero(gross_outliers(structures, counts, energies, forces)), [7])


@pytest.mark.parametrize("energy", [-19.0, -8.0, -1.5, 1.5, 8.0, 19.0])
def test_another_energy_with_the_bonds_of_the_others_is_a_mistake(energy: float) -> None:
    copper = crystals(30)
    copper[11] = shifted(copper[11], energy)
    assert gross(copper) == [11]


def test_molecules_and_alloys_have_bonds_too() -> None:
    rng, water, alloys = np.random.default_rng(1), [], []
    for _ in range(20):
        atoms = molecule("H2O")
        atoms.rattle(0.03, rng=rng)
        water.append((atoms, -14.2 + 0.1 * rng.random(), 2.0))
        atoms = bulk("Cu", cubic=True) * (2, 2, 1)
        atoms.set_chemical_symbols(rng.choice(["Cu", "Ag", "Au"], len(atoms)))
        atoms.rattle(0.05, rng=rng)
        alloys.append(labelled(atoms))
    water[3], alloys[5] = shifted(water[3], 4.0), shifted(alloys[5], -3.0)
    assert gross(water) == [3]
    assert gross(alloys) == [5]


@pytest.mark.parametrize("n", [12, 15, 19])
def test_two_of_few_are_mistakes_too(n: int) -> None:
    copper = crystals(n)
    copper[1], copper[2] = shifted(copper[1], 5.0), shifted(copper[2], 5.2)
    assert gross(copper) == [1, 2]


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "CH4"])
def test_atoms_beside_molecules_are_no_mistakes(name: str) -> None:
    rng, labels = np.random.default_rng(0), []
    for _ in range(30):
        atoms = molecule(name)
        atoms.rattle(0.03, rng=rng)
        labels.append((atoms, -3.7 * len(atoms) + 0.2 * rng.random(), 3.0))
    alone = sorted(set(labels[0][0].symbols))
    assert gross([*labels, *((Atoms(element), 0.0, 0.0) for element in alone)]) == []


def test_radicals_among_molecules_are_no_mistakes() -> None:
    # energies by the bonds: 4.3 eV for one with hydrogen, 3.6 eV for another
    rng, labels = np.random.default_rng(0), []
    names = ["CH4", "C2H6", "C2H4", "C2H2", "C3H8", "CH3CH2OH", "CH3OH", "H2CO", "H2O", "HCOOH"]
    for name in [*names * 3, "CH", "OH"]:
        atoms = molecule(name)
        n_hydrogen = atoms.symbols.count("H")
        atoms.rattle(0.02, rng=rng)
        n_heavy = len(atoms) - n_hydrogen
        labels.append((atoms, -4.3 * n_hydrogen - 3.6 * max(n_heavy - 1, 0) + 0.1 * rng.random(), 3.0))
    labels[-1], labels[-2] = shifted(labels[-1], 2.0), shifted(labels[-2], 2.0)
    assert gross(labels) == []


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.4])
def test_overlapping_nuclei_take_no_time(scale: float) -> None:
    squeezed = bulk("Cu", cubic=True) * (3, 3, 3)
    squeezed.set_cell(squeezed.cell * scale, scale_atoms=True)
    copper = [*crystals(30), (squeezed, 5.0 * len(squeezed), 1.0)]
    assert gross(copper) == []


def test_energies_that_are_no_numbers_take_no_part() -> None:
    energies = np.full(20, -14.8)
    energies[[3, 4]] = np.inf, np.nan
    assert not gross_outliers([], np.full((20, 1), 4), energies, np.full(20, np.nan)).any()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Atoms("Cu"), id="an atom"),
        pytest.param(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.25]]), id="a dimer"),
        pytest.param(
            Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.55]]), id="a dimer with the bond of the crystal"
        ),
        pytest.param(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 5.0]]), id="a dimer torn apart"),
        pytest.param(fcc100("Cu", (2, 2, 1), vacuum=8.0), id="a sheet"),
        pytest.param(bulk("Cu", a=4.8), id="a crystal torn apart"),
        pytest.param(bulk("Cu", a=2.7), id="a crystal under pressure"),
        pytest.param(bulk("Cu", "sc", a=2.3), id="other neighbors"),
        pytest.param(bulk("Cu", "diamond", a=5.4), id="a diamond"),
    ],
)
def test_structures_with_other_bonds_may_have_any_energy(other: Atoms) -> None:
    copper = [*crystals(30), labelled(other)]
    energies = [energy / len(atoms) for atoms, energy, _ in copper]
    far = energies[-1] - np.mean(energies[:-1])
    # more than the effective medium theory gives them, to be sure that it is not too little to stand out
    copper[-1] = shifted(copper[-1], 3.0 - far)
    assert gross(copper) == []


def test_atoms_without_bonds_may_have_any_energy() -> None:
    rng, helium = np.random.default_rng(0), []
    for k in range(30):
        atoms = bulk("He", "fcc", a=2.4 if k == 3 else 4.2, cubic=True)
        atoms.rattle(0.02, rng=rng)
        helium.append((atoms, 4 * (3.0 if k == 3 else 0.01 * rng.random()), 0.1))
    assert gross(helium) == []


def test_crystals_among_atoms_are_no_mistakes() -> None:
    dimers = [labelled(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, r]])) for r in np.linspace(2.1, 2.6, 15)]
    assert gross([*dimers, *[shifted(one, -3.0) for one in crystals(1)]]) == []


def test_ions_on_wrong_sites_are_no_mistakes() -> None:
    rng, salt = np.random.default_rng(2), []
    for k in range(20):
        atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
        if k == 4:
            numbers = atoms.numbers.copy()
            numbers[[0, 1]] = numbers[[1, 0]]
            atoms.numbers = numbers
        atoms.rattle(0.05, rng=rng)
        salt.append((atoms, 8 * (1.6 if k == 4 else 0.02 * rng.random()), 3.0))
    assert gross(salt) == []


def test_strained_bonds_pull() -> None:
    copper = crystals(30)
    atoms, energy, _ = shifted(copper[4], 2.0)
    structure = (atoms, energy, 10.0 * max(force for *_, force in copper))
    forces = np.array(
        [*(force for *_, force in copper[:4]), structure[2], *(force for *_, force in copper[5:])]
    )
    copper[4] = structure
    structures = [
        Structure(
            name=str(k),
            elements=tuple(own.symbols),
            positions=own.positions,
            cell=np.array(own.cell),
            periodic=(True,) * 3,
        )
        for k, (own, *_) in enumerate(copper)
    ]
    energies = np.array([energy for _, energy, _ in copper])
    assert not gross_outliers(structures, np.full((30, 1), 16), energies, forces).any()


def test_a_reason_for_one_is_a_reason_for_all_up_to_it() -> None:
    squeezed = shifted(labelled(bulk("Cu", a=2.9)), 0.0)
    mean = np.mean([energy / len(atoms) for atoms, energy, _ in crystals(30)])
    copper = [*crystals(30), shifted(squeezed, mean + 3.0 - squeezed[1])]
    copper[7] = shifted(copper[7], 1.5)
    assert gross(copper) == []  # the squeezed one is farther up
    copper[7] = shifted(copper[7], 13.0)
    assert gross(copper) == [7]


@pytest.mark.parametrize("n", [1, 4])
def test_isolated_atoms_are_no_reason_for_crystals(n: int) -> None:
    copper = [*crystals(30), *[shifted(labelled(Atoms("Cu")), 0.0)] * n]
    for k in (3, 7):
        copper[k] = shifted(copper[k], 2.0)
    assert gross(copper) == [3, 7]


def test_many_that_stand_apart_are_a_population() -> None:
    copper = crystals(40)
    for k in range(0, 40, 8):
        copper[k] = shifted(copper[k], 3.0)
    assert gross(copper) == []
    assert gross([*crystals(40, seed=1), *copper[:2]]) == [40]
