"""Stresses are compared with energies: of copper by an embedded-atom potential, and of published sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from ase.units import fs, kB

from tio2nn.array_types import FloatArray
from tio2nn.io.read import read_structures
from tio2nn.structures import strained_pairs
from tio2nn.structures.stress import GPA, from_voigt, to_voigt
from tio2nn.structures.stress_check import StressCheck, compare_stress
from tio2nn.structures.structure import Structure

Wrong = Callable[[Structure], FloatArray]


def stress_of(structure: Structure) -> FloatArray:
    assert structure.stress is not None
    return structure.stress


def volume_of(structure: Structure) -> float:
    assert structure.volume is not None
    return structure.volume


def in_order_of_vasp(structure: Structure) -> FloatArray:
    """As if six numbers in the order xx yy zz xy yz xz were read in that of Voigt."""
    xx, yy, zz, yz, xz, xy = to_voigt(stress_of(structure))
    return from_voigt(np.array([xx, yy, zz, xy, yz, xz]))


def with_diagonal(*diagonal: int, shears: tuple[int, ...] = (3, 4, 5)) -> Wrong:
    """As if six numbers in another order were read in that of Voigt."""
    return lambda s: from_voigt(to_voigt(stress_of(s))[[*diagonal, *shears]])


def metal(
    n: int, *, strain: float, shift: float, repeats: int = 1, seed: int = 0, turned: bool = False
) -> list[Structure]:
    """Copies of a crystal of copper, strained and with shifted atoms at random."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (repeats, repeats, repeats)
        change = np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))
        if not turned:
            change = 0.5 * (change + change.T)
        atoms.set_cell(atoms.cell[:] @ change, scale_atoms=True)
        atoms.positions += shift * rng.normal(size=(len(atoms), 3))
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None))
    return made


def stretched(seed: int) -> list[Structure]:
    """Crystals of copper that are longer along one axis, and nearly as large as before."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(8):
        change = 0.02 * rng.uniform(-1, 1, 3)
        atoms = bulk("Cu", cubic=True, a=3.59)
        atoms.set_cell(atoms.cell[:] @ np.diag(1.0 + change - 0.9 * change.mean()), scale_atoms=True)
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        made.append(replace(Structure.from_ase(atoms, name=f"s{k:03d}"), free_energy=None))
    return made


def changed(structures: list[Structure], wrong: Wrong) -> list[Structure]:
    return [replace(structure, stress=wrong(structure)) for structure in structures]


RIGHT = {
    "strained copies": metal(12, strain=0.03, shift=0.0),
    "turned copies": metal(12, strain=0.05, shift=0.0, turned=True),
    "shifted atoms": metal(24, strain=0.02, shift=0.03, repeats=2),
}


@pytest.mark.parametrize("what", RIGHT)
def test_stresses_that_fit_are_not_accused(what: str) -> None:
    found = compare_stress(RIGHT[what])
    assert found.slope == pytest.approx(1.0, abs=0.2)
    assert not found.disagrees
    assert "agree with energies (ratio " in found.fact()


@pytest.mark.parametrize("what", RIGHT)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda s: -stress_of(s), "as if they were of the wrong sign (positive under pressure)"),
        (lambda s: GPA * stress_of(s), "as if they were in GPa"),
        (lambda s: 10 * GPA * stress_of(s), "as if they were in kbar"),
        (lambda s: -10 * GPA * stress_of(s), "as if they were in kbar, of the wrong sign"),
        (lambda s: stress_of(s) / 183.6, "as if they were in Ha/Bohr³"),
        (lambda s: -volume_of(s) * stress_of(s), "as if they were virials (eV), not stresses"),
        (lambda s: -stress_of(s) / volume_of(s), "as if they were stresses (eV/Å³), not virials"),
    ],
)
def test_units_signs_and_virials_are_named(what: str, wrong: Wrong, words: str) -> None:
    found = compare_stress(changed(RIGHT[what], wrong))
    assert found.disagrees
    assert words in found.message()
    assert "\n" not in found.message()
    assert "see below" in found.fact()


@pytest.mark.parametrize("what", ["strained copies", "turned copies"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_factor_of_two_is_told(what: str, factor: float) -> None:
    found = compare_stress(changed(RIGHT[what], lambda s: factor * stress_of(s)))
    assert found.disagrees
    assert "times as much as the stresses predict" in found.message()


def dynamics(symbol: str, *, temperature: float, seed: int) -> list[Structure]:
    """Dynamics of a cell at three volumes."""
    rng = np.random.default_rng(seed)
    made: list[Structure] = []
    for scale in (0.97, 1.0, 1.03):
        atoms = bulk(symbol, cubic=True)
        atoms.set_cell(atoms.cell[:] * scale, scale_atoms=True)
        atoms.calc = EMT()
        widths = np.sqrt(kB * temperature * atoms.get_masses())[:, None]
        atoms.set_momenta(widths * rng.normal(size=(len(atoms), 3)))
        for _ in range(12):
            VelocityVerlet(atoms, 5 * fs).run(8)
            atoms.get_stress()
            made.append(replace(Structure.from_ase(atoms, name=f"s{len(made):03d}"), free_energy=None))
    return made


@pytest.mark.parametrize(
    "symbol", ["Cu", *(pytest.param(symbol, marks=pytest.mark.slow) for symbol in ("Ag", "Au", "Pd", "Pt"))]
)
def test_right_stresses_of_hot_crystals_are_not_accused(symbol: str) -> None:
    for seed in range(4):
        assert not compare_stress(dynamics(symbol, temperature=2000.0, seed=seed)).disagrees


def test_the_order_of_the_diagonal_is_named() -> None:
    longer = [replace(s, name=f"{s.name}-{k}") for k in range(2) for s in stretched(seed=k)]
    assert compare_stress(longer).tells_diagonal
    found = compare_stress(changed(longer, with_diagonal(2, 0, 1)))
    assert found.message().endswith("as if they were in the order zz xx yy yz xz xy; correct the files")


@pytest.mark.parametrize("what", ["strained copies", "turned copies", "shifted atoms"])
def test_the_order_of_shears_is_named(what: str) -> None:
    assert compare_stress(RIGHT[what]).tells_shears
    found = compare_stress(changed(RIGHT[what], in_order_of_vasp))
    assert found.message().endswith("as if they were in the order xx yy zz xy yz xz; correct the files")
    both = compare_stress(changed(RIGHT[what], lambda s: -10 * GPA * in_order_of_vasp(s)))
    assert (
        "in kbar, of the wrong sign (positive under pressure), in the order xx yy zz xy yz xz"
        in both.message()
    )


def test_energies_per_atom_are_recognized() -> None:
    structures = [
        replace(s, energy=None if s.energy is None else s.energy / s.n_atoms, forces=None)
        for s in metal(12, strain=0.03, shift=0.0, repeats=2)
    ]
    assert "as if energies were per atom" in compare_stress(structures).message()


def test_one_volume_scan_tells_units_but_not_shears() -> None:
    scan = []
    for k, scale in enumerate(np.linspace(0.96, 1.04, 7).tolist()):
        atoms = bulk("Cu", cubic=True, a=3.6 * scale)
        atoms.calc = EMT()
        for what in ("energy", "stress"):
            atoms.calc.get_property(what, atoms)
        scan.append(replace(Structure.from_ase(atoms, name=f"s{k}"), free_energy=None))
    assert (
        compare_stress(scan).fact().endswith("but do not determine the order of the diagonal and of shears")
    )
    assert "in GPa" in compare_stress(changed(scan, lambda s: GPA * stress_of(s))).message()


@pytest.mark.parametrize(
    ("structures", "forces_agree", "reason"),
    [
        (
            metal(20, strain=0.0, shift=0.1),
            True,
            "no pairs have the same atoms at similar places in strained cells",
        ),
        (
            metal(30, strain=0.01, shift=0.08, repeats=2),
            True,
            "no pairs have the same atoms at similar places in strained cells",
        ),
        (
            metal(3, strain=0.03, shift=0.0),
            True,
            "no pairs have the same atoms at similar places in strained cells",
        ),
        (metal(12, strain=0.03, shift=0.0), False, "forces and energies disagree first"),
        (
            metal(24, strain=0.05, shift=0.1, repeats=2),
            True,
            "atoms of strained copies are too far from each other's places",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(
    structures: list[Structure], forces_agree: bool, reason: str
) -> None:
    found = compare_stress(structures, forces_agree=forces_agree)
    assert not found.disagrees
    assert found.fact().endswith(f"not compared with energies: {reason}")


def test_stresses_that_contradict_energies_are_not_taken_for_copies_too_far_apart() -> None:
    rng = np.random.default_rng(1)
    noise = changed(RIGHT["strained copies"], lambda _: from_voigt(rng.normal(size=6)))
    assert compare_stress(noise).why_not.endswith("do not follow from any multiple of their stresses")


def test_pairs_that_moved_little_are_compared_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that moved far, which come first, do not use up the pairs that are compared."""
    hot = [replace(s, elements=("Ag",) * 4) for s in metal(30, strain=0.05, shift=0.14)]
    structures = hot + RIGHT["strained copies"]
    monkeypatch.setattr(strained_pairs, "_MOST_PAIRS", 40)
    assert len(strained_pairs.pairs_of(hot).differences) >= 39
    assert compare_stress(hot).slope is None
    found = compare_stress(structures)
    assert found.n_pairs == 40
    assert found.slope == pytest.approx(1.0, abs=0.2)


def test_pairs_are_compared_together_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    structures = [
        replace(structure, forces=None if k % 3 == 0 else structure.forces)
        for k, structure in enumerate(RIGHT["shifted atoms"])
    ]
    together = strained_pairs.pairs_of(structures)
    monkeypatch.setattr(strained_pairs, "_ATOMS_AT_ONCE", 1)
    for one, other in zip(together, strained_pairs.pairs_of(structures), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_random_stresses_and_a_part_without_any_are_no_reason_to_accuse() -> None:
    rng = np.random.default_rng(1)
    structures = metal(30, strain=0.03, shift=0.0)
    noise = changed(structures, lambda _: from_voigt(rng.normal(size=6)))
    assert not compare_stress(noise).disagrees
    part = [*structures[:10], *(replace(s, stress=None) for s in structures[10:])]
    found = compare_stress(part)
    assert (found.n_stresses, found.n_structures) == (10, 30)
    assert found.fact().startswith("in 10 of 30 structures, tensions ")


@pytest.fixture(scope="module")
def published(test_data: Path) -> Callable[[str], list[Structure]]:
    return lambda name: list(read_structures(test_data / "data" / name))


@pytest.mark.parametrize("name", ["Si-214", "Ge-228", "Li-241"])
def test_published_sets_are_not_accused(published: Callable[[str], list[Structure]], name: str) -> None:
    found = compare_stress(published(f"{name}.extxyz.gz"))
    assert found.slope == pytest.approx(1.0, abs=0.06)
    assert not found.disagrees
    assert found.tells_shears == found.tells_diagonal == (name != "Li-241")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda s: -stress_of(s), "of the wrong sign"),
        (lambda s: GPA * stress_of(s), "in GPa"),
        (lambda s: 10 * GPA * stress_of(s), "in kbar"),
        (in_order_of_vasp, "in the order xx yy zz xy yz xz"),
        (with_diagonal(2, 1, 0), "in the order zz yy xx yz xz xy"),
        (with_diagonal(1, 2, 0), "in the order yy zz xx yz xz xy"),
        (with_diagonal(1, 0, 2, shears=(5, 3, 4)), "in the order yy xx zz xy yz xz"),
        (lambda s: -volume_of(s) * stress_of(s), "virials (eV), not stresses"),
    ],
)
def test_changed_stresses_of_silicon_are_named(
    published: Callable[[str], list[Structure]], wrong: Wrong, words: str
) -> None:
    found: StressCheck = compare_stress(changed(published("Si-214.extxyz.gz"), wrong))
    assert found.disagrees
    assert f"as if they were {words}" in found.message()
