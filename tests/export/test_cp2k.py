"""CP2K itself reads the folder, by the lines of its README, and says the same."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, rows
from export.cp2k import HARTREE, energy_in, lines_for_cp2k, needs_cp2k, run_cp2k, start_cp2k
from export.exported import potential_for
from pages import blocks
from places import ROOT
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.io.read import read_structures
from tio2nn.parameters.parameter_set import AngularFunction, RadialFunction
from tio2nn.parameters.presets import preset
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure
from tio2nn.workflow.export import export

pytestmark = needs_cp2k

CLOSE = 1e-6  # eV, eV/Å
CRYSTALS = crystals(6)
WIDE = PARAMETERS.with_overrides(
    cutoff=4.4,
    radial=(RadialFunction(0.7, 1.5), RadialFunction(0.05)),
    angular=(AngularFunction(0.09, 1, 2.5), AngularFunction(0.02, -1, 4), AngularFunction(0.02, 1, 1)),
)


def check(here: Path, potential: Potential, structure: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    made = export(potential, Path("nnp"), units="atomic")
    (expected,) = potential.predict([structure], forces=True)
    found = run_cp2k(here, lines_for_cp2k(made.readme), structure)
    assert found.energy == pytest.approx(expected.energy, abs=CLOSE)
    assert np.abs(found.forces).max() > 0.01
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0.0, atol=CLOSE)


@pytest.mark.parametrize(("activation", "members"), [("tanh", 1), ("tanh", 3), ("sigmoid", 1), ("linear", 2)])
def test_energy_and_forces_are_those_of_the_potential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activation: str, members: int
) -> None:
    check(tmp_path, potential_for(WIDE, CRYSTALS, activation, members), CRYSTALS[0], monkeypatch)


@pytest.mark.parametrize("choice", ["weighted", "blind"])
def test_sums_over_all_elements_are_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    parameters = WIDE.with_overrides(radial_elements=choice, angular_elements=choice)
    check(tmp_path, potential_for(parameters, CRYSTALS), CRYSTALS[1], monkeypatch)


def rutile(shaken: float = 0.0) -> Structure:
    """In a cell wider than 6.5 Å."""
    (crystal,) = read_structures(ROOT / "sample_data/structure0001.xsf")
    atoms = crystal.to_ase() * (2, 2, 3)
    atoms.rattle(shaken, seed=1)
    wide = Structure.from_ase(atoms)
    assert (1.0 / np.linalg.norm(np.linalg.inv(wide.cell), axis=0)).min() > 6.5
    return wide


def test_the_published_functions_of_titania(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    potential = potential_for(preset("artrith-urban-2016"), (rutile(0.1),), "tanh", 3)
    check(tmp_path, potential, rutile(0.1), monkeypatch)


def test_what_export_warns_of_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softplus: energies are right, forces are not. Repulsion: the difference is just that of the pairs."""
    monkeypatch.chdir(tmp_path)
    structure = CRYSTALS[0]
    repulsion = Repulsion(("Ti", "O"), np.full((2, 2), 2.6))
    potential = potential_for(WIDE, CRYSTALS, "softplus", repulsion=repulsion)
    potential.save("potential.npz")
    _, err = invoke("export", "--potential", "potential.npz", "--units", "atomic", "nnp")
    assert "wrong forces from softplus" in err
    assert "without the short-range repulsion" in err
    found = run_cp2k(tmp_path, lines_for_cp2k(Path("nnp/README.md")), structure)
    (expected,) = potential.predict([structure], forces=True)
    assert expected.repulsion > 0.1
    assert found.energy == pytest.approx(expected.energy - expected.repulsion, abs=CLOSE)
    repelled = repulsion.of_structure(structure)
    assert repelled is not None
    assert np.abs(found.forces - (expected.forces + repelled.gradient)).max() > 0.01


def test_the_input_of_the_documentation_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "docs/how-to/other-programs.md"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sample_data", "sample_data")
    exec(blocks(page, "python")[0].text, {})
    (text,) = (block.text for block in blocks(page, "none") if "METHOD NNP" in block.text)
    Path("crystal.inp").write_text(text, encoding="utf-8")
    potential = potential_for(preset("artrith-urban-2016"), (rutile(0.1),), "tanh", 3)
    export(potential, Path("nnp-cp2k"), units="atomic")
    energy = energy_in(start_cp2k(tmp_path, "crystal.inp"))
    # as the page has it, with the folder for the project
    commands = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    (command,) = (line for line in commands if "crystal.xyz" in line)
    words = command.replace("-C for-cp2k", "--potential nnp-cp2k").split()[1:]
    table = rows(invoke(*words)[0])
    assert energy == pytest.approx(float(table[1][table[0].index("energy_eV")]), abs=CLOSE)


def test_sigma_of_a_committee_divides_by_the_number_of_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the factor of the README it becomes the spread of a prediction."""
    monkeypatch.chdir(tmp_path)
    potential = potential_for(WIDE, CRYSTALS, "tanh", 3)
    made = export(potential, Path("nnp"), units="atomic")
    *lines, last = lines_for_cp2k(made.readme)
    run_cp2k(tmp_path, [*lines, "&PRINT", "&ENERGIES", "&END ENERGIES", "&END PRINT", last], CRYSTALS[0])
    sigma = float(
        Path("structure-nnp-energies-1.data").read_text(encoding="utf-8").splitlines()[1].split()[1]
    )
    (factor,) = re.findall(r"sigma times (\S+) is", made.readme.read_text(encoding="utf-8"))
    (expected,) = potential.predict(CRYSTALS[:1])
    assert expected.spread is not None
    assert expected.spread * CRYSTALS[0].n_atoms == pytest.approx(sigma * float(factor) * HARTREE, abs=CLOSE)
