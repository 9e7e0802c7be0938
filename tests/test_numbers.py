"""Numbers that have to agree, over random crystals and over structures that are special."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import reference
from command_line import invoke, rows
from commands import derivatives_of, features_of, structures_of, weights_of
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from potentials import POTENTIAL
from projects import (
    PARAMETERS,
    extracted_project,
    no_pool,
    structures_with_forces,
    trained_project,
    write_files,
)
from projects import structures as crystals
from strategies import examples, is_clear_of_cutoff, slope, structures

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parallel.workers import kernel_workers
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.project import feature_store as features
from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.featurize import compute_features

FloatArray = NDArray[np.float64]

PERIODIC = ((True, True, True),)
STEP = 1e-4  # Å, or strain, of central differences
FREE = (False, False, False)


def predicted(structure: Structure, potential: Potential = POTENTIAL) -> Prediction:
    (prediction,) = potential.predict([structure], forces=True)
    return prediction


def displaced(structure: Structure, shift: FloatArray) -> Structure:
    return replace(structure, positions=structure.positions + shift)


def strained(structure: Structure, strain: FloatArray) -> Structure:
    deformation = np.eye(3) + strain
    return replace(structure, positions=structure.positions @ deformation, cell=structure.cell @ deformation)


def slopes(
    structure: Structure,
    change: Callable[[Structure, FloatArray], Structure],
    shape: tuple[int, int],
    potential: Potential,
    step: float = STEP,
) -> FloatArray:
    """Central differences of the energy, of fourth order, eV over the unit of the change."""
    found = np.empty(shape)
    for index in np.ndindex(*shape):
        by = np.zeros(shape)
        by[index] = 1.0
        found[index] = slope(
            lambda amount, unit=by: np.array(potential.energy(change(structure, amount * unit))), step
        )
    return found


def check_forces_and_stress(
    structure: Structure, potential: Potential = POTENTIAL, step: float = STEP
) -> None:
    """Both are the differences of the energy, to 2e-6 of the largest."""
    prediction = predicted(structure, potential)
    assert prediction.forces is not None
    gradient = slopes(structure, displaced, (structure.n_atoms, 3), potential, step)
    np.testing.assert_allclose(prediction.forces, -gradient, atol=2e-6 * max(1.0, abs(gradient).max()))
    if structure.cell_volume is None:
        assert prediction.stress is None
        return
    strain = slopes(structure, strained, (3, 3), potential, step)
    assert prediction.stress is not None
    np.testing.assert_allclose(
        prediction.stress * structure.cell_volume, strain, atol=2e-6 * max(1.0, abs(strain).max())
    )


# --- random crystals ----------------------------------------------------------------------------------------


@examples(15)
@given(structures(periodicities=PERIODIC))
def test_the_stress_of_any_crystal_is_the_strain_derivative_of_its_energy(structure: Structure) -> None:
    assume(is_clear_of_cutoff(structure, PARAMETERS.cutoff, 4 * STEP * PARAMETERS.cutoff))
    stress = predicted(structure).stress
    assert stress is not None
    assert structure.volume is not None
    strain = slopes(structure, strained, (3, 3), POTENTIAL)
    np.testing.assert_allclose(stress * structure.volume, strain, atol=2e-6 * max(1.0, abs(strain).max()))


@examples(15)
@given(st.lists(structures(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_predictions_do_not_depend_on_the_company_or_its_order(
    some: list[Structure], chance: random.Random
) -> None:
    named = [replace(structure, name=f"s{k}", file=f"s{k}") for k, structure in enumerate(some)]
    shuffled = chance.sample(named, len(named))
    energies = {p.structure.name: p.energy for p in POTENTIAL.predict(shuffled)}
    assert energies == {s.name: POTENTIAL.energy(s) for s in named}
    for found in POTENTIAL.predict(shuffled, forces=True):
        alone = predicted(found.structure)
        assert found.energy == alone.energy == energies[found.structure.name]
        np.testing.assert_array_equal(found.forces, alone.forces)
        if alone.stress is None:
            assert found.stress is None
        else:
            np.testing.assert_array_equal(found.stress, alone.stress)


@pytest.mark.slow
def test_many_processes_compute_the_bits_of_one_for_features_and_derivatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 30)
    projects = {}
    for jobs, make_executor in ((1, no_pool), (2, kernel_workers)):
        project = extracted_project(tmp_path / str(jobs), chosen=structures_with_forces())
        compute_features(project, jobs=jobs, jobs_are_fixed=True, make_executor=make_executor)
        differentiate(project, jobs=jobs, jobs_are_fixed=True, make_executor=make_executor)
        projects[jobs] = project
    assert len(list(projects[1].features_directory.glob("shard-*.npz"))) > 3
    assert features_of(projects[2]) == features_of(projects[1])
    assert derivatives_of(projects[2]) == derivatives_of(projects[1])


def test_the_network_of_keras_has_the_energies_and_forces_of_the_potential(tmp_path: Path) -> None:
    """Forces of the network: its derivatives by the features, times those of the features by the positions."""
    import keras
    import tensorflow as tf

    import tio2nn.training.network  # noqa: F401

    project = trained_project(tmp_path / "p")
    potential = Potential.load(project.potential_file)
    network = keras.saving.load_model(project.network_file(1))
    calculator = SymmetryCalculator(potential.parameters)
    for structure in crystals()[:8]:
        inputs = tf.constant(calculator(structure)[None])
        subnets = tf.constant([[potential.subnet_of[element] for element in structure.elements]])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            energy = network({"features": inputs, "subnets": subnets})[0]
        gradient = np.asarray(tape.gradient(energy, inputs))[0]
        forces = -np.einsum("if,ifjx->jx", gradient, calculator.jacobian(structure))
        found = predicted(structure, potential)
        known = sum(potential.reference_energies[element] for element in structure.elements)
        assert abs(found.energy - known - float(energy)) / structure.n_atoms < 1e-5
        assert found.forces is not None
        np.testing.assert_allclose(found.forces, forces, atol=1e-4 * abs(forces).max())


# --- the order of files -------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_order_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    POTENTIAL.save(Path("potential.npz"))
    files = [path.relative_to(tmp_path) for path in write_files(tmp_path / "files", crystals())]
    shuffled = random.Random(1).sample(files, len(files))
    for options in ((), ("--forces",)):
        tables = []
        for order in (files, shuffled):
            out, _ = invoke("predict", "--potential", "potential.npz", *options, *order)
            first, *found = rows(out)
            assert list(dict.fromkeys(row[0] for row in found)) == list(map(str, order))
            tables.append((first, sorted(found)))
        assert tables[0] == tables[1]


@pytest.mark.slow
def test_features_and_training_do_not_depend_on_the_order_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [path.relative_to(tmp_path) for path in write_files(tmp_path / "files", structures_with_forces())]
    made = []
    for name, order in (("one", files), ("other", random.Random(1).sample(files, len(files)))):
        project = Project.create(tmp_path / name, PARAMETERS)
        invoke("extract", *order, "-C", name)
        invoke("featurize", "--forces", "-j", 1, "-C", name)
        invoke("train", "--epochs", 1, "-j", 1, "-C", name)
        made.append(
            (structures_of(project), features_of(project), derivatives_of(project), weights_of(project))
        )
    assert made[0] == made[1]


# --- special structures -------------------------------------------------------------------------------------


@cache
def wide() -> Potential:
    """As the potential of all tests, but it sees 6.5 Å."""
    return replace(POTENTIAL, parameters=PARAMETERS.with_overrides(cutoff=6.5))


def close_pair() -> Structure:
    positions = np.array([[0.0, 0.0, 0.0], [0.06, 0.08, 0.0], [1.5, 0.3, 1.1]])
    return Structure("close", ("Ti", "O", "O"), positions, np.zeros((3, 3)), FREE, file="close.xsf")


def close_pair_in_a_crystal() -> Structure:
    cell = np.array([[3.9, 0.0, 0.0], [0.4, 3.7, 0.0], [0.1, -0.6, 4.1]])
    return replace(close_pair(), cell=cell, periodic=(True, True, True))


def small_cell() -> Structure:
    cell = np.array([[3.0, 0.0, 0.0], [0.3, 3.0, 0.0], [-0.2, 0.4, 3.0]])
    positions = np.array([[0.0, 0.0, 0.0], [1.4, 1.6, 1.3]])
    return Structure("small", ("Ti", "O"), positions, cell, file="small.xsf")


@pytest.mark.parametrize(
    ("make", "potential", "step"),
    [
        (close_pair, POTENTIAL, 1e-5),
        (close_pair_in_a_crystal, POTENTIAL, 1e-5),
        (small_cell, wide(), STEP),
    ],
    ids=["0.1 Å apart", "0.1 Å apart in a crystal", "3 Å cell, 6.5 Å cutoff"],
)
def test_values_derivatives_energy_forces_and_stress_of_special_structures(
    make: Callable[[], Structure], potential: Potential, step: float
) -> None:
    structure, parameters = make(), potential.parameters
    calculator = SymmetryCalculator(parameters)
    values = calculator(structure)
    expected = reference.symmetry_functions(structure, parameters)
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-12)
    jacobian = calculator.jacobian(structure)
    for atom, axis in np.ndindex(structure.n_atoms, 3):
        shift = np.zeros((structure.n_atoms, 3))
        shift[atom, axis] = step
        there, back = (calculator(displaced(structure, sign * shift)) for sign in (1.0, -1.0))
        np.testing.assert_allclose(
            jacobian[:, :, atom, axis],
            (there - back) / (2.0 * step),
            atol=1e-5 * max(1.0, abs(jacobian).max()),
        )
    assert np.isfinite(potential.energy(structure))
    check_forces_and_stress(structure, potential, step)


def test_an_atom_alone_has_no_features_no_forces_and_the_energy_of_its_network() -> None:
    for element in ("Ti", "O"):
        atom = Structure(
            "atom", (element,), np.array([[1.0, -2.0, 3.0]]), np.zeros((3, 3)), FREE, file="atom.xsf"
        )
        calculator = SymmetryCalculator(PARAMETERS)
        assert not calculator(atom).any()
        assert not calculator.jacobian(atom).any()
        prediction = predicted(atom)
        assert prediction.forces is not None
        assert prediction.forces.tolist() == [[0.0, 0.0, 0.0]]
        assert prediction.stress is None
        assert np.isfinite(prediction.energy)
        far = Structure(
            "far",
            (element,) * 2,
            np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]]),
            np.zeros((3, 3)),
            FREE,
            file="far",
        )
        assert POTENTIAL.energy(far) == pytest.approx(2.0 * prediction.energy, rel=1e-14)


def test_a_thousand_atoms_are_those_of_the_unit_cell_repeated() -> None:
    cell = next(structure for structure in crystals() if structure.n_atoms == 8)
    images = np.array(list(np.ndindex(5, 5, 5)))
    shifts = np.repeat(images @ cell.cell, 8, axis=0)
    large = replace(
        cell,
        elements=cell.elements * 125,
        positions=np.tile(cell.positions, (125, 1)) + shifts,
        cell=5.0 * cell.cell,
        energy=None,
    )
    assert large.n_atoms == 1000
    calculator = SymmetryCalculator(PARAMETERS)
    values = calculator(cell)
    np.testing.assert_allclose(calculator(large), np.tile(values, (125, 1)), rtol=1e-9, atol=1e-12)
    # what all images of an atom do together, it does in the unit cell
    jacobian = calculator.jacobian(cell)
    folded = calculator.jacobian(large, np.float32)[:8].reshape(8, -1, 125, 8, 3).sum(axis=2)
    np.testing.assert_allclose(folded, jacobian, atol=1e-5 * abs(jacobian).max())
    small, found = predicted(cell), predicted(large)
    assert found.energy == pytest.approx(125.0 * small.energy, rel=1e-12)
    assert small.forces is not None
    assert found.forces is not None
    np.testing.assert_allclose(
        found.forces, np.tile(small.forces, (125, 1)), atol=1e-10 * abs(small.forces).max()
    )
    np.testing.assert_allclose(found.stress, small.stress, rtol=1e-9, atol=1e-12)
    # and once against differences of the energy
    shift = np.zeros((1000, 3))
    shift[[17, 17, 940], [0, 2, 1]] = 0.6, -0.2, 0.7
    energies = [POTENTIAL.energy(displaced(large, sign * STEP * shift)) for sign in (1.0, -1.0)]
    slope = (energies[0] - energies[1]) / (2.0 * STEP)
    assert -(found.forces * shift).sum() == pytest.approx(slope, abs=1e-4)


def test_two_thousand_atoms_without_a_cell_have_the_forces_of_each_cluster() -> None:
    """Clusters too far apart to see each other, of which one lies across two blocks of centers."""
    some = [replace(s, cell=np.zeros((3, 3)), periodic=FREE, energy=None) for s in crystals(9)]
    many = [displaced(some[k % 9], np.array([30.0 * k, 0.0, 0.0])) for k in range(310)]
    together = Structure(
        "together",
        tuple(element for s in many for element in s.elements),
        np.concatenate([s.positions for s in many]),
        np.zeros((3, 3)),
        FREE,
        file="together.xsf",
    )
    assert together.n_atoms > 1800
    alone = [predicted(s) for s in some]
    found = predicted(together)
    assert found.energy == pytest.approx(sum(alone[k % 9].energy for k in range(310)), rel=1e-12)
    forces = np.concatenate([np.asarray(alone[k % 9].forces) for k in range(310)])
    # positions of kilometers have fewer digits left for distances
    np.testing.assert_allclose(found.forces, forces, atol=1e-8 * abs(forces).max())
