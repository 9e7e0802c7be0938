"""One large structure: the same bits whatever the number of threads, and those of its cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tio2nn.descriptors.neighbors import CENTERS_PER_TASK
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.descriptors.verlet import VerletList
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure

PARAMETERS = ParameterSet(
    elements=("Ti", "O"),
    cutoff=4.5,
    radial=(RadialFunction(0.05), RadialFunction(0.8, 1.0)),
    angular=tuple(
        AngularFunction(eta, lambda_, zeta)
        for eta in (0.001, 0.09)
        for lambda_ in (-1, 1)
        for zeta in (1.0, 4.0)
    ),
)
REPEATS = (5, 5, 4)


def cell() -> Structure:
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = 2.3 * grid + rng.uniform(-0.3, 0.3, grid.shape)
    return Structure("cell", ("Ti", "O", "O", "Ti", "O", "O", "O", "Ti"), positions, 4.6 * np.eye(3))


def repeated(structure: Structure) -> Structure:
    offsets = np.stack(np.meshgrid(*map(np.arange, REPEATS), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (structure.positions[None] + (offsets @ structure.cell)[:, None]).reshape(-1, 3)
    n = len(offsets)
    return Structure("large", structure.elements * n, positions, np.array(REPEATS)[:, None] * structure.cell)


def test_features_and_gradients_have_the_same_bits_for_any_number_of_threads() -> None:
    large, calculator = repeated(cell()), SymmetryCalculator(PARAMETERS)
    assert large.n_atoms > 3 * CENTERS_PER_TASK
    weights = np.random.default_rng(1).normal(size=(2, large.n_atoms, PARAMETERS.n_features))
    found = []
    later = replace(large, positions=large.positions + 0.1 * np.sin(large.positions[:, ::-1]))
    for threads in (1, 2, 3, 7):
        described = calculator.describe([large], threads, reach=2.5)
        features, close = calculator.with_close_pairs([large], 2.5, threads)
        np.testing.assert_array_equal(features, described.features)
        for one, other in zip(close, described.close, strict=True):
            np.testing.assert_array_equal(one, other)
        verlet = VerletList()
        steps = [calculator.describe([structure], threads, verlet) for structure in (large, later)]
        assert verlet.n_searches == 1
        of_steps = [array for step in steps for array in (step.features, *step.gradients(weights))]
        found.append((described.features, *described.gradients(weights), *close, *of_steps))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_large_structure_has_the_features_and_gradients_of_its_cell() -> None:
    small, calculator = cell(), SymmetryCalculator(PARAMETERS)
    large, n = repeated(small), int(np.prod(REPEATS))
    of_small, of_large = calculator.describe([small]), calculator.describe([large], 2)
    np.testing.assert_allclose(of_large.features, np.tile(of_small.features, (n, 1)), rtol=1e-11, atol=1e-12)
    weights = np.random.default_rng(2).normal(size=of_small.features.shape)
    gradient, strain = of_small.gradient(weights)
    of_all, strain_of_all = of_large.gradient(np.tile(weights, (n, 1)))
    np.testing.assert_allclose(of_all, np.tile(gradient, (n, 1)), rtol=0, atol=1e-10)
    np.testing.assert_allclose(strain_of_all, n * strain, rtol=0, atol=1e-8)


@pytest.mark.parametrize("zeta", [16.0, 17.0, 2.5])
def test_gradients_are_those_of_jacobians_for_powers_that_are_polynomials_and_for_others(zeta: float) -> None:
    angular = tuple(AngularFunction(eta, lambda_, zeta) for eta in (0.0, 3.0) for lambda_ in (-1, 1))
    parameters = ParameterSet(elements=("Ti", "O"), cutoff=4.5, radial=(), angular=angular)
    structure, calculator = cell(), SymmetryCalculator(parameters)
    weights = np.random.default_rng(3).normal(size=(structure.n_atoms, parameters.n_features))
    gradient, _ = calculator.describe([structure]).gradient(weights)
    expected = np.einsum("af,afbx->bx", weights, calculator.jacobian(structure))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10)
