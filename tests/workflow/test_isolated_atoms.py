"""Reference energies of atoms alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from tio2nn.errors import InputError, UsageError
from tio2nn.parameters.draft import Draft
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.workflow.extract import ExtractSummary, extract
from tio2nn.workflow.init import init
from tio2nn.workflow.run import RunSettings
from tio2nn.workflow.run import run as verb
from tio2nn.workflow.steps import Steps

MOLECULE = "2\nenergy=-12.0 pbc=F\nTi 0 0 0\nO 1.8 0 0\n2\nenergy=-12.1 pbc=F\nTi 0 0 0\nO 1.9 0 0\n"


def atom(
    element: str, energy: float, label: str = "config_type=isolated_atom", cell: str = 'pbc="F F F"'
) -> str:
    return f"1\n{label} energy={energy} {cell}\n{element} 0 0 0\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    Path("p/params.json").write_text('{"preset": "auto", "recipe": "quick"}')
    return Project(Path("p"))


def run(text: str) -> ExtractSummary:
    Path("x.xyz").write_text(text)
    return extract("p", ["x.xyz"], isolated_atoms=True)


def written() -> dict[str, object]:
    found = json.loads(Path("p/params.json").read_text())
    assert isinstance(found, dict)
    return found


def test_atoms_give_the_reference_energies_and_are_left_out(project: Project) -> None:
    box = 'Lattice="9 0 0 0 9 0 0 0 9"'
    summary = run(atom("Ti", -5.0) + MOLECULE + atom("O", -6.5, "config_type=IsolatedAtom", box))
    assert summary.n_structures == 2
    assert summary.audit is not None
    assert summary.audit.reference.as_dict() == {"O": -6.5, "Ti": -5.0}
    assert read_store("p/structures/structures.npz").reference_energies == {"O": -6.5, "Ti": -5.0}
    assert written()["reference_energies"] == {"O": -6.5, "Ti": -5.0}
    assert written()["recipe"] == "quick"
    parameters = project.parameters_or_draft()
    assert not isinstance(parameters, Draft)
    # the parameters are complete now; the same again changes nothing
    before = written()
    run(atom("Ti", -5.0) + MOLECULE + atom("O", -6.5))
    assert written() == before


@pytest.mark.parametrize("label", ["isolated_atom", "IsolatedAtom", '"isolated atom"'])
def test_atoms_that_stay_among_the_structures_are_told_with_the_option(label: str) -> None:
    atoms = atom("Ti", -5.0, f"config_type={label}") + atom("O", -6.5, f"config_type={label}")
    Path("x.xyz").write_text(atoms + MOLECULE)
    expected = (
        "2 isolated atoms learned like any other structure; with an atom of each element, --isolated-atoms takes the "
        "reference energies from them"
    )
    assert expected in extract("p", ["x.xyz"]).remarks
    assert expected not in extract("p", ["x.xyz"], isolated_atoms=True).remarks
    # their energies are the reference energies now
    again = extract("p", ["x.xyz"])
    assert again.n_structures == 2
    assert expected not in again.remarks
    Path("x.xyz").write_text(MOLECULE)
    assert not [remark for remark in extract("p", ["x.xyz"]).remarks if "isolated" in remark]


@pytest.mark.parametrize("file", ["x.traj", "x.db"])
def test_atoms_of_ase_are_known_by_their_kind(file: str) -> None:
    frames = []
    for symbols, energy in (("Ti", -5.0), ("O", -6.5), ("TiO", -12.0), ("TiO", -12.1)):
        positions = [[0.0, 0.0, 0.0], [1.8 - 0.1 * energy, 0.0, 0.0]][: len(symbols.replace("Ti", "T"))]
        atoms = Atoms(symbols, positions=positions)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        if len(atoms) == 1:
            atoms.info["config_type"] = "isolated_atom"
        frames.append(atoms)
    if file == "x.db":
        with connect(file) as rows:
            for atoms in frames:
                rows.write(atoms, **atoms.info)
    else:
        write(file, frames)
    summary = extract("p", [file], isolated_atoms=True)
    assert summary.n_structures == 2
    assert written()["reference_energies"] == {"O": -6.5, "Ti": -5.0}


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (atom("Ti", -5.0), "got none of O"),
        (atom("Ti", -5.0) + atom("O", -6.5, "config_type=bulk"), "got none of O"),
        (atom("Ti", -5.0) + atom("Ti", -5.1) + atom("O", -1.0), "got -5.0 and -5.1 eV"),
        (
            atom("Ti", -5.0) + atom("O", -6.5, cell='Lattice="5 0 0 0 9 0 0 0 9"'),
            "got its image 5.00 Å away, within 6.5 Å",
        ),
    ],
)
def test_what_is_missing_or_not_isolated_is_said(atoms: str, expected: str) -> None:
    before = written()
    with pytest.raises(InputError, match=expected):
        run(MOLECULE + atoms)
    assert written() == before
    assert not Path("p/energies.csv").exists()


def test_energies_that_are_given_are_not_replaced() -> None:
    Path("p/params.json").write_text('{"preset": "auto", "reference_energies": {"Ti": -1.0, "O": -2.0}}')
    with pytest.raises(InputError, match=r'^p/params\.json: expected no "reference_energies"'):
        run(MOLECULE + atom("Ti", -5.0) + atom("O", -6.5))


def test_nobody_is_asked_who_did_not_ask() -> None:
    Path("x.xyz").write_text(MOLECULE + atom("Ti", -5.0) + atom("O", -6.5))
    assert extract("p", ["x.xyz"]).n_structures == 4
    assert written()["reference_energies"] is None


def test_atoms_that_gave_the_reference_energies_stay_out() -> None:
    text = atom("Ti", -5.0) + MOLECULE + atom("O", -6.5)
    run(text)
    assert extract("p", ["x.xyz"]).n_structures == 2
    Path("x.xyz").write_text(atom("Ti", -5.1) + MOLECULE + atom("O", -6.5))
    assert extract("p", ["x.xyz"]).n_structures == 4  # the energy of titanium is not that of this atom


class _UntilExtracted(Steps):
    def featurize(self, snapshot: Snapshot, jobs: int | None) -> None:  # noqa: ARG002
        raise KeyboardInterrupt


@pytest.mark.parametrize("elements", [None, ("Ti", "O")])
def test_a_run_takes_the_energies_of_atoms(elements: tuple[str, ...] | None) -> None:
    Path("x.xyz").write_text(atom("Ti", -5.0) + MOLECULE + atom("O", -6.5))
    settings = RunSettings(sources=["x.xyz"], directory="new", elements=elements, isolated_atoms=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            verb(settings, _UntilExtracted())
        assert len(read_store("new/structures/structures.npz")) == 2
        given = json.loads(Path("new/params.json").read_text())
        assert given["reference_energies"] == {"O": -6.5, "Ti": -5.0}
        settings = replace(settings, isolated_atoms=False)


def test_a_project_has_the_elements_of_its_preset() -> None:
    Path("x.xyz").write_text(atom("Ti", -5.0) + MOLECULE + atom("O", -6.5))
    init("there", "extended", ("Ti", "O"))
    settings = RunSettings(sources=["x.xyz"], directory="there", preset="extended", isolated_atoms=True)
    with pytest.raises(KeyboardInterrupt):
        verb(settings, _UntilExtracted())
    assert len(read_store("there/structures/structures.npz")) == 2


def test_a_run_says_what_does_not_go_together() -> None:
    with pytest.raises(UsageError, match="expected --elements beside --preset extended, got none"):
        verb(RunSettings(sources=["x.xyz"], directory="new", preset="extended", isolated_atoms=True))
    assert not Path("new").exists()
