"""Output of CP2K in the units that its input may choose."""

from __future__ import annotations

from pathlib import Path

import foreign_outputs
import numpy as np
import outputs
import pytest
from ase import units

from tio2nn.errors import InputError
from tio2nn.io.outputs import foreign
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

pytestmark = pytest.mark.skipif(not foreign.is_installed(), reason="dpdata is not installed")

RYDBERG, BOHR = outputs.RYDBERG, outputs.BOHR


def read(folder: Path, text: str) -> object:
    path = folder / "cp2k.out"
    path.write_text(text)
    (item,) = read_structures(path, errors="yield")
    return item


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("what", "name", "size"),
    [
        ("energy", "a.u.", 2 * RYDBERG),
        ("energy", "hartree", 2 * RYDBERG),
        ("energy", "Ry", RYDBERG),
        ("energy", "RY", RYDBERG),
        ("energy", "eV", 1.0),
        ("energy", "keV", 1000.0),
        ("energy", "kcalmol", units.kcal / units.mol),
        ("energy", "kjmol", units.kJ / units.mol),
        ("energy", "K_e", units.kB),
        ("energy", "wavenumber_e", units.invcm),
        ("forces", "a.u.", 2 * RYDBERG / BOHR),
        ("forces", "hartree/bohr", 2 * RYDBERG / BOHR),
        ("forces", "eV/angstrom", 1.0),
        ("forces", "eV*angstrom^-1", 1.0),
        ("forces", "kcalmol/angstrom", units.kcal / units.mol),
        ("forces", "Ry/bohr", RYDBERG / BOHR),
        ("cell", "bohr", BOHR),
        ("cell", "BOHR", BOHR),
        ("cell", "pm", 0.01),
        ("positions", "BOHR", BOHR),
        ("positions", "bohr", BOHR),
        ("positions", "[angstrom]", 1.0),
        ("positions", "PM", 0.01),
    ],
)
def test_units_are_read(tmp_path: Path, late: bool, what: str, name: str, size: float) -> None:
    text = foreign_outputs.cp2k(late=late, units={what: (name, size)})
    structure = read(tmp_path, text)
    assert isinstance(structure, Structure), structure
    np.testing.assert_allclose(structure.positions, outputs.positions(), atol=1e-6)
    np.testing.assert_allclose(structure.cell, outputs.CELL, atol=1e-3 * BOHR)  # it has three decimals
    np.testing.assert_allclose(structure.forces, outputs.FORCES, atol=1e-6)
    np.testing.assert_allclose(structure.stress, outputs.STRESS, atol=1e-8)
    assert structure.energy == pytest.approx(outputs.FREE_ENERGY, rel=1e-12)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("energy", "furlong"),
        ("energy", "angstrom"),
        ("energy", ""),
        ("forces", "furlong/bohr"),
        ("forces", "eV"),
        ("forces", "N"),
        ("forces", ""),
        ("cell", "eV"),
        ("positions", "scaled"),
    ],
)
def test_other_units_are_refused_by_name(tmp_path: Path, late: bool, what: str, name: str) -> None:
    problem = read(tmp_path, foreign_outputs.cp2k(late=late, units={what: (name, 1.0)}))
    assert isinstance(problem, InputError)
    assert problem.reason == f"expected a unit of the {what} that is known, got {name!r}"


@pytest.mark.parametrize(
    ("what", "stated"),
    [
        ("energy", " [a.u.]:"),
        ("forces", " ATOMIC FORCES in [a.u.]"),
        ("cell", " [angstrom]:"),
        ("positions", " MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM"),
    ],
)
def test_numbers_without_a_unit_are_refused(tmp_path: Path, what: str, stated: str) -> None:
    text = foreign_outputs.cp2k()
    assert stated in text
    problem = read(tmp_path, text.replace(stated, ""))
    assert isinstance(problem, InputError)
    assert problem.reason == f"expected the unit of the {what}, got none"


def test_vectors_in_two_units_are_refused(tmp_path: Path) -> None:
    problem = read(tmp_path, foreign_outputs.cp2k().replace("b [angstrom]", "b [bohr]"))
    assert isinstance(problem, InputError)
    assert problem.reason == "expected one unit of the cell, got two: 'bohr'"
