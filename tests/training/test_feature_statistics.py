"""Where stresses are learned, features are whitened as if cells were strained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from projects import PARAMETERS, no_pool, small_project, structures_with_stress

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.natural_sizes import natural_sizes, near
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.potential.whitening import Whitening, floor_of
from tio2nn.project.freshness import Snapshot
from tio2nn.structures.split import Split
from tio2nn.structures.structure import Structure
from tio2nn.training.data import Inputs, TrainingData, prepare
from tio2nn.training.feature_statistics import strained_covariances
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.inputs import read_inputs

AUTO = PARAMETERS.with_overrides(training={"forces": True, "stress": True})
ELEMENTS = ("Ti", "O")
_STEP = 1e-4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    project = small_project(tmp_path_factory.mktemp("whitenings") / "p", AUTO, structures_with_stress())
    featurize(project, jobs=1, make_executor=no_pool)
    found = read_inputs(Snapshot(project), AUTO)
    return replace(found, features=list(found.features))


def prepared(inputs: Inputs, **training: object) -> TrainingData:
    n = len(inputs.store)
    split = Split(inputs.store.names, ("validation",) * 3 + ("train",) * (n - 3))
    return prepare(inputs, AUTO.with_overrides(training=training), split)


def chosen() -> list[Structure]:
    """The training set."""
    return list(structures_with_stress()[3:])


def strained(structure: Structure, strain: FloatArray) -> Structure:
    change = np.eye(3) + strain
    return replace(structure, positions=structure.positions @ change, cell=structure.cell @ change)


def symmetric_strains() -> list[FloatArray]:
    """Six strains of unit size, none of which is part of another."""
    found = []
    for a in range(3):
        for b in range(a, 3):
            strain = np.zeros((3, 3))
            strain[a, b] = strain[b, a] = 1.0
            found.append(strain / np.linalg.norm(strain))
    return found


def expected_covariance(element: str, strain: float) -> FloatArray:
    """Of the features of an element, by differences between strained copies."""
    calculator = SymmetryCalculator(PARAMETERS)
    found, n_atoms = np.zeros((PARAMETERS.n_features, PARAMETERS.n_features)), 0
    for structure in chosen():
        own = np.array(structure.elements) == element
        n_atoms += int(own.sum())
        if structure.stress is None:
            continue
        for direction in symmetric_strains():
            one, other = (calculator(strained(structure, sign * _STEP * direction))[own] for sign in (1, -1))
            change = strain * (one - other) / (2.0 * _STEP)
            found += change.T @ change
    return found / n_atoms


def test_covariances_are_those_of_strained_copies(inputs: Inputs) -> None:
    data = prepared(inputs)
    assert data.train_stress is not None
    assert not data.train_stress.has_stress.all()
    found = strained_covariances(
        data.train_stress, data.train.counts.sum(axis=0), PARAMETERS.n_features, 0.02
    )
    for element, own in zip(ELEMENTS, found, strict=True):
        expected = expected_covariance(element, 0.02)
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_fit_to_stresses_whitens_with_them_and_another_one_without(inputs: Inputs) -> None:
    features = np.concatenate(list(inputs.features))
    names = [s.name for s in chosen()]
    in_training = np.repeat(np.isin(inputs.store.names, names), inputs.store.n_atoms)
    elements = np.array([e for s in structures_with_stress() for e in s.elements])
    with_stress = prepared(inputs, stress_whitening_strain=0.04)
    plain = prepared(inputs, stress=False, stress_whitening_strain=0.04)
    off = prepared(inputs, stress_whitening_strain=0.0)
    for k, element in enumerate(ELEMENTS):
        atoms = features[in_training & (elements == element)]
        sizes = natural_sizes(PARAMETERS, element, near(PARAMETERS.elements, plain.repulsion.closest))
        floor = floor_of(len(atoms), sum(element in s.elements for s in chosen()))
        expected = Whitening.fit(atoms, floor, sizes)
        for found in (plain, off):
            np.testing.assert_array_equal(found.whitenings[k].matrix, expected.matrix)
        more = Whitening.fit(atoms, floor, sizes, expected_covariance(element, 0.04))
        own = with_stress.whitenings[k]
        # signs of principal components are free
        np.testing.assert_allclose(own.matrix @ own.matrix.T, more.matrix @ more.matrix.T, rtol=1e-3)
        assert not np.allclose(own.matrix @ own.matrix.T, expected.matrix @ expected.matrix.T, rtol=0.1)
        np.testing.assert_array_equal(own.metric, expected.metric)
