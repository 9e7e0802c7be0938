"""Derivatives of symmetry functions with respect to strain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import MIXED, examples, is_clear_of_cutoff, parameter_sets, slope, structures

from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

STEP = 2e-4
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
SEEDS = st.integers(0, 2**32 - 1)


def _strained(structure: Structure, component: tuple[int, int], amount: float) -> Structure:
    """x → (1 + ε) x with ε symmetric: half of the amount on each side of the diagonal."""
    strain = np.zeros((3, 3))
    strain[component] += 0.5 * amount
    strain[component[::-1]] += 0.5 * amount
    stretch = np.eye(3) + strain
    return replace(structure, positions=structure.positions @ stretch, cell=structure.cell @ stretch)


@examples(60)
@given(structures(), parameter_sets())
def test_any_derivatives_of_any_structure_are_differences_of_the_values(
    structure: Structure, parameters: ParameterSet
) -> None:
    assume(is_clear_of_cutoff(structure, parameters.cutoff, 10 * STEP * parameters.cutoff))
    calculator = SymmetryCalculator(parameters)
    found = calculator.strain_derivatives(structure)
    assert found.shape == (structure.n_atoms, calculator.n_features, 6)
    expected = np.stack(
        [slope(lambda d, c=component: calculator(_strained(structure, c, d)), STEP) for component in VOIGT],
        axis=-1,
    )
    largest = np.maximum(np.abs(expected).max(axis=(0, 2)), 1e-3)
    np.testing.assert_array_less(np.abs(found - expected).max(axis=(0, 2)) / largest, 2e-6)


@given(structures(), parameter_sets(), SEEDS)
def test_their_product_with_a_gradient_is_the_strain_derivative_of_a_prediction(
    structure: Structure, parameters: ParameterSet, seed: int
) -> None:
    calculator = SymmetryCalculator(parameters)
    description = calculator.describe([structure])
    weights = np.random.default_rng(seed).normal(size=description.features.shape)
    expected = description.gradient(weights)[1][0]
    strains = calculator.strain_derivatives(structure)
    size = np.einsum("if,ifv->v", np.abs(weights), np.abs(strains)).max(initial=1e-3)
    found = np.einsum("if,ifv->v", weights, strains)
    np.testing.assert_allclose(found, [expected[c] for c in VOIGT], rtol=0.0, atol=1e-11 * size)


@given(structures(), SEEDS, st.sampled_from((1.0, -1.0)))
def test_a_rotated_structure_has_the_rotated_derivatives(
    structure: Structure, seed: int, determinant: float
) -> None:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    rotation *= determinant * np.linalg.det(rotation)
    rotated = replace(structure, positions=structure.positions @ rotation, cell=structure.cell @ rotation)
    calculator = SymmetryCalculator(MIXED)
    expected = rotation.T @ _tensors(calculator.strain_derivatives(structure)) @ rotation
    found = _tensors(calculator.strain_derivatives(rotated))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-9)


def _tensors(strains: NDArray[np.floating]) -> FloatArray:
    """(n_atoms, n_features, 3, 3) from the order of Voigt."""
    full = np.empty((*strains.shape[:2], 3, 3))
    for k, (a, b) in enumerate(VOIGT):
        full[..., a, b] = full[..., b, a] = strains[..., k]
    return full


@given(structures())
def test_atoms_in_another_cell_and_order_change_nothing(structure: Structure) -> None:
    calculator = SymmetryCalculator(MIXED)
    expected = calculator.strain_derivatives(structure)
    order = np.arange(structure.n_atoms)[::-1]
    periodic = np.array(structure.periodic)
    moved = replace(
        structure,
        elements=tuple(structure.elements[k] for k in order),
        positions=(structure.positions + (periodic * np.array([2, -1, 1])) @ structure.cell)[order] + 0.3,
    )
    np.testing.assert_allclose(calculator.strain_derivatives(moved)[order], expected, rtol=0.0, atol=1e-9)


def test_a_cell_taken_twice_has_the_derivatives_twice(skew_crystal: Structure) -> None:
    calculator = SymmetryCalculator(MIXED)
    twice = replace(
        skew_crystal,
        elements=skew_crystal.elements * 2,
        positions=np.concatenate([skew_crystal.positions, skew_crystal.positions + skew_crystal.cell[1]]),
        cell=skew_crystal.cell * np.array([[1.0], [2.0], [1.0]]),
    )
    expected = np.tile(calculator.strain_derivatives(skew_crystal), (2, 1, 1))
    np.testing.assert_allclose(calculator.strain_derivatives(twice), expected, rtol=0.0, atol=1e-10)


@given(structures())
def test_single_precision_is_double_precision_rounded(structure: Structure) -> None:
    calculator = SymmetryCalculator(MIXED)
    single = calculator.strain_derivatives(structure, np.float32)
    np.testing.assert_array_equal(single, calculator.strain_derivatives(structure).astype(np.float32))


def test_a_structure_larger_than_a_block_of_centers_is_one() -> None:
    n = CENTERS_PER_BLOCK + 20
    positions = 1.3 * np.arange(n)[:, None] * np.array([1.0, 0.2, 0.0])
    chain = Structure("chain", ("O",) * n, positions, np.zeros((3, 3)), (False,) * 3)
    parameters = ParameterSet(
        elements=("O",), cutoff=3.0, radial=(RadialFunction(0.1),), angular=(AngularFunction(0.1, 1, 2.0),)
    )
    found = SymmetryCalculator(parameters).strain_derivatives(chain)
    assert np.abs(found[5]).max() > 0.1
    np.testing.assert_allclose(found[5:-5], np.broadcast_to(found[5], found[5:-5].shape), atol=1e-9)


def test_an_atom_that_sees_nothing_has_none() -> None:
    lonely = Structure("atom", ("O",), np.ones((1, 3)), np.zeros((3, 3)), (False,) * 3)
    found = SymmetryCalculator(MIXED).strain_derivatives(lonely)
    np.testing.assert_array_equal(found, np.zeros((1, MIXED.n_features, 6)))


def test_an_element_that_the_parameters_lack_is_refused(molecule: Structure) -> None:
    with pytest.raises(InputError, match="expected the elements Ti, O, got Cs"):
        SymmetryCalculator(MIXED).strain_derivatives(replace(molecule, elements=("Cs", "O", "O", "O")))
