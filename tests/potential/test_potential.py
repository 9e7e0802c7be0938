from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from potentials import POTENTIAL, make_potential
from projects import ATOMIC_ENERGIES, PARAMETERS, trained_project
from projects import structures as crystals
from strategies import structures

from tio2nn.errors import InputError
from tio2nn.parameters.fit_parameters import ACTIVATIONS
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.layers import Layer, energies
from tio2nn.potential.loops import CODES, activate
from tio2nn.potential.potential import Potential, composition_span
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE
from tio2nn.structures.structure import Structure

# --- what it computes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"training": {"members": 2, "epochs": 2}}, {"network": {"shared_subnet": True}}],
    ids=["committee", "shared subnet"],
)
def test_a_trained_potential_gives_the_energies_of_its_networks(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    project = trained_project(tmp_path / "p", **changes)
    import keras
    import tensorflow as tf

    import tio2nn.training.network  # noqa: F401

    potential = Potential.load(project.potential_file)
    members = len(potential.members)
    networks = [keras.saving.load_model(project.network_file(m)) for m in range(1, members + 1)]
    assert members == changes.get("training", {}).get("members", 1)
    for structure, prediction in zip(crystals(), potential.predict(crystals()), strict=True):
        features = potential._calculator(structure)
        subnets = [potential.subnet_of[element] for element in structure.elements]
        inputs = {"features": tf.constant(features[None]), "subnets": tf.constant([subnets])}
        energies = np.array([float(network(inputs)[0]) for network in networks])
        reference = sum(potential.reference_energies[element] for element in structure.elements)
        assert prediction.energy - reference == pytest.approx(energies.mean(), rel=1e-5, abs=1e-5)
        if members == 1:
            assert prediction.spread is None
        else:
            spread = energies.std(ddof=1) / structure.n_atoms
            assert prediction.spread == pytest.approx(spread, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_keras(activation: str) -> None:
    import keras
    import tensorflow as tf

    from tio2nn.training.devices import configure_threads

    configure_threads()
    x = np.array([-800.0, -30.0, -1.5, -1e-3, 0.0, 1e-9, 0.7, 20.0, 800.0])
    layers = (Layer(np.eye(1), np.zeros(1), activation),)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        expected = keras.activations.get(activation)(tensor)
    np.testing.assert_allclose(energies(layers, x[:, None]), expected, rtol=1e-6, atol=1e-12)
    values, slopes = x.copy(), np.empty_like(x)
    activate(CODES[activation], values, slopes)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(slopes, tape.gradient(expected, tensor), rtol=1e-6, atol=1e-12)


def test_energies_are_computed_in_float64() -> None:
    structure = crystals()[0]
    features = np.random.default_rng(0).normal(size=(structure.n_atoms, PARAMETERS.n_features))
    expected = np.zeros((2, structure.n_atoms))
    for m, member in enumerate(POTENTIAL.members):
        for atom, element in enumerate(structure.elements):
            k = POTENTIAL.subnet_of[element]
            x = (features[atom] - POTENTIAL.whitenings[k].mean) @ POTENTIAL.whitenings[k].matrix
            for layer in member[k][:2]:
                x = np.tanh(x @ layer.kernel + layer.bias)
            expected[m, atom] = (x @ member[k][2].kernel + member[k][2].bias).item()
    found = POTENTIAL.predict_features(structure, features).atomic_energies
    reference = np.array([ATOMIC_ENERGIES[element] for element in structure.elements])
    np.testing.assert_allclose(found - reference, expected.mean(axis=0), atol=1e-11)


def test_the_energy_is_the_sum_of_the_atoms_with_their_reference_energies() -> None:
    structure = crystals()[0]
    whole = next(POTENTIAL.predict([structure]))
    assert whole.energy == pytest.approx(whole.atomic_energies.sum(), rel=1e-14)
    assert whole.energy_per_atom == whole.energy / structure.n_atoms
    shifted = replace(POTENTIAL, reference_energies={"Ti": ATOMIC_ENERGIES["Ti"] + 1.0, "O": -430.0})
    moved = next(shifted.predict([structure])).atomic_energies - whole.atomic_energies
    expected = [1.0 if element == "Ti" else 0.0 for element in structure.elements]
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_a_committee_says_the_mean_of_its_members_and_how_far_they_disagree() -> None:
    structure = crystals()[1]
    alone = [replace(POTENTIAL, members=(member,)).energy(structure) for member in POTENTIAL.members]
    together = next(POTENTIAL.predict([structure]))
    assert together.energy == pytest.approx(np.mean(alone), rel=1e-12)
    assert together.spread == pytest.approx(np.std(alone, ddof=1) / structure.n_atoms, rel=1e-8)
    assert together.spread > 1e-3
    assert next(make_potential(members=1).predict([structure])).spread is None


def test_one_structure_is_as_many_at_once() -> None:
    some = list(crystals()[:6])
    predictions = list(POTENTIAL.predict(some))
    assert [prediction.structure.name for prediction in predictions] == [s.name for s in some]
    assert [prediction.energy for prediction in predictions] == [POTENTIAL.energy(s) for s in some]
    assert list(POTENTIAL.predict([])) == []


# --- invariance ---------------------------------------------------------------------------------------------


@given(structures(), st.integers(0, 2**32 - 1), st.sampled_from((1.0, -1.0)), st.floats(-20.0, 20.0))
def test_rotation_reflection_and_translation_leave_the_energy(
    structure: Structure, seed: int, determinant: float, shift: float
) -> None:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    rotation *= determinant * np.linalg.det(rotation)
    moved = replace(
        structure,
        positions=structure.positions @ rotation + shift * np.array([1.0, -0.5, 0.3]),
        cell=structure.cell @ rotation,
    )
    assert POTENTIAL.energy(moved) == pytest.approx(POTENTIAL.energy(structure), abs=1e-7)


@given(structures(), st.data())
def test_permutation_leaves_the_energy_and_permutes_the_atomic_ones(
    structure: Structure, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(structure.n_atoms)))
    elements = tuple(structure.elements[k] for k in order)
    permuted = replace(structure, elements=elements, positions=structure.positions[order])
    before, after = POTENTIAL.predict([structure, permuted])
    assert after.energy == pytest.approx(before.energy, abs=1e-8)
    np.testing.assert_allclose(after.atomic_energies, before.atomic_energies[order], atol=1e-8)


@given(structures(), st.tuples(*[st.integers(1, 2)] * 3))
def test_the_energy_of_a_supercell_is_a_multiple(
    structure: Structure, multiples: tuple[int, int, int]
) -> None:
    n = np.where(structure.periodic, multiples, 1)
    images = np.array(list(itertools.product(*map(range, n))))
    supercell = replace(
        structure,
        elements=structure.elements * len(images),
        positions=(structure.positions + (images @ structure.cell)[:, None]).reshape(-1, 3),
        cell=structure.cell * n[:, None],
    )
    expected = len(images) * POTENTIAL.energy(structure)
    assert POTENTIAL.energy(supercell) == pytest.approx(expected, abs=1e-7 * len(images))


def test_atoms_that_move_change_the_energy() -> None:
    structure = crystals()[0]
    positions = structure.positions.copy()
    positions[0] += [0.05, 0.0, 0.0]
    other = POTENTIAL.energy(replace(structure, positions=positions))
    assert abs(other - POTENTIAL.energy(structure)) > 1e-4


# --- warnings -----------------------------------------------------------------------------------------------


def remembering(features: np.ndarray, unit: float, margin: float = 0.0) -> Potential:
    """With a training that saw these atoms, each the center of the range of its element."""
    atoms = tuple(
        TrainingAtoms(
            features.min(axis=0) - margin,
            features.max(axis=0) + margin,
            whitening.points(features).astype(np.float32),
            unit,
        )
        for whitening in POTENTIAL.whitenings
    )
    return replace(POTENTIAL, training_atoms=atoms)


@pytest.mark.parametrize("side", [0, 1])
def test_an_atom_far_from_training_is_named_with_the_function_farthest_outside_its_range(side: int) -> None:
    structure = crystals()[0]
    features = POTENTIAL._calculator(structure)
    potential = remembering(features, unit=1e-3, margin=1.0)
    near = potential.predict_features(structure, features)
    assert near.extrapolations == ()
    np.testing.assert_allclose(near.distances, 0.0, atol=1e-2)
    atom, column = 3, 4
    seen = potential.training_atoms[0]
    width = seen.high - seen.low
    moved = features.copy()
    for where, excess in ((column, 0.5), (column + 1, 0.25)):
        beyond = excess * width[where]
        moved[atom, where] = seen.low[where] - beyond if side == 0 else seen.high[where] + beyond
    prediction = potential.predict_features(structure, moved)
    (found,) = prediction.extrapolations
    assert (found.atom, found.element) == (atom + 1, structure.elements[atom])
    assert found.function == PARAMETERS.feature_names[column]
    assert found.excess == pytest.approx(0.5)
    assert found.distance == prediction.distances[atom] == prediction.distances.max()
    assert (
        f"{found.function} lies outside the training range by 0.5 times its width"
        in prediction.doubts()["atoms"]
    )


def test_a_new_combination_of_functions_within_their_ranges_is_reported_too() -> None:
    structure = crystals()[0]
    features = POTENTIAL._calculator(structure)
    potential = remembering(features, unit=1e-3, margin=1.0)
    features[2] += 0.5
    (found,) = potential.predict_features(structure, features).extrapolations
    assert found.atom == 3
    assert found.excess < 0.0
    assert (
        "its functions are in range, but in a new combination"
        in potential.predict_features(structure, features).doubts()["atoms"]
    )


@pytest.mark.parametrize(("factor", "n_far"), [(0.98, 0), (1.02, 1)])
def test_atoms_are_far_beyond_one_distance(factor: float, n_far: int) -> None:
    structure = crystals()[0]
    features = POTENTIAL._calculator(structure)
    moved = features.copy()
    moved[2] += 0.1
    distance = remembering(features, 1.0).predict_features(structure, moved).distances[2]
    potential = remembering(features, distance / (factor * EXTRAPOLATION_DISTANCE))
    assert len(potential.predict_features(structure, moved).extrapolations) == n_far


@pytest.mark.parametrize(
    ("trained", "elements", "known"),
    [
        ([[1, 2], [4, 8]], "Ti O O", True),
        ([[1, 2], [4, 8]], "Ti Ti O O O O", True),
        ([[1, 2], [4, 8]], "Ti O", False),
        ([[1, 2], [4, 8]], "Ti Ti Ti Ti O O O O O O O O O", False),
        ([[1, 2], [4, 8]], "O", False),
        ([[1, 2], [1, 1]], "O O O", True),
        ([[0, 2]], "O O O", True),
        ([[0, 2]], "Ti O O", False),
    ],
)
def test_a_composition_is_known_if_those_in_training_combine_to_it(
    trained: list[list[int]], elements: str, known: bool
) -> None:
    symbols = tuple(elements.split())
    positions = 1.9 * np.arange(len(symbols))[:, None] * np.array([[1.0, 0.3, 0.1]])
    structure = Structure("chain", symbols, positions, np.zeros((3, 3)), (False,) * 3)
    potential = replace(POTENTIAL, composition_span=composition_span(np.array(trained)))
    assert next(potential.predict([structure])).composition_is_known is known


def test_an_unknown_element_and_atoms_at_one_place_are_refused() -> None:
    structure = replace(crystals()[0], file="some.xsf")
    unknown = replace(structure, elements=("Si", *structure.elements[1:]))
    positions = structure.positions.copy()
    positions[1] = positions[0]
    for bad, got in ((unknown, "Si"), (replace(structure, positions=positions), "")):
        with pytest.raises(InputError, match=rf"^some\.xsf: expected .*, got .*{got}") as caught:
            POTENTIAL.energy(bad)
        assert "\n" not in str(caught.value)
