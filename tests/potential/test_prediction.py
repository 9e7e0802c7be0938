"""Numbers that are no prediction: beyond all that the networks can know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from command_line import invoke
from potentials import POTENTIAL, make_potential, nothing
from projects import ATOMIC_ENERGIES, PARAMETERS, project_with_derivatives, trained_project, write_files
from projects import structures as crystals

from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Limits, Prediction
from tio2nn.potential.repulsion import Repulsion
from tio2nn.project.structure_store import read_store
from tio2nn.structures.split import read_split
from tio2nn.structures.structure import Structure


def scaled(factor: float, limits: Limits | None = None) -> Potential:
    """The networks of `POTENTIAL` with the last layer scaled: energies and forces times a factor."""
    members = tuple(
        tuple(
            (*layers[:-1], Layer(factor * layers[-1].kernel, factor * layers[-1].bias, layers[-1].activation))
            for layers in member
        )
        for member in POTENTIAL.members
    )
    return replace(POTENTIAL, members=members, limits=limits or Limits())


def predicted(potential: Potential, structure: Structure, *, forces: bool = False) -> Prediction:
    (prediction,) = potential.predict([structure], forces=forces)
    return prediction


def beyond(structure: Structure, *, forces: bool) -> Potential:
    """Whose energy, or largest force, is twice its limit, and the other one within."""
    once = predicted(POTENTIAL, structure, forces=True)
    assert once.largest_network_force is not None
    energy, force = abs(once.network_energy), once.largest_network_force
    if forces:
        factor = 2000.0 / force
        return scaled(factor, Limits(1.0 + factor * energy / 100.0, 1.0))
    factor = 2000.0 / energy
    return scaled(factor, Limits(1.0, 1.0 + factor * force / 100.0))


@pytest.mark.parametrize(
    ("limits", "energy", "force"),
    [
        (Limits(), 1000.0, 1000.0),
        (Limits(0.7, 3.0), 1000.0, 1000.0),
        (Limits(29.7, 191.0), 2970.0, 19100.0),
        (Limits(29.7, None), 2970.0, 2970.0),
        (Limits(29.7, 3.0), 2970.0, 1000.0),
    ],
)
def test_limits_are_a_hundred_times_the_largest_of_training_and_at_least_a_thousand(
    limits: Limits, energy: float, force: float
) -> None:
    assert (limits.energy, limits.force) == (pytest.approx(energy), pytest.approx(force))


def test_the_networks_part_is_measured() -> None:
    structure = crystals()[0]
    found = predicted(POTENTIAL, structure, forces=True)
    baseline = sum(ATOMIC_ENERGIES[element] for element in structure.elements)
    assert found.network_energy == pytest.approx((found.energy - baseline) / structure.n_atoms, abs=1e-9)
    assert found.forces is not None
    assert found.largest_network_force == pytest.approx(np.linalg.norm(found.forces, axis=1).max())
    assert predicted(POTENTIAL, structure).largest_network_force is None
    assert found.unusable() is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_energy_far_beyond_training_is_none(sign: float) -> None:
    structure = crystals()[0]
    factor = sign * 1001.0 / abs(predicted(POTENTIAL, structure).network_energy)
    unusable = predicted(scaled(factor), structure).unusable()
    assert unusable is not None
    assert (
        "cannot predict the energy: the result, 1001 eV/atom from the reference energies" in unusable.reason
    )
    assert "exceeds the limit of 1000; the structure is unlike the training set" in unusable.reason
    assert predicted(scaled(0.99 * factor), structure).unusable() is None
    assert predicted(scaled(factor, Limits(20.0)), structure).unusable() is None


def test_forces_far_beyond_training_are_none() -> None:
    structure = crystals()[0]
    potential = beyond(structure, forces=True)
    assert predicted(potential, structure).unusable() is None
    unusable = predicted(potential, structure, forces=True).unusable()
    assert unusable is not None
    assert "cannot predict the forces: the result, 2000 eV/Å, exceeds the limit of 1000" in unusable.reason


def test_repulsion_has_no_limit() -> None:
    repulsion = Repulsion(("Ti", "O"), np.full((2, 2), 1.8))
    close = Structure(
        "close", ("Ti", "O"), np.array([[0.0, 0, 0], [0.02, 0, 0]]), np.zeros((3, 3)), (False,) * 3
    )
    found = predicted(make_potential(repulsion=repulsion), close, forces=True)
    assert found.repulsion > 1e4
    assert found.forces is not None
    assert abs(found.forces).max() > 1e5
    assert found.unusable() is None


def test_the_warning_of_atoms_far_from_training_says_that_they_repel() -> None:
    repulsion = Repulsion(("Ti", "O"), np.full((2, 2), 3.0))
    found = predicted(make_potential(repulsion=repulsion), crystals()[0])
    doubtful = replace(found, extrapolations=())
    assert doubtful.doubts() == {}
    far = replace(make_potential(repulsion=repulsion), training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    text = predicted(far, crystals()[0]).doubts()["atoms"]
    assert f"atoms closer than any in the training set add a repulsion of {found.repulsion:.3g} eV" in text
    assert "repulsion" not in predicted(replace(far, repulsion=None), crystals()[0]).doubts()["atoms"]


# --- what users see -----------------------------------------------------------------------------------------


def test_predict_refuses_it_and_goes_on(tmp_path: Path) -> None:
    first, second = crystals()[:2]
    ratio = abs(predicted(POTENTIAL, first).network_energy / predicted(POTENTIAL, second).network_energy)
    refused, kept = (first, second) if ratio > 1.0 else (second, first)
    largest, other = (abs(predicted(POTENTIAL, structure).network_energy) for structure in (refused, kept))
    scaled(2000.0 / (largest + other)).save(tmp_path / "p.npz")
    files = write_files(tmp_path, [refused, kept])
    out, err = invoke("predict", "--potential", tmp_path / "p.npz", *files, code=3)
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == [str(files[1])]
    assert f"{files[0]}:" in err
    assert "eV/atom from the reference energies, exceeds the limit of 1000" in err


def test_the_calculator_for_ase_fails() -> None:
    structure = crystals()[0]
    atoms = Atoms(structure.elements, structure.positions, cell=structure.cell, pbc=True)
    atoms.calc = BehlerParrinello(beyond(structure, forces=False))
    with pytest.raises(
        CalculationFailed, match=r"cannot predict the energy: .* eV/atom .* exceeds the limit of 1000"
    ):
        atoms.get_potential_energy()
    atoms.calc = BehlerParrinello(beyond(structure, forces=True))
    with pytest.raises(
        CalculationFailed, match=r"cannot predict the forces: .* eV/Å, exceeds the limit of 1000"
    ):
        atoms.get_forces()


# --- what training records ----------------------------------------------------------------------------------


def test_a_fit_records_its_largest_energy_and_force(tmp_path: Path) -> None:
    project = project_with_derivatives(tmp_path / "p")
    invoke("train", "--epochs", 1, "-C", project.root)
    potential = Potential.load(project.potential_file)
    store = read_store(project.structures_file)
    training = [
        store[k] for k in read_split(project.split_file, store.names, 0.05, 0).indices("train").tolist()
    ]
    cohesive = [
        abs((s.energy or 0.0) - sum(potential.reference_energies[e] for e in s.elements)) / s.n_atoms
        for s in training
    ]
    lengths = [np.linalg.norm(s.forces, axis=1).max() for s in training if s.forces is not None]
    assert potential.limits.largest_energy == pytest.approx(max(cohesive), rel=1e-9)
    assert potential.limits.largest_force == pytest.approx(max(lengths), rel=1e-12)


def test_a_fit_without_forces_knows_none(tmp_path: Path) -> None:
    path = trained_project(tmp_path / "p").potential_file
    assert Potential.load(path).limits.largest_force is None
    with np.load(path) as content:
        assert json.loads(str(content["header"]))["largest_in_training"]["largest_force"] is None
