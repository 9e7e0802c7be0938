"""Shear stresses of slabs are compared with forces: of copper by an embedded-atom potential, and of published sets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.build import fcc211, molecule
from ase.calculators.emt import EMT

from tio2nn.array_types import FloatArray
from tio2nn.io.read import read_structures
from tio2nn.structures.slab_check import SlabCheck, compare_slabs
from tio2nn.structures.stress import GPA, from_voigt, to_voigt
from tio2nn.structures.structure import Structure


@cache
def slabs(kind: str) -> tuple[Structure, ...]:
    """Stepped surfaces or molecules in a box, periodic along all axes, with shifted atoms."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(8):
        if kind == "slab":
            atoms = fcc211("Cu", (3, 2, 3), vacuum=6.0)
        else:
            atoms = molecule("CH3OH")
            atoms.center(vacuum=6.0)
        atoms.pbc = True
        atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape) + [0.0, 0.0, 3.0 * k]
        atoms.wrap()
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        made.append(replace(Structure.from_ase(atoms, name=f"s{k}"), free_energy=None))
    return tuple(made)


def stress_of(structure: Structure) -> FloatArray:
    assert structure.stress is not None
    return structure.stress


def exchanged(structure: Structure) -> FloatArray:
    """With yz and xz in each other's place."""
    return from_voigt(to_voigt(stress_of(structure))[[0, 1, 2, 4, 3, 5]])


def told(structures: list[Structure]) -> SlabCheck:
    found = compare_slabs(structures)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["slab", "molecule"])
def test_shears_that_fit_the_forces_need_no_word(kind: str) -> None:
    found = told(list(slabs(kind)))
    assert found.slope == pytest.approx(1.0, rel=1e-6)
    assert found.n_fitting == found.n == (8 if kind == "slab" else 24)
    assert found.cause == ""
    assert found.fact().endswith("slabs agree with forces")


def test_the_order_of_shears_is_named() -> None:
    found = told([replace(s, stress=exchanged(s)) for s in slabs("slab")])
    assert found.cause == "as if they were in the order xx yy zz xz yz xy"
    assert found.message() == (
        "shear stresses of slabs do not match their forces: 8 of 8, such as s0, fit with the factor 1 "
        "as if they were in the order xx yy zz xz yz xy; correct the files"
    )


@pytest.mark.parametrize(
    ("factor", "words"),
    [(-1.0, "of the wrong sign"), (GPA, "in GPa"), (-10 * GPA, "in kbar, of the wrong sign")],
)
def test_sign_and_unit_are_named(factor: float, words: str) -> None:
    found = told([replace(s, stress=factor * stress_of(s)) for s in slabs("slab")])
    assert f"as if they were {words}" in found.message()


def test_virials_are_named() -> None:
    found = told([replace(s, stress=-(s.volume or 0.0) * stress_of(s)) for s in slabs("slab")])
    assert "as if they were virials" in found.message()


def test_where_forces_tell_nothing_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    copies = list(slabs("slab"))
    assert compare_slabs(copies[:4]) is None
    assert compare_slabs([replace(s, forces=None) for s in copies]) is None
    assert compare_slabs([replace(s, forces=0.0 * s.forces) for s in copies if s.forces is not None]) is None
    assert compare_slabs([replace(s, stress=from_voigt(rng.normal(size=6))) for s in copies]) is None


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Si-214", "as if they were in the order xx yy zz xz yz xy"),
        ("Ge-228", "as if they were in the order xx yy zz xz yz xy"),
        ("Li-241", ""),
    ],
)
def test_slabs_of_published_sets(test_data: Path, name: str, cause: str) -> None:
    """Mirror planes of the slabs of Si and Ge leave forces no other choice: yz and xz are exchanged."""
    found = told(list(read_structures(test_data / "data" / f"{name}.extxyz.gz")))
    assert found.slope == pytest.approx(1.0, abs=0.05)
    assert found.cause == cause
