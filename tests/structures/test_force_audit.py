"""Right forces that energies seem to contradict cost a fit nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.md.verlet import VelocityVerlet
from ase.units import fs, kB

from tio2nn.array_types import FloatArray
from tio2nn.structures.force_audit import ForceAudit
from tio2nn.structures.groups import find_groups
from tio2nn.structures.structure import Structure


def audited(structures: list[Structure]) -> ForceAudit:
    return ForceAudit.of(structures, find_groups(structures))


def water(seed: int, interval: int, temperature: float = 1200.0) -> list[Structure]:
    """Frames of a molecule that vibrates and turns; an interval in fs, a temperature in K at first."""
    atoms = molecule("H2O")
    atoms.calc = EMT()
    rng = np.random.default_rng(seed)
    atoms.set_velocities(np.sqrt(kB * temperature / atoms.get_masses())[:, None] * rng.normal(size=(3, 3)))
    dynamics = VelocityVerlet(atoms, timestep=0.5 * fs)
    made = []
    for k in range(40):
        dynamics.run(2 * interval)
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz"))
    return made


def in_box(structures: Iterable[Structure]) -> list[Structure]:
    """In cells of 8 Å, across their faces."""
    return [
        replace(s, cell=8.0 * np.eye(3), periodic=(True,) * 3, positions=s.positions % 8.0)
        for s in structures
    ]


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("interval", [20, 25])
def test_right_forces_of_a_molecule_that_turns_are_not_accused(interval: int, boxed: bool) -> None:
    for seed in range(2):
        structures = water(seed, interval)
        assert audited(in_box(structures) if boxed else structures).messages == ()


def together(*molecules: list[Structure]) -> list[Structure]:
    """Frames of molecules that are 8 Å apart and move by themselves."""
    made = []
    for frames in zip(*molecules, strict=True):
        forces, energies = [s.forces for s in frames], [s.energy for s in frames]
        made.append(
            replace(
                frames[0],
                elements=sum((s.elements for s in frames), ()),
                positions=np.concatenate(
                    [s.positions + 8.0 * k * np.eye(3)[0] for k, s in enumerate(frames)]
                ),
                energy=sum(energy for energy in energies if energy is not None),
                forces=np.concatenate([own for own in forces if own is not None]),
            )
        )
    return made


@pytest.mark.parametrize("boxed", [False, True])
def test_molecules_far_from_each_other_turn_by_themselves(boxed: bool) -> None:
    def in_cells(structures: list[Structure]) -> list[Structure]:
        return [replace(s, cell=24.0 * np.eye(3), periodic=(True,) * 3) if boxed else s for s in structures]

    slow = together(water(1, 20, 450.0), water(3, 20, 450.0))
    assert audited(in_cells(slow)).messages == ()
    one, two, three = (water(seed, 20) for seed in range(3))
    for structures in (together(one, two), together(three, one, two)):
        assert audited(in_cells(structures)).messages == ()
        order = np.roll(np.arange(len(structures[0].elements)), 1)
        swapped = [replace(s, forces=s.forces[order]) for s in structures if s.forces is not None]
        assert audited(in_cells(swapped)).are_wrong


@pytest.mark.parametrize("boxed", [False, True])
def test_wrong_forces_of_a_molecule_that_turns_are_told(boxed: bool) -> None:
    structures = water(1, 20)
    structures = in_box(structures) if boxed else structures
    turned = [replace(s, forces=-s.forces) for s in structures if s.forces is not None]
    assert audited(turned).are_wrong
    swapped = [replace(s, forces=s.forces[[1, 0, 2]]) for s in structures if s.forces is not None]
    assert audited(swapped).are_wrong


@pytest.mark.parametrize("noise", [0.001, 0.003, 0.006])
@pytest.mark.parametrize("n", [15, 30, 60])
def test_noise_in_energies_of_a_dimer_does_not_cost_the_forces(n: int, noise: float) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        distances = np.linspace(0.7 + 0.03 * seed, 1.3 + 0.15 * seed, n)
        made = []
        for k, r in enumerate(rng.permutation(distances) if seed % 2 else distances):
            atoms = Atoms("N2", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.1 * r]])
            atoms.calc = MorsePotential(epsilon=9.8, r0=1.1, rho0=2.9, rcut1=9.0, rcut2=10.0)
            atoms.get_forces()
            made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz"))
        energies = [(s.energy or 0.0) + noise * rng.normal() for s in made]
        assert not audited([replace(s, energy=e) for s, e in zip(made, energies, strict=True)]).are_wrong


def tight_binding(positions: FloatArray, width: float) -> tuple[float, float, FloatArray]:
    """Energy, free energy and forces of atoms with a level each, half filled, smeared by a width in eV."""
    apart = positions[:, None] - positions
    distances = np.linalg.norm(apart, axis=2) + 1e9 * np.eye(len(positions))
    hops, repulsion = -2.0 * np.exp(1.7 - 1.06 * distances), 3.0 * np.exp(4.0 - 2.5 * distances)
    levels, orbitals = np.linalg.eigh(hops)
    low, high = levels[0] - 20.0, levels[-1] + 20.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        filled = 1.0 / (1.0 + np.exp((levels - middle) / width))
        low, high = (low, middle) if 2.0 * filled.sum() > len(levels) else (middle, high)
    entropy = -2.0 * (filled * np.log(filled) + (1.0 - filled) * np.log1p(-filled)).sum()
    energy = float(2.0 * (filled * levels).sum() + 0.5 * repulsion.sum())
    density = 2.0 * (orbitals * filled) @ orbitals.T
    slopes = 2.0 * (-1.06 * density * hops - 1.25 * repulsion) / distances
    return energy, energy - width * entropy, -(slopes[:, :, None] * apart).sum(axis=1)


def smeared(scale: float, seed: int) -> list[Structure]:
    """A relaxed cluster with displacements in Å; energies without entropy."""
    rng = np.random.default_rng(seed)
    sites = np.array(np.meshgrid([0.0, 1.7], [0.0, 1.7], [0.0, 1.7])).reshape(3, 8).T
    sites = sites + rng.normal(scale=0.2, size=sites.shape)
    for _ in range(200):
        sites = sites + 0.02 * tight_binding(sites, 0.5)[2]
    made = []
    for k in range(30):
        positions = sites + rng.normal(scale=scale, size=sites.shape)
        energy, free_energy, forces = tight_binding(positions, 0.5)
        made.append(
            Structure(
                f"s{k:03d}",
                ("C",) * 8,
                positions,
                np.zeros((3, 3)),
                (False,) * 3,
                energy=energy,
                forces=forces,
                file="a.xyz",
                free_energy=free_energy,
                plain_energy=energy,
            )
        )
    return made


@pytest.mark.parametrize("scale", [0.05, 0.1, 0.2])
def test_energies_without_entropy_do_not_cost_the_forces(scale: float) -> None:
    for seed in range(4):
        known = smeared(scale, seed)
        # forces are compared with the free energies, whichever is learned
        assert audited(known).messages == ()
        alone = [replace(s, free_energy=None, plain_energy=None) for s in known]
        assert not audited(alone).are_wrong


def test_wrong_forces_of_smeared_levels_are_told() -> None:
    known = smeared(0.1, 0)
    for change in (lambda forces: -forces, lambda forces: forces / 27.2, lambda forces: forces[::-1]):
        assert audited([replace(s, forces=change(s.forces)) for s in known]).are_wrong
