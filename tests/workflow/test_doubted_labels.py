"""Labels that contradict the energies are left out of a fit that may choose its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from command_line import invoke

from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.potential.potential import Potential
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import MODEL
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.structures.stress import GPA, from_voigt, to_voigt
from tio2nn.structures.structure import Structure

# fits of one epoch
pytestmark = pytest.mark.usefixtures("eager")

SETTINGS = ("--epochs", "1", "--members", "1", "-j", "1")
SMALL = """{"elements": ["Cu"], "cutoff": 4.0, "radial": [{"eta": 0.1}, {"eta": 1.0}], "angular": [], "recipe": "auto",
"network": {"hidden_layers": [4]}, "training": {"forces": "auto", "stress": "auto"}}"""

Change = Callable[[Structure], Structure]


def in_gigapascal(structure: Structure) -> Structure:
    assert structure.stress is not None
    return replace(structure, stress=GPA * structure.stress)


def with_exchanged_shears(structure: Structure) -> Structure:
    assert structure.stress is not None
    return replace(structure, stress=from_voigt(to_voigt(structure.stress)[[0, 1, 2, 4, 3, 5]]))


def in_hartree(structure: Structure) -> Structure:
    assert structure.forces is not None
    return replace(structure, forces=structure.forces / 27.2114)


def per_atom(structure: Structure) -> Structure:
    assert structure.energy is not None
    return replace(structure, energy=structure.energy / structure.n_atoms)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    Path("p/params.json").write_text(SMALL)
    return Project(tmp_path / "p")


def write_copper(change: Change | None = None, n: int = 32, displacement: float = 0.02) -> None:
    """Displaced copies in one cell, whose energies tell the forces, and strained ones, which tell the stress."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        if k < n // 2:
            atoms.rattle(displacement, seed=k)
        else:
            strain = 0.01 * rng.uniform(-1, 1, (3, 3))
            atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.calc = EMT()
        for what in ("energy", "forces", "stress"):
            atoms.calc.get_property(what, atoms)
        structure = replace(Structure.from_ase(atoms, name=f"s{k:02d}"), free_energy=None)
        made.append(structure if change is None else change(structure))
    Path("copper.xyz").write_text("".join(exact_extxyz(s, {}) for s in made), encoding="utf-8")


def run(*options: str) -> str:
    _, err = invoke("run", "copper.xyz", "-C", "p", *SETTINGS, *options)
    return " ".join(err.split())


def trained_on(project: Project) -> tuple[bool, bool | str]:
    training = Potential.load(project.potential_file).about["parameters"]["training"]
    return training["forces"], training["stress"]


@pytest.mark.slow
def test_a_stress_in_another_unit_is_left_out_until_it_is_corrected_or_insisted_on(project: Project) -> None:
    write_copper(in_gigapascal)
    said = run()
    assert "as if they were in GPa; correct the files" in said
    assert "until this is corrected, fits leave the stress out; --stress uses it anyway" in said
    assert "as stresses do not match energies or forces; --stress uses them anyway" in said
    assert trained_on(project) == (True, False)
    assert not project.strain_table.exists()
    run("--stress")
    assert trained_on(project) == (True, True)
    write_copper()
    invoke("extract", "copper.xyz", "-C", "p")
    assert read_store(project.structures_file).label_notes.doubts == ()
    assert Snapshot(project).state(MODEL).kind == "stale"
    said = run()
    assert "until this is corrected" not in said
    assert trained_on(project) == (True, True)


def test_right_forces_are_used_where_those_of_a_few_structures_are_wrong(project: Project) -> None:
    def change(structure: Structure) -> Structure:
        assert structure.forces is not None
        few = structure.name in ("s03", "s09", "s21")
        return replace(structure, forces=-structure.forces) if few else structure

    write_copper(change, n=64, displacement=0.08)
    said = run()
    assert "forces of 3 structures (copper-4, copper-10, copper-22) do not match energies" in said
    assert "until this is corrected" not in said
    assert trained_on(project) == (True, True)


def test_forces_in_another_unit_are_left_out_and_so_is_a_stress_that_nothing_confirms(
    project: Project,
) -> None:
    write_copper(in_hartree)
    said = run()
    assert "as if forces were in Ha/Å; correct the files" in said
    assert "until this is corrected, fits use energies alone; --forces uses the forces anyway" in said
    assert "training on energies alone: the forces of" in said
    assert "do not match them; --forces uses them anyway" in said
    assert "which cannot be checked while forces do not match energies; --stress uses it anyway" in said
    assert trained_on(project) == (False, False)
    assert not project.jacobian_table.exists()
    assert Snapshot(project).state(MODEL).kind == "up to date"
    run("--forces")
    assert trained_on(project) == (True, False)


def test_labels_are_no_worse_for_energies_per_atom(project: Project) -> None:
    write_copper(per_atom)
    said = run()
    assert "as if energies were per atom" in said
    assert "until this is corrected" not in said
    assert trained_on(project) == (True, True)


@pytest.mark.parametrize("recipe", ["forces", pytest.param("record", marks=pytest.mark.slow)])
def test_a_recipe_made_for_forces_insists_on_them(project: Project, recipe: str) -> None:
    write_copper(in_hartree)
    assert "set by the recipe" in run("--recipe", recipe)
    assert trained_on(project) == (True, False)


def test_of_a_stress_with_shears_in_another_order_the_diagonal_is_learned(project: Project) -> None:
    write_copper(with_exchanged_shears)
    said = run()
    assert "in the order xx yy zz xz yz xy; correct the files" in said
    assert "until this is corrected, fits learn the diagonal of the stress alone; --stress uses all" in said
    assert "training on the diagonal of the stress of" in said
    assert "as shears do not match energies or forces; --stress adds the shears" in said
    assert trained_on(project) == (True, "diagonal")
    assert Snapshot(project).state(MODEL).kind == "up to date"
    run("--stress")
    assert trained_on(project) == (True, True)
    write_copper()
    said = run("--no-stress")
    assert trained_on(project) == (True, False)
    project.parameters_file.write_text(SMALL.replace('"stress": "auto"', '"stress": "diagonal"'))
    assert "structures, as requested; --stress adds the shears" in run()
    assert trained_on(project) == (True, "diagonal")
