"""Stresses of a part of the data in other units than those of the rest: copper by an embedded-atom potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase.build import bulk, fcc211
from ase.calculators.emt import EMT

from tio2nn.array_types import FloatArray
from tio2nn.structures.slab_check import compare_slabs
from tio2nn.structures.stress import GPA, from_voigt, to_voigt
from tio2nn.structures.stress_check import compare_stress
from tio2nn.structures.stress_parts import StressParts, compare_parts
from tio2nn.structures.structure import Structure

Wrong = Callable[[FloatArray], FloatArray]


def computed(atoms: bulk, name: str) -> Structure:
    atoms.calc = EMT()
    for what in ("energy", "forces", "stress"):
        atoms.calc.get_property(what, atoms)
    return replace(Structure.from_ase(atoms, name=name), free_energy=None)


@cache
def strained(seed: int) -> tuple[Structure, ...]:
    """Strained copies of a crystal."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(14):
        atoms = bulk("Cu", cubic=True, a=3.59)
        change = 0.03 * rng.uniform(-1, 1, (3, 3))
        change -= 0.3 * np.trace(change) * np.eye(3)  # changes of the volume say nothing of the order
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.5 * (change + change.T)), scale_atoms=True)
        made.append(computed(atoms, f"strained-{seed}-{k}"))
    return tuple(made)


@cache
def shaken(seed: int, shift: float = 0.1) -> tuple[Structure, ...]:
    """Displaced atoms in a constant cell, of which energies tell no stress."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(8):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.positions += shift * rng.normal(size=atoms.positions.shape)
        made.append(computed(atoms, f"shaken-{seed}-{k}"))
    return tuple(made)


@cache
def slabs(seed: int) -> tuple[Structure, ...]:
    rng = np.random.default_rng(seed)
    made = []
    for k in range(8):
        atoms = fcc211("Cu", (3, 2, 3), vacuum=6.0)
        atoms.pbc = True
        atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape)
        made.append(computed(atoms, f"slab-{seed}-{k}"))
    return tuple(made)


def part(
    structures: tuple[Structure, ...], file: str, wrong: Wrong = lambda stress: stress, kind: str = ""
) -> list[Structure]:
    return [
        replace(s, file=file, stress=wrong(s.stress), config_type=kind)
        for s in structures
        if s.stress is not None
    ]


def told(structures: list[Structure]) -> StressParts:
    whole = compare_stress(structures)
    return compare_parts(structures, whole, None if whole.disagrees else compare_slabs(structures))


def exchanged(stress: FloatArray) -> FloatArray:
    """With yz and xz in each other's place."""
    return from_voigt(to_voigt(stress)[[0, 1, 2, 4, 3, 5]])


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (lambda stress: GPA * stress, "in GPa"),
        (lambda stress: -10 * GPA * stress, "in kbar, of the wrong sign (positive under pressure)"),
        (lambda stress: -stress, "of the wrong sign (positive under pressure)"),
        (lambda stress: from_voigt(to_voigt(stress)[[0, 1, 2, 5, 3, 4]]), "in the order xx yy zz xy yz xz"),
        (lambda stress: from_voigt(to_voigt(stress)[[2, 1, 0, 3, 4, 5]]), "in the order zz yy xx yz xz xy"),
    ],
)
@pytest.mark.parametrize("share", ["same atoms", "other atoms"])
def test_a_source_in_other_units_is_named(wrong: Wrong, cause: str, share: str) -> None:
    right = part(strained(0), "a.xyz")
    bad = part(strained(1), "b.xyz", wrong)
    if share == "other atoms":
        right = part(shaken(0), "a.xyz") + right
    (line,) = told([*right, *bad]).messages
    assert line.startswith("stresses of b.xyz do not match energies: over ")
    assert line.endswith(f"as if they were {cause}; those of a.xyz agree; correct the files")
    assert "\n" not in line


def test_a_kind_in_other_units_is_named() -> None:
    right = part(strained(0), "all.xyz", kind="bulk")
    bad = part(strained(1), "all.xyz", lambda stress: GPA * stress, kind="scan")
    (line,) = told([*right, *bad]).messages
    assert line.startswith("stresses of the kind scan do not match energies: over ")
    assert line.endswith("as if they were in GPa; those of the kind bulk agree; correct the files")


def test_parts_that_are_wrong_in_two_ways_are_named_both() -> None:
    one = part(strained(0), "a.xyz", lambda stress: -stress)
    two = part(strained(1), "b.xyz", lambda stress: GPA * stress)
    found = told([*one, *two])
    assert [line.split(" do not")[0] for line in found.messages] == [
        "stresses of a.xyz",
        "stresses of b.xyz",
    ]
    assert "of the wrong sign" in found.messages[0]
    assert "in GPa" in found.messages[1]
    assert found.instead_of_energies


def test_right_parts_need_no_word_and_wrong_ones_one_for_all() -> None:
    right = told([*part(strained(0), "a.xyz", kind="x"), *part(strained(1), "b.xyz", kind="y")])
    assert right == StressParts()
    everywhere = [
        *part(strained(0), "a.xyz", lambda stress: GPA * stress),
        *part(strained(1), "b.xyz", lambda stress: GPA * stress),
    ]
    assert compare_stress(everywhere).disagrees
    assert told(everywhere) == StressParts()


def test_slabs_of_one_source_are_named() -> None:
    right = part(slabs(0), "a.xyz")
    bad = part(slabs(1), "b.xyz", exchanged)
    (line,) = told([*right, *bad]).messages
    assert line.startswith("shear stresses of slabs of b.xyz do not match their forces: ")
    assert line.endswith("; those of a.xyz agree; correct the files")
    assert told([*right, *part(slabs(1), "b.xyz")]) == StressParts()


def test_files_of_one_structure_each_are_parts_by_their_folder() -> None:
    right = [replace(s, file=f"data/first/{k}.xsf") for k, s in enumerate(part(strained(0), ""))]
    wrong = part(strained(1), "", lambda stress: GPA * stress)
    bad = [replace(s, file=f"data/second/{k}/vasprun.xml") for k, s in enumerate(wrong)]
    (line,) = told([*right, *bad]).messages
    assert line.startswith("stresses of data/second do not match energies")
    assert "those of data/first agree" in line


@pytest.mark.parametrize("factor", [GPA, 1 / GPA])
def test_a_source_of_another_size_is_told_where_energies_say_nothing(factor: float) -> None:
    right = part(shaken(0), "a.xyz")
    (line,) = told([*right, *part(shaken(1), "b.xyz", lambda stress: factor * stress)]).messages
    small, large = ("a.xyz", "b.xyz") if factor > 1 else ("b.xyz", "a.xyz")
    assert line.startswith(f"stresses of {large} are typically ")
    assert f"those of {small} " in line
    assert line.endswith("times less; check that both are in eV/Å³")
    assert told([*right, *part(shaken(1), "b.xyz", lambda stress: 20 * stress)]) == StressParts()


def test_large_and_small_stresses_that_fit_their_energies_are_right() -> None:
    rng = np.random.default_rng(3)
    small = []
    for k in range(14):
        atoms = bulk("Cu", cubic=True, a=3.5899)
        change = 0.002 * rng.uniform(-1, 1, (3, 3))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + change + change.T), scale_atoms=True)
        small.append(computed(atoms, f"small-{k}"))
    large = []
    for k in range(14):
        atoms = bulk("Cu", cubic=True, a=2.9 + 0.01 * k)
        large.append(computed(atoms, f"large-{k}"))
    sizes = [
        np.median([np.abs(s.stress).max() for s in made if s.stress is not None]) for made in (small, large)
    ]
    assert sizes[1] > 100 * sizes[0]
    assert told([*part(tuple(small), "a.xyz"), *part(tuple(large), "b.xyz")]) == StressParts()
