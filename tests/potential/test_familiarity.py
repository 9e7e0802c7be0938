from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from projects import PARAMETERS, pair_energy, small_project, structures

from tio2nn.potential import familiarity
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE
from tio2nn.potential.whitening import Whitening
from tio2nn.structures.structure import Structure
from tio2nn.workflow.train import train

N = 6


def cloud(n_atoms: int = 900, seed: int = 0) -> np.ndarray:
    """Atoms in two clusters, with correlated features."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(size=(N, N))
    return rng.normal(size=(n_atoms, N)) @ mixing + 20.0 * (np.arange(n_atoms) % 2)[:, None]


def fitted(features: np.ndarray, per_structure: int = 3) -> tuple[TrainingAtoms, Whitening]:
    # all directions count
    whitening = Whitening.fit(features, floor=1e-12)
    owners = np.arange(len(features)) // per_structure
    return TrainingAtoms.fit(features, owners, whitening, np.random.default_rng(0)), whitening


def test_of_atoms_like_those_in_training_99_of_100_are_nearer_than_1() -> None:
    atoms, whitening = fitted(cloud())
    fraction = np.mean(atoms.distances(cloud(20_000, seed=7), whitening) < 1.0)
    assert 0.98 < fraction < 0.998


def test_the_distance_is_that_to_the_nearest_training_atom_in_whitened_space() -> None:
    features, tried = cloud(), cloud(50, seed=3)
    atoms, whitening = fitted(features)
    differences = whitening.points(tried)[:, None] - whitening.points(features)
    nearest = np.sqrt((differences**2).mean(axis=2)).min(axis=1)
    np.testing.assert_allclose(atoms.distances(tried, whitening), nearest / atoms.unit, rtol=1e-5)
    np.testing.assert_allclose(atoms.distances(features, whitening), 0.0, atol=1e-5)


def test_a_hole_in_the_middle_of_training_is_far_although_within_all_ranges() -> None:
    angles = np.random.default_rng(2).uniform(0.0, 2.0 * np.pi, 900)
    atoms, whitening = fitted(np.column_stack([np.cos(angles), np.sin(angles)]))
    middle = np.zeros((1, 2))
    assert atoms.excess(middle).max() < 0.0
    assert atoms.distances(middle, whitening)[0] > 10.0


def test_scale_and_mixture_of_the_features_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    matrix, shift = rng.normal(size=(N, N)), rng.normal(size=N)
    features, tried = cloud(), cloud(50, seed=3) + 2.0
    plain, other = fitted(features), fitted(features @ matrix + shift)
    found = other[0].distances(tried @ matrix + shift, other[1])
    np.testing.assert_allclose(found, plain[0].distances(tried, plain[1]), rtol=1e-3)


def test_atoms_of_the_same_structure_are_no_measure_of_the_unit() -> None:
    # each structure has three equal atoms: within it all distances are zero
    features = np.repeat(cloud(300), 3, axis=0)
    atoms, _ = fitted(features)
    alone, _ = fitted(cloud(300), per_structure=1)
    assert atoms.unit == pytest.approx(alone.unit, rel=0.2)


def test_a_potential_remembers_a_bounded_number_of_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiarity, "N_REFERENCES", 100)
    atoms, whitening = fitted(cloud())
    assert atoms.references.shape == (100, N)
    remembered = atoms.distances(cloud(), whitening) < 1e-4
    assert remembered.sum() == 100


def test_a_function_that_had_one_value_in_training_counts_by_its_difference() -> None:
    features = cloud()
    features[:, 2] = 3.0
    atoms, whitening = fitted(features)
    assert whitening.constant[2]
    other = features[:5].copy()
    other[1, 2] = 3.4
    distances = atoms.distances(other, whitening) * atoms.unit
    assert distances[1] == pytest.approx(0.4 / np.sqrt(N + 1), rel=1e-4)
    assert distances[[0, 2, 3, 4]].max() < 1e-4
    assert atoms.excess(other)[1, 2] == pytest.approx(0.4)


@pytest.mark.parametrize("n_structures", [1, 20])
def test_where_training_has_nothing_to_compare_the_unit_is_still_a_number(n_structures: int) -> None:
    copies = np.tile(cloud(6), (n_structures, 1))
    atoms, whitening = fitted(copies, per_structure=6)
    assert atoms.unit > 0.0
    distances = atoms.distances(np.vstack([copies, copies[:1] + 1.0]), whitening)
    assert np.isfinite(distances).all()
    np.testing.assert_array_less(distances[:-1], distances[-1])


def test_no_atoms_have_no_distances() -> None:
    atoms, whitening = fitted(cloud())
    assert atoms.distances(np.empty((0, N)), whitening).shape == (0,)


# --- errors grow where the distance does --------------------------------------------------------------------


def compressed(structure: Structure) -> Structure:
    return replace(structure, positions=0.8 * structure.positions, cell=0.8 * structure.cell)


def sheared(structure: Structure) -> Structure:
    shear = np.eye(3)
    shear[0, 1], shear[1, 2] = 2.0, 1.0
    return replace(structure, positions=structure.positions @ shear, cell=structure.cell @ shear)


def molten(structure: Structure) -> Structure:
    rng = np.random.default_rng(structure.n_atoms)
    return replace(
        structure, positions=structure.positions + rng.normal(scale=0.6, size=structure.positions.shape)
    )


@pytest.mark.slow
def test_errors_of_compressed_sheared_and_molten_structures_grow_where_the_warning_says_so(
    tmp_path: Path,
) -> None:
    parameters = PARAMETERS.with_overrides(
        # what the networks say: repulsion is not theirs
        network={"hidden_layers": [16, 16], "repulsion": False},
        training={"epochs": 60, "batch_size": 16, "validation_fraction": 0.15, "test_fraction": 0.0},
    )
    project = small_project(tmp_path / "p", parameters, structures(200))
    train(project, parameters)
    potential = Potential.load(project.potential_file)

    def errors(chosen: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
        """Of the energies, eV/atom, and the largest distances."""
        found = [
            (abs(p.energy - pair_energy(p.structure)) / p.structure.n_atoms, p.distances.max())
            for p in potential.predict(chosen)
        ]
        return np.array(found).T[0], np.array(found).T[1]

    new = structures(60, seed=5)
    usual, near = errors(new)
    assert not (near > EXTRAPOLATION_DISTANCE).any()
    found = [(usual, near)]
    for change in (compressed, sheared, molten):
        error, distance = errors([change(structure) for structure in new])
        warned = distance > EXTRAPOLATION_DISTANCE
        assert warned.mean() > 0.2
        assert np.median(error[warned]) > 3.0 * np.median(usual)
        found.append((error, distance))
    error, distance = (np.concatenate(values) for values in zip(*found, strict=True))
    edges = np.array([0.0, 1.0, EXTRAPOLATION_DISTANCE, 5.0, 15.0, np.inf])
    medians = [
        np.median(error[(low <= distance) & (distance < high)]) for low, high in itertools.pairwise(edges)
    ]
    assert medians == sorted(medians)
    assert medians[-1] > 20.0 * medians[0]
