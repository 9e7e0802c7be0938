from __future__ import annotations

import copy
import io
import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, CalculatorSetupError, PropertyNotImplementedError
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from numpy.typing import NDArray
from potentials import POTENTIAL, make_potential, nothing
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError, UsageError
from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.interfaces.watch import ExtrapolationWarning
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

SINGLE = make_potential(members=1)
STEP = 1e-4  # Å, or strain, of central differences


def atoms_of(structure: Structure, potential: Potential | None = POTENTIAL) -> Atoms:
    atoms = Atoms(structure.elements, structure.positions, cell=structure.cell, pbc=structure.periodic)
    atoms.calc = None if potential is None else BehlerParrinello(potential)
    return atoms


@pytest.fixture
def atoms() -> Atoms:
    return atoms_of(crystals()[1])


def narrow(potential: Potential) -> Potential:
    """With a training that saw nothing like any atom."""
    return replace(potential, training_atoms=(nothing(PARAMETERS.n_features),) * 2)


# --- what it computes ---------------------------------------------------------------------------------------


def test_results_are_those_of_the_potential(atoms: Atoms) -> None:
    (expected,) = POTENTIAL.predict([crystals()[1]], forces=True)
    assert atoms.get_potential_energy() == expected.energy
    assert atoms.get_potential_energy(force_consistent=True) == expected.energy
    np.testing.assert_array_equal(atoms.get_potential_energies(), expected.atomic_energies)
    # the order of the neighbors that the calculator keeps is another
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-13)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress, rtol=0, atol=1e-14)
    assert atoms.get_stress().shape == (6,)
    assert atoms.calc.get_property("energy_spread", atoms) == pytest.approx(expected.spread, rel=1e-9)
    np.testing.assert_allclose(
        atoms.calc.get_property("forces_spread", atoms), expected.forces_spread, rtol=0, atol=1e-13
    )


def test_the_energies_of_the_atoms_sum_to_the_energy(atoms: Atoms) -> None:
    energies = atoms.get_potential_energies()
    assert energies.shape == (len(atoms),)
    assert energies.sum() == pytest.approx(atoms.get_potential_energy(), rel=1e-14)


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
def test_forces_are_the_negative_gradient_of_the_energy(name: str, request: pytest.FixtureRequest) -> None:
    atoms = atoms_of(request.getfixturevalue(name))
    forces = atoms.get_forces()
    for atom, axis in itertools.product(range(len(atoms)), range(3)):
        energies = []
        for shift in (STEP, -STEP):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += shift
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2.0 * STEP)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal"])
def test_stress_is_the_derivative_with_respect_to_strain_over_the_volume(
    name: str, request: pytest.FixtureRequest
) -> None:
    atoms = atoms_of(request.getfixturevalue(name))
    stress = atoms.get_stress()
    for component, (row, column) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for size in (STEP, -STEP):
            strain = np.zeros((3, 3))
            strain[row, column] += size / 2.0
            strain[column, row] += size / 2.0
            strained = atoms.copy()
            strained.calc = atoms.calc
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(strained.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2.0 * STEP) / atoms.get_volume()
        assert stress[component] == pytest.approx(slope, abs=1e-7)


def test_a_potential_is_taken_from_its_file(tmp_path: Path, atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    POTENTIAL.save(tmp_path / "potential.npz")
    for file in (tmp_path / "potential.npz", str(tmp_path / "potential.npz")):
        atoms.calc = BehlerParrinello(file)
        assert atoms.get_potential_energy() == energy
    with pytest.raises(InputError, match="no such file"):
        BehlerParrinello(tmp_path / "other.npz")


def test_copies_compute_the_same(atoms: Atoms) -> None:
    forces = atoms.get_forces()
    for calculator in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        moved = atoms.copy()
        moved.calc = calculator
        np.testing.assert_array_equal(moved.get_forces(), forces)
        moved.rattle(0.1, seed=1)
        assert not np.allclose(moved.get_forces(), forces)
    np.testing.assert_array_equal(atoms.get_forces(), forces)


def test_ase_writes_the_results_that_it_has_names_for(atoms: Atoms) -> None:
    forces = atoms.get_forces()
    properties = atoms.get_properties(["energy", "forces", "stress"])
    np.testing.assert_array_equal(properties["forces"], forces)
    stream = io.StringIO()
    ase.io.write(stream, atoms, format="extxyz")
    stream.seek(0)
    read = ase.io.read(stream, format="extxyz")
    assert read.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(read.get_forces(), forces, atol=1e-7)


# --- what is computed when ----------------------------------------------------------------------------------


def test_forces_are_not_computed_for_the_energy_alone(atoms: Atoms) -> None:
    for name in ("energy", "free_energy", "energies", "energy_spread"):
        atoms.calc.reset()
        atoms.calc.get_property(name, atoms)
        assert atoms.calc.prediction.forces is None
        assert {"forces", "stress", "forces_spread"}.isdisjoint(atoms.calc.results)


@pytest.mark.parametrize("name", ["forces", "stress", "forces_spread"])
def test_with_forces_everything_but_their_spread_is_computed_at_once(atoms: Atoms, name: str) -> None:
    atoms.get_potential_energy()
    atoms.calc.get_property(name, atoms)
    prediction = atoms.calc.prediction
    for other in {*atoms.calc.implemented_properties} - ({"forces_spread"} - {name}):
        atoms.calc.get_property(other, atoms)
    assert atoms.calc.prediction is prediction


@pytest.mark.parametrize("what", ["positions", "cell", "numbers", "pbc"])
def test_atoms_that_changed_are_computed_again_and_others_are_not(atoms: Atoms, what: str) -> None:
    before = atoms.get_potential_energy()
    prediction = atoms.calc.prediction
    atoms.set_initial_charges(np.ones(len(atoms)))
    atoms.set_velocities(np.ones((len(atoms), 3)))
    assert atoms.get_potential_energy() == before
    assert atoms.calc.prediction is prediction
    if what == "positions":
        atoms.positions[0, 0] += 0.1
    elif what == "cell":
        atoms.set_cell(1.02 * atoms.cell.array)
    elif what == "numbers":
        atoms.symbols[0] = "O"
    else:
        atoms.pbc = [True, True, False]
    assert atoms.get_potential_energy() != before
    assert atoms.calc.prediction is not prediction


def test_what_was_returned_is_not_what_is_kept(atoms: Atoms) -> None:
    forces = atoms.get_forces()
    expected = forces.copy()
    forces *= 2.0
    np.testing.assert_array_equal(atoms.get_forces(), expected)


# --- slabs and wires ----------------------------------------------------------------------------------------


def in_a_box(slab: Structure, periodic: tuple[bool, bool, bool] = (True, True, False)) -> Atoms:
    """The slab with a third cell vector that is neither periodic nor normal to the others."""
    cell = slab.cell.copy()
    cell[2] = 0.4, -0.7, 21.0
    return atoms_of(replace(slab, cell=cell, periodic=periodic))


@pytest.mark.parametrize("periodic", [(True, True, False), (False, True, False)])
def test_the_stress_of_a_slab_or_wire_is_that_over_the_volume_of_its_cell(
    slab: Structure, periodic: tuple[bool, bool, bool]
) -> None:
    atoms = in_a_box(slab, periodic)
    stress = atoms.get_stress(voigt=False)
    for component in itertools.product(range(3), range(3)):
        energies = []
        for size in (STEP, -STEP):
            strain = np.eye(3)
            strain[component] += size
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.set_cell(atoms.cell[:] @ strain, scale_atoms=False)
            moved.positions = atoms.positions @ strain
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2.0 * STEP) / atoms.get_volume()
        assert stress[component] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize(("make_filter", "steps"), [(UnitCellFilter, 200), (FrechetCellFilter, 3)])
def test_a_slab_relaxes_in_its_plane(slab: Structure, make_filter: type, steps: int) -> None:
    outer = np.array([[2.6, 2.0], [2.0, 2.3]])
    atoms = in_a_box(slab)
    atoms.calc = BehlerParrinello(replace(SINGLE, repulsion=Repulsion(("Ti", "O"), outer)))
    cell, energy = atoms.cell.copy(), atoms.get_potential_energy()
    optimizer = BFGS(make_filter(atoms, mask=[1, 1, 0, 0, 0, 1]), logfile=None, maxstep=0.05)
    converged = optimizer.run(fmax=0.01, steps=steps)
    assert atoms.get_potential_energy() < energy
    assert abs(atoms.cell[:2] - cell[:2]).max() > 1e-3
    np.testing.assert_allclose(atoms.cell[:, 2], cell[:, 2], atol=1e-12)
    if make_filter is UnitCellFilter:
        assert converged
        # the force on the cell is the stress times the volume
        assert np.abs(atoms.get_stress()[[0, 1, 5]]).max() * atoms.get_volume() < 0.01 * len(atoms)


# --- what cannot be had -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slab", "molecule"])
def test_there_is_no_stress_where_the_cell_has_no_volume(name: str, request: pytest.FixtureRequest) -> None:
    atoms = atoms_of(request.getfixturevalue(name))
    reason = "expected a periodic axis and three cell vectors that span a volume, got pbc"
    with pytest.raises(PropertyNotImplementedError, match=reason):
        atoms.get_stress()
    assert np.isfinite(atoms.get_forces()).all()
    assert "stress" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_a_single_network_has_no_spread(atoms: Atoms) -> None:
    atoms.calc = BehlerParrinello(SINGLE)
    atoms.get_forces()
    for name in ("energy_spread", "forces_spread"):
        assert name not in atoms.calc.results
        with pytest.raises(PropertyNotImplementedError, match="expected a committee, got a single network"):
            atoms.calc.get_property(name, atoms)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Atoms("Ti2Si", positions=2.0 * np.eye(3)), "Ti2Si: expected the elements Ti, O, got Si"),
        (
            Atoms("TiO2", [[0, 0, 0], [2, 0, 0], [2, 0, 0]]),
            "TiO2: expected atoms at different places, got atoms 2 and 3 at the same place",
        ),
        (Atoms("TiO", [[0, 0, 0], [2, 0, 0]], pbc=True), "TiO: expected cell vectors longer than"),
        (Atoms("TiO", [[0, 0, 0], [np.nan, 0, 0]]), "TiO: expected positions and cell vectors within"),
        (Atoms(), "expected atoms, got none"),
    ],
    ids=["element", "same place", "no cell", "nan", "no atoms"],
)
def test_atoms_that_do_not_fit_are_refused_in_the_way_of_ase(wrong: Atoms, message: str) -> None:
    wrong.calc = BehlerParrinello(POTENTIAL)
    for get in (wrong.get_potential_energy, wrong.get_forces):
        with pytest.raises(CalculatorSetupError) as caught:
            get()
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


# --- warnings -----------------------------------------------------------------------------------------------


def test_atoms_outside_the_training_range_are_warned_of_once(atoms: Atoms) -> None:
    atoms.calc = BehlerParrinello(narrow(POTENTIAL))
    with pytest.warns(ExtrapolationWarning) as caught:
        atoms.get_forces()
    atoms.rattle(0.1, seed=1)
    atoms.get_forces()  # another warning would be an error
    assert len(caught) == 1
    message = str(caught[0].message)
    first = BehlerParrinello(narrow(POTENTIAL), warn=False)
    first.get_potential_energy(atoms_of(crystals()[1]))
    assert first.prediction is not None
    worst = max(first.prediction.extrapolations, key=lambda extrapolation: extrapolation.distance)
    assert f"{len(atoms)} of {len(atoms)} atoms are far from the training set" in message
    assert (
        f"atom {worst.atom} ({worst.element}), at {worst.distance:.1f} times an ordinary distance" in message
    )
    assert (
        f"{worst.function} lies outside the training range by {worst.excess:.2g} times its width" in message
    )
    assert "\n" not in message


def test_every_calculator_warns_for_itself() -> None:
    for _ in range(2):
        with pytest.warns(ExtrapolationWarning):
            atoms_of(crystals()[0], narrow(POTENTIAL)).get_potential_energy()


def test_the_atoms_outside_are_known_without_a_warning(atoms: Atoms) -> None:
    atoms.calc = BehlerParrinello(narrow(POTENTIAL), warn=False)
    atoms.get_potential_energy()
    assert len(atoms.calc.prediction.extrapolations) == len(atoms)


def test_a_composition_that_training_says_nothing_about_is_warned_of_once(atoms: Atoms) -> None:
    dioxide = replace(POTENTIAL, composition_span=np.array([[1.0, 2.0]]) / np.sqrt(5.0))
    atoms.calc = BehlerParrinello(dioxide)
    atoms.symbols = ["Ti", *["O"] * (len(atoms) - 1)]
    with pytest.warns(
        ExtrapolationWarning, match="^TiO[0-9]: the training compositions do not span this one"
    ) as caught:
        atoms.get_potential_energy()
    atoms.rattle(0.1, seed=1)
    atoms.get_potential_energy()
    assert len(caught) == 1


# --- dynamics -----------------------------------------------------------------------------------------------


def total_energies(step: float, duration: float) -> NDArray[np.float64]:
    """Total energy, eV, along a path of constant energy in steps of `step` fs, for `duration` fs."""
    atoms = atoms_of(crystals()[1], SINGLE)
    energies = []
    # nothing random: from rest, downhill
    with VelocityVerlet(atoms, step * units.fs) as dynamics:
        dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
        dynamics.run(round(duration / step))
    # the path has to be one
    assert atoms.get_kinetic_energy() > 0.05
    return np.array(energies)


def test_every_step_has_the_energy_and_forces_of_a_fresh_calculator(atoms: Atoms) -> None:
    """The calculator keeps the neighbors of earlier steps."""
    atoms = atoms.repeat(2)
    atoms.calc = BehlerParrinello(POTENTIAL)
    velocities = 0.03 * np.random.default_rng(2).normal(size=atoms.positions.shape)
    for _ in range(25):
        atoms.positions += velocities
        fresh = atoms.copy()
        fresh.calc = BehlerParrinello(POTENTIAL, threads=1)
        assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), fresh.get_forces(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(atoms.get_stress(), fresh.get_stress(), rtol=0, atol=1e-12)
    assert 2 <= atoms.calc._verlet.n_searches < 20


def test_threads_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="threads: expected a positive number, got 0"):
        BehlerParrinello(POTENTIAL, threads=0)


def test_energy_is_conserved_to_second_order_of_the_time_step() -> None:
    coarse, fine = (np.ptp(total_energies(step, 25.0)) for step in (0.5, 0.25))
    assert coarse < 5e-3
    assert coarse / fine == pytest.approx(4.0, rel=0.15)


def test_numbers_beyond_those_of_a_computer_are_no_result(atoms: Atoms) -> None:
    huge = dict.fromkeys(POTENTIAL.reference_energies, 1e308)
    atoms.calc = BehlerParrinello(replace(POTENTIAL, reference_energies=huge), warn=False)
    with pytest.raises(CalculationFailed, match="cannot predict the energy: the result is not finite"):
        atoms.get_potential_energy()
    assert atoms.calc.results == {}


def test_after_a_failure_no_energy_of_other_atoms_is_returned(atoms: Atoms) -> None:
    calculator = BehlerParrinello(POTENTIAL, warn=False)
    atoms.calc = calculator
    atoms.get_potential_energy()
    other = Atoms("Fe", cell=[3.0, 3.0, 3.0], pbc=True)
    other.calc = calculator
    for _ in range(2):
        with pytest.raises(CalculatorSetupError, match="expected the elements Ti, O, got Fe"):
            other.get_potential_energy()
    assert calculator.prediction is None
