"""Forces are compared with differences of energies of a crystal of springs, whose forces are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.md.verlet import VelocityVerlet
from ase.units import fs, kB

from tio2nn.array_types import FloatArray
from tio2nn.structures import contradictions
from tio2nn.structures.contradictions import Contradiction
from tio2nn.structures.force_audit import ForceAudit
from tio2nn.structures.force_check import Disagreement, check_forces
from tio2nn.structures.force_pairs import to_compare
from tio2nn.structures.groups import find_groups
from tio2nn.structures.structure import Structure

SITES = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
STIFFNESS = 3.0  # eV/Å²


def springs(n: int, strain: float, suffix: str = "xsf") -> list[Structure]:
    """Atoms on springs to their sites, in a cell that is strained at random; energies also follow the strain."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(n):
        strains = strain * rng.uniform(-1, 1, (3, 3))
        cell = 3.6 * (np.eye(3) + strains)
        shifts = rng.normal(scale=0.1, size=(4, 3))
        shifts -= shifts.mean(axis=0)
        energy = -10.0 + 0.5 * STIFFNESS * (shifts**2).sum() + 30.0 * np.trace(strains) ** 2
        made.append(
            Structure(
                f"s{number:03d}",
                ("Cu",) * 4,
                SITES @ cell + shifts,
                cell,
                energy=float(energy),
                forces=-STIFFNESS * shifts,
                file=f"s{number:03d}.{suffix}",
            )
        )
    return made


def compared(structures: list[Structure]) -> Disagreement | None:
    found = check_forces(to_compare(structures, find_groups(structures))).finding
    assert not isinstance(found, Contradiction)
    return found


def told(structures: list[Structure]) -> tuple[str, ...]:
    return ForceAudit.of(structures, find_groups(structures)).messages


def changed(structures: list[Structure], change: Callable[[FloatArray], FloatArray]) -> list[Structure]:
    return [replace(s, forces=change(s.forces)) for s in structures if s.forces is not None]


@pytest.mark.parametrize("strain", [0.0, 0.04])
def test_forces_that_fit_need_no_word(strain: float) -> None:
    assert told(springs(40, strain)) == ()


@pytest.mark.parametrize("strain", [0.0, 0.04])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (27.2114, "as if forces were in Ha/Å; read them with --xsf-forces Ha/A"),
        (51.422, "as if forces were in Ha/Bohr; correct the files"),
        (1 / 27.2114, "leave out --xsf-forces Ha/A"),
        (-1.0, "as if forces had the wrong sign"),
    ],
)
def test_forces_in_another_unit_are_recognized(strain: float, factor: float, words: str) -> None:
    structures = [replace(s, forces=s.forces / factor) for s in springs(40, strain) if s.forces is not None]
    found = compared(structures)
    assert found is not None
    assert found.factor == pytest.approx(factor, rel=0.1)
    assert words in found.message()
    assert "\n" not in found.message()


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1 / 23.0605, "as if forces were in kcal/mol/Å;"), (23.0605, "as if energies were in kcal/mol;")],
)
def test_kilocalories_are_not_taken_for_hartree_where_pairs_tell_them_apart(
    factor: float, words: str
) -> None:
    structures = [replace(s, forces=s.forces / factor) for s in springs(40, 0.0) if s.forces is not None]
    found = compared(structures)
    assert found is not None
    assert words in found.message()


@pytest.mark.parametrize(
    ("energies", "forces", "words"),
    [
        (1.0, 13.6057 / 0.529177, "as if forces were in Ry/Bohr"),
        (13.6057, 1.0, "as if energies were in Ry, or forces were multiplied by 13.6 once too often"),
    ],
)
@pytest.mark.parametrize("strain", [0.0, 0.04])
def test_rydbergs_are_recognized(energies: float, forces: float, words: str, strain: float) -> None:
    structures = [
        replace(s, energy=s.energy / energies, forces=s.forces / forces)
        for s in springs(40, strain, "xyz")
        if s.energy is not None and s.forces is not None
    ]
    found = compared(structures)
    assert found is not None
    assert words in found.message()


def test_only_for_xsf_is_there_an_option() -> None:
    structures = [
        replace(s, forces=s.forces / 27.2114) for s in springs(9, 0.0, "xyz") if s.forces is not None
    ]
    found = compared(structures)
    assert found is not None
    assert found.message().endswith("as if forces were in Ha/Å; correct the files")


def test_energies_per_atom_are_recognized() -> None:
    structures = [replace(s, energy=s.energy / 4) for s in springs(20, 0.0) if s.energy is not None]
    found = compared(structures)
    assert found is not None
    assert found.message().endswith("as if energies were per atom; give total energies")


def platinum(n: int, change: Callable[[Atoms, float], None]) -> list[Structure]:
    """Crystals of platinum with right forces; `change` takes a number from -1 to 1."""
    made = []
    for k, x in enumerate(np.linspace(-1.0, 1.0, n)):
        atoms = bulk("Pt", cubic=True) * 2
        change(atoms, float(x))
        atoms.calc = EMT()
        atoms.get_forces()
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None))
    return made


@pytest.mark.parametrize("size", [0.15, 0.2, 0.3])
def test_right_forces_of_atoms_pressed_together_are_not_accused(size: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def change(atoms: Atoms, _x: float, rng: np.random.Generator = rng) -> None:
            atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)

        assert told(platinum(20, change)) == ()


@pytest.mark.parametrize(("factor", "is_known"), [(1.89, True), (1.6, False), (0.63, False), (0.53, True)])
def test_factors_that_anharmonicity_may_leave_are_those_of_a_unit_or_nothing(
    factor: float, is_known: bool
) -> None:
    found = compared(changed(springs(40, 0.0), lambda forces: forces / factor))
    assert (found is not None) == is_known


@pytest.mark.parametrize("nearest", [1.2, 1.5, 1.8])
def test_right_forces_of_a_dimer_pulled_apart_are_not_accused(nearest: float) -> None:
    made = []
    for k, r in enumerate(np.linspace(nearest, 4.0, 10)):
        atoms = Atoms("Cu2", [[0.0, 0.0, 0.0], [0.0, 0.0, r]])
        atoms.calc = LennardJones(sigma=2.0, epsilon=0.3, rc=12.0)
        atoms.get_forces()
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz"))
    assert told(made) == ()


@pytest.mark.parametrize("scale", [0.97, 1.0, 1.1])
def test_right_forces_along_a_path_of_cells_are_not_accused(scale: float) -> None:
    mode = np.random.default_rng(0).normal(size=(32, 3))

    def change(atoms: Atoms, x: float) -> None:
        atoms.set_cell(scale * atoms.cell[:] @ np.diag([1.0, 1.0, 1.0 + 0.1 * x]), scale_atoms=True)
        atoms.positions += 0.01 * x * mode

    assert told(platinum(40, change)) == ()


def test_without_enough_to_compare_there_is_nothing_to_say() -> None:
    wrong = [replace(s, forces=s.forces / 27.2114) for s in springs(40, 0.04) if s.forces is not None]
    assert compared(wrong[:5]) is None
    assert told(wrong[:5]) == ()
    assert compared([replace(s, forces=None) for s in wrong]) is None


@pytest.mark.parametrize("strain", [0.0, 0.04])
@pytest.mark.parametrize("what", ["permuted", "noise"])
def test_forces_of_other_atoms_are_told(strain: float, what: str) -> None:
    rng = np.random.default_rng(2)

    def change(forces: FloatArray) -> FloatArray:
        return rng.permutation(forces) if what == "permuted" else rng.normal(size=forces.shape)

    (line,) = told(changed(springs(60, strain), change))
    assert line.startswith("forces do not match energies: ")
    assert line.endswith("; check that forces belong to these structures and atoms, in this order")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([3, 2, 1, 0], "in reverse order of the atoms"),
        ([3, 0, 1, 2], "1 row too far down"),
        ([1, 2, 3, 0], "1 row too far up"),
        (
            [1, 0, 3, 2],
            "in another order than atoms (that of atom 1 in row 2, that of atom 2 in row 1, ",
        ),
    ],
)
def test_another_order_of_the_forces_is_recognized(order: list[int], words: str) -> None:
    (line,) = told(changed(springs(60, 0.0), lambda forces: forces[order]))
    assert f"than the forces of either structure predict, as if forces stood {words}" in line
    assert line.endswith("; correct the files")


def test_no_order_is_looked_for_among_too_many_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contradictions, "_MOST_ATOMS", 3)
    (line,) = told(changed(springs(60, 0.0), lambda forces: forces[::-1]))
    assert line.endswith("; check that forces belong to these structures and atoms, in this order")


@pytest.mark.parametrize(
    ("factor", "words"), [(-1.0, "forces had the wrong sign"), (27.2114, "forces were in Ha/Å")]
)
def test_single_structures_with_other_forces_are_named(factor: float, words: str) -> None:
    structures = springs(60, 0.0)
    wrong = range(7, 60, 8)
    for k in wrong:
        (structures[k],) = changed(structures[k : k + 1], lambda forces: forces / factor)
    audit = ForceAudit.of(structures, find_groups(structures))
    (line,) = audit.messages
    assert line.startswith("forces of 6 structures (s007, s015, s023, ...) do not match energies, as if ")
    assert words in line
    assert line.endswith("; those of the others agree; correct the files")
    assert not audit.are_wrong


def test_a_fit_bears_wrong_forces_of_a_few_structures_only() -> None:
    structures = springs(60, 0.0)
    for period, are_wrong in ((10, False), (6, True)):
        for k in range(3, 60, period):
            structures[k : k + 1] = changed(springs(60, 0.0)[k : k + 1], lambda forces: -forces)
        audit = ForceAudit.of(structures, find_groups(structures))
        assert "; those of the others agree; " in audit.messages[0]
        assert (audit.are_few, audit.are_wrong) == (not are_wrong, are_wrong)


@pytest.mark.parametrize(
    ("factor", "words"), [(-1.0, "forces had the wrong sign"), (27.2114, "forces were in Ha/Å")]
)
@pytest.mark.parametrize("by", ["file", "kind", "run"])
def test_a_part_with_other_forces_is_named(by: str, factor: float, words: str) -> None:
    right, wrong = springs(40, 0.0)[:20], changed(springs(40, 0.0)[20:], lambda forces: forces / factor)
    if by == "run":
        # another cell, so that it is another run
        wrong = [replace(s, cell=1.1 * s.cell, positions=s.positions + 0.1 * SITES @ s.cell) for s in wrong]
    a, b = ("a.xyz", "b.xyz") if by == "file" else ("all.xyz", "all.xyz")
    kinds = ("bulk", "scan") if by == "kind" else ("", "")
    right = [replace(s, file=a, config_type=kinds[0]) for s in right]
    wrong = [replace(s, file=b, config_type=kinds[1]) for s in wrong]
    (line,) = told([*right, *wrong])
    names = {"file": ("b.xyz", "a.xyz"), "kind": ("the kind scan", "the kind bulk")}
    bad, good = names.get(by, ("s020 to s039", "s000 to s019"))
    assert line.startswith(f"forces of {bad} do not match energies: over 19 pairs, ")
    assert words in line
    assert line.endswith(f"; those of {good} agree; correct the files")


@pytest.mark.parametrize("temperature", [300, 1500, 4000])
def test_right_forces_of_hot_metals_and_molecules_are_not_accused(temperature: int) -> None:
    for atoms, time in ((bulk("Pt", cubic=True) * 2, 20.0), (molecule("CH3CH2OH"), 4.0)):
        atoms.calc = EMT()
        rng = np.random.default_rng(0)
        speeds = np.sqrt(kB * temperature / atoms.get_masses())[:, None] * rng.normal(size=(len(atoms), 3))
        atoms.set_velocities(speeds)
        dynamics = VelocityVerlet(atoms, timestep=1.0 * fs)
        made = []
        for k in range(30):
            dynamics.run(int(time))
            made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz"))
        assert told(made) == ()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("n", [8, 14, 23])
def test_right_forces_of_some_distances_of_a_dimer_are_not_accused(n: int, periodic: bool) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        made = []
        for k, r in enumerate(rng.permutation(np.linspace(1.2, 5.0, 40))[:n]):
            atoms = Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, r * (2 if periodic else 1)]])
            atoms.calc = MorsePotential(epsilon=4.5, r0=1.4, rho0=3.0, rcut1=9.0, rcut2=10.0)
            if periodic:
                atoms.set_cell([25.0] * 3)
                atoms.pbc = True
                atoms.calc = LennardJones(sigma=2.6, epsilon=0.1, rc=11.0)
            atoms.get_forces()
            made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz"))
        assert told(made) == ()


def heated(noise: float, seed: int = 3) -> list[Structure]:
    """Consecutive frames of warm platinum; energies with normally distributed errors, eV/atom."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Pt", cubic=True) * 2
    atoms.calc = EMT()
    atoms.set_velocities(0.02 * rng.normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=2.0 * fs)
    made = []
    for k in range(30):
        dynamics.run(2)
        frame = replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None, file="a.xyz")
        assert frame.energy is not None
        made.append(replace(frame, energy=frame.energy + noise * len(atoms) * rng.normal()))
    return made


@pytest.mark.parametrize("noise", [0.002, 0.005])
def test_energies_that_are_not_converged_do_not_cost_the_forces(noise: float) -> None:
    structures = heated(noise)
    audit = ForceAudit.of(structures, find_groups(structures))
    (line,) = audit.messages
    assert line.endswith(
        ", though they draw atoms back as right forces do; check that energies are converged, and free energies "
        "where levels are smeared"
    )
    assert audit.agree
    assert not audit.are_wrong


def test_energies_of_one_file_that_are_not_converged_do_not_cost_the_forces() -> None:
    noisy = [replace(s, name=f"t{s.name}", file="b.xyz") for s in heated(0.005, seed=4)]
    structures = [*heated(0.0), *noisy]
    audit = ForceAudit.of(structures, find_groups(structures))
    (line,) = audit.messages
    assert line.startswith("forces of b.xyz do not match energies: ")
    assert (
        "those of a.xyz agree; check that energies are converged, and free energies where levels are smeared"
        in line
    )
    assert not audit.are_wrong


def test_forces_too_small_for_noise_are_accused_all_the_same() -> None:
    structures = changed(heated(0.0), lambda forces: forces / 27.2114)
    assert ForceAudit.of(structures, find_groups(structures)).are_wrong


@pytest.mark.parametrize(("n", "are_wrong"), [(8, False), (20, True)])
def test_a_fit_bears_wrong_forces_of_a_small_file_only(n: int, are_wrong: bool) -> None:
    structures = [replace(s, file="a.xyz") for s in springs(80, 0.0)]
    structures[:n] = [replace(s, file="b.xyz") for s in changed(structures[:n], lambda forces: -forces)]
    audit = ForceAudit.of(structures, find_groups(structures))
    assert audit.messages[0].startswith("forces of b.xyz do not match energies")
    assert audit.are_wrong == are_wrong
