from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from calculators import angular_calculator
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import (
    MIXED,
    PERIODICITIES,
    RESOLUTIONS,
    examples,
    is_clear_of_cutoff,
    oxygen_molecule,
    parameter_sets,
    random_structure,
    slope,
    structures,
)

from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

STEP = 2e-4  # Å; error of the fourth order, so 1e-15 of the fifth derivative
SEEDS = st.integers(0, 2**32 - 1)


@cache
def _mixed() -> SymmetryCalculator:
    return SymmetryCalculator(MIXED)


def _moved(structure: Structure, atom: int, axis: int, distance: float) -> Structure:
    positions = structure.positions.copy()
    positions[atom, axis] += distance
    return replace(structure, positions=positions)


def _strained(structure: Structure, axis: int, along: int, amount: float) -> Structure:
    deformation = np.eye(3)
    deformation[axis, along] += amount
    return replace(structure, positions=structure.positions @ deformation, cell=structure.cell @ deformation)


def _weights(shape: tuple[int, ...], seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape)


def _check_against_differences(structure: Structure, calculator: SymmetryCalculator) -> None:
    """Each derivative agrees to 1e-6 of the largest of its function, or of 1e-3/Å where that is smaller."""
    assert is_clear_of_cutoff(structure, calculator.cutoff, 10 * STEP)
    jacobian = calculator.jacobian(structure)
    n = structure.n_atoms
    assert jacobian.shape == (n, calculator.n_features, n, 3)
    expected = np.empty_like(jacobian)
    for atom, axis in np.ndindex(n, 3):
        expected[:, :, atom, axis] = slope(
            lambda d, a=atom, x=axis: calculator(_moved(structure, a, x, d)), STEP
        )
    largest = np.maximum(np.abs(expected).max(axis=(0, 2, 3)), 1e-3)
    error = np.abs(jacobian - expected).max(axis=(0, 2, 3))
    np.testing.assert_array_less(error / largest, 1e-6)


# --- against differences of the values -----------------------------------------------------------------


@examples(60)
@given(structures(), parameter_sets())
def test_any_derivatives_of_any_structure_are_differences_of_the_values(
    structure: Structure, parameters: ParameterSet
) -> None:
    assume(is_clear_of_cutoff(structure, parameters.cutoff, 10 * STEP))
    _check_against_differences(structure, SymmetryCalculator(parameters))


@pytest.mark.parametrize("periodic", PERIODICITIES)
def test_every_periodicity_agrees_with_differences(periodic: tuple[bool, bool, bool]) -> None:
    structure = random_structure(np.random.default_rng(4), periodic=periodic)
    _check_against_differences(structure, _mixed())


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
@pytest.mark.parametrize(("radial_elements", "angular_elements"), RESOLUTIONS)
def test_typical_structures_agree_with_differences(
    name: str, radial_elements: str, angular_elements: str, request: pytest.FixtureRequest
) -> None:
    # in the thin crystal an atom is its own neighbor, ten times
    parameters = MIXED.with_overrides(
        cutoff=4.62, radial_elements=radial_elements, angular_elements=angular_elements
    )
    _check_against_differences(request.getfixturevalue(name), SymmetryCalculator(parameters))


@pytest.mark.parametrize("lambda_", [-1, 1])
@pytest.mark.parametrize("zeta", [0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.25, 16.0, 64.0])
@pytest.mark.parametrize("eta", [0.0, 0.05, 2.0, 20.0])
def test_an_angular_function_alone_agrees_with_differences(lambda_: int, zeta: float, eta: float) -> None:
    molecule = oxygen_molecule((0, 0, 0), (1.1, 0, 0), (-0.2, 1.2, 0.1), (0.9, 0.9, 0.8), (3.0, 1.0, -0.4))
    _check_against_differences(molecule, angular_calculator(AngularFunction(eta, lambda_, zeta)))


@pytest.mark.parametrize("r_s", [0.0, 1.4, 6.0])
@pytest.mark.parametrize("eta", [0.0, 0.3, 40.0])
def test_a_radial_function_alone_agrees_with_differences(eta: float, r_s: float, molecule: Structure) -> None:
    radial = (RadialFunction(eta, r_s),)
    parameters = ParameterSet(elements=("Ti", "O"), cutoff=4.5, radial=radial, angular=())
    _check_against_differences(molecule, SymmetryCalculator(parameters))


def test_more_powers_than_are_summed_at_a_time_agree_with_differences(skew_crystal: Structure) -> None:
    # and more attenuations
    angular = tuple(
        AngularFunction(0.01 * e, lambda_, zeta)
        for e in range(4)
        for lambda_ in (1, -1)
        for zeta in (1.0, 2.0, 3.5, 8.0)
    )
    parameters = ParameterSet(elements=("Ti", "O"), cutoff=4.6, radial=(), angular=angular)
    _check_against_differences(skew_crystal, SymmetryCalculator(parameters))


def test_three_elements_agree_with_differences() -> None:
    structure = random_structure(np.random.default_rng(3), elements=("Cs", "Pb", "Br"), n_atoms=5)
    assert set(structure.elements) == {"Cs", "Pb", "Br"}
    parameters = replace(MIXED, elements=("Br", "Cs", "Pb"))
    _check_against_differences(structure, SymmetryCalculator(parameters))


def test_a_preset_agrees_with_differences(skew_crystal: Structure) -> None:
    _check_against_differences(skew_crystal, SymmetryCalculator(preset("artrith-urban-2016")))


@examples(40)
@given(structures(), SEEDS)
def test_the_strain_derivative_is_a_difference_under_strain(structure: Structure, seed: int) -> None:
    assume(is_clear_of_cutoff(structure, MIXED.cutoff, 10 * STEP))
    calculator = _mixed()
    description = calculator.describe([structure])
    weights = _weights(description.features.shape, seed)
    strain = description.gradient(weights)[1][0]
    np.testing.assert_array_equal(strain, strain.T)
    for axis, along in np.ndindex(3, 3):
        expected = slope(
            lambda d, a=axis, x=along: np.sum(weights * calculator(_strained(structure, a, x, d))), STEP
        )
        np.testing.assert_allclose(strain[axis, along], expected, rtol=1e-6, atol=1e-6)


# --- what holds for every structure --------------------------------------------------------------------


@given(structures(), parameter_sets(), SEEDS)
def test_the_gradient_is_the_product_with_the_jacobian(
    structure: Structure, parameters: ParameterSet, seed: int
) -> None:
    calculator = SymmetryCalculator(parameters)
    description = calculator.describe([structure])
    weights = _weights(description.features.shape, seed)
    jacobian = calculator.jacobian(structure)
    size = np.einsum("if,ifax->ax", np.abs(weights), np.abs(jacobian)).max(initial=1e-3)
    expected = np.einsum("if,ifax->ax", weights, jacobian)
    gradient, _ = description.gradient(weights)
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-11 * size)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-11 * size)


def test_the_gradient_of_narrow_functions_is_the_product_with_the_jacobian() -> None:
    """Where few triplets are left, errors of the attenuation are not small beside the rest."""
    narrow = preset("artrith-urban-2016").with_overrides(
        cutoff=3.2, radial=[], angular=[{"eta": 1.0, "lambda": -1, "zeta": 1.0}]
    )
    calculator, random = SymmetryCalculator(narrow), np.random.default_rng(0)
    for _ in range(60):
        positions, cell = random.normal(0.0, 3.0, (2, 3)), random.normal(0.0, 2.5, (3, 3))
        if abs(np.linalg.det(cell)) < 5.0 * np.linalg.norm(cell, axis=1).max():
            continue
        structure = Structure("narrow", ("Ti", "O"), positions, cell)
        description = calculator.describe([structure])
        weights = random.normal(size=description.features.shape)
        jacobian = calculator.jacobian(structure)
        size = np.einsum("if,ifax->ax", np.abs(weights), np.abs(jacobian)).max(initial=1e-3)
        expected = np.einsum("if,ifax->ax", weights, jacobian)
        np.testing.assert_allclose(description.gradient(weights)[0], expected, rtol=0.0, atol=1e-11 * size)


@given(structures(), parameter_sets())
def test_derivatives_by_all_atoms_add_up_to_nothing(structure: Structure, parameters: ParameterSet) -> None:
    jacobian = SymmetryCalculator(parameters).jacobian(structure)
    size = max(float(np.abs(jacobian).max()), 1e-3)
    np.testing.assert_allclose(jacobian.sum(axis=2), 0.0, atol=1e-14 * structure.n_atoms * size)


@given(structures(), SEEDS, st.sampled_from((1.0, -1.0)))
def test_a_rotated_structure_has_the_rotated_jacobian(
    structure: Structure, seed: int, determinant: float
) -> None:
    rotation = np.linalg.qr(_weights((3, 3), seed))[0]
    rotation *= determinant * np.linalg.det(rotation)
    rotated = replace(structure, positions=structure.positions @ rotation, cell=structure.cell @ rotation)
    expected = _mixed().jacobian(structure) @ rotation
    np.testing.assert_allclose(_mixed().jacobian(rotated), expected, rtol=0.0, atol=1e-10)


@given(structures())
def test_single_precision_is_double_precision_rounded(structure: Structure) -> None:
    single = _mixed().jacobian(structure, np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, _mixed().jacobian(structure).astype(np.float32))


def test_several_sets_of_weights_at_once_give_what_each_gives_alone(skew_crystal: Structure) -> None:
    described = _mixed().describe([skew_crystal, skew_crystal])
    weights = _weights((3, *described.features.shape), 4)
    gradients, strains = described.gradients(weights)
    for k in range(3):
        gradient, strain = described.gradient(weights[k])
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(strains[k], strain, rtol=1e-13, atol=1e-13)


@examples(40)
@given(st.lists(structures(), min_size=2, max_size=4), SEEDS)
def test_a_batch_gives_what_each_structure_gives_alone_to_the_last_bit(
    batch: list[Structure], seed: int
) -> None:
    together = _mixed().describe(batch)
    weights = _weights(together.features.shape, seed)
    gradient, strain = together.gradient(weights)
    first = 0
    for k, structure in enumerate(batch):
        rows = slice(first, first + structure.n_atoms)
        alone = _mixed().describe([structure])
        np.testing.assert_array_equal(together.features[rows], alone.features)
        own_gradient, own_strain = alone.gradient(weights[rows])
        np.testing.assert_array_equal(gradient[rows], own_gradient)
        np.testing.assert_array_equal(strain[k], own_strain[0])
        first += structure.n_atoms


@given(structures())
def test_blind_to_elements_all_atoms_are_alike(structure: Structure) -> None:
    calculator = SymmetryCalculator(MIXED.with_overrides(radial_elements="blind", angular_elements="blind"))
    alike = replace(structure, elements=("O",) * structure.n_atoms)
    expected = calculator.jacobian(alike)
    np.testing.assert_allclose(calculator.jacobian(structure), expected, rtol=0.0, atol=1e-12)


# --- at the edges --------------------------------------------------------------------------------------


def test_neither_values_nor_derivatives_jump_at_the_cutoff() -> None:
    def pair(distance: float) -> Structure:
        return Structure(
            "pair",
            ("Ti", "O", "O"),
            np.array([[0.0, 0.0, 0.0], [1.4, 0.3, 0.0], [0.0, 0.0, distance]]),
            np.zeros((3, 3)),
            (False,) * 3,
        )

    inside, outside = pair(MIXED.cutoff - 1e-9), pair(MIXED.cutoff + 1e-9)
    calculator = _mixed()
    np.testing.assert_allclose(calculator(inside), calculator(outside), rtol=0.0, atol=1e-8)
    np.testing.assert_allclose(calculator.jacobian(inside), calculator.jacobian(outside), rtol=0.0, atol=1e-8)
    gradients = []
    for structure in (inside, outside):
        description = calculator.describe([structure])
        gradients.append(description.gradient(np.ones_like(description.features))[0])
    np.testing.assert_allclose(*gradients, rtol=0.0, atol=1e-8)
    # but a little further in, the second atom is felt
    assert np.abs(calculator.jacobian(pair(MIXED.cutoff - 0.1))[0, :, 2, 2]).max() > 1e-4


@pytest.mark.parametrize("zeta", [0.5, 1.0, 1.5, 2.0, 4.0])
def test_atoms_in_line_have_finite_derivatives_along_the_line_only(zeta: float) -> None:
    # the first atom sees an angle of 0°, the middle one of 180°, exactly
    line = oxygen_molecule((0, 0, 0), (1.25, 0, 0), (2.5, 0, 0))
    calculator = angular_calculator(AngularFunction(0.02, 1, zeta), AngularFunction(0.02, -1, zeta))
    jacobian = calculator.jacobian(line)
    assert np.isfinite(jacobian).all()
    np.testing.assert_array_equal(jacobian[..., 1:], 0.0)
    expected = np.stack(
        [slope(lambda d, a=atom: calculator(_moved(line, a, 0, d)), STEP) for atom in range(3)], axis=-1
    )
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(jacobian[..., 0], expected, rtol=1e-6, atol=1e-8)
    description = calculator.describe([line])
    gradient, strain = description.gradient(np.ones_like(description.features))
    np.testing.assert_allclose(gradient, jacobian.sum(axis=(0, 1)), rtol=1e-12, atol=1e-14)
    assert np.isfinite(strain).all()


def test_an_atom_that_sees_nothing_has_no_derivatives() -> None:
    lonely = Structure("atom", ("O",), np.ones((1, 3)), np.zeros((3, 3)), (False,) * 3)
    np.testing.assert_array_equal(_mixed().jacobian(lonely), np.zeros((1, MIXED.n_features, 1, 3)))
    far = oxygen_molecule((0, 0, 0), (1.0, 0.2, 0), (0, 0, 50.0))
    jacobian = _mixed().jacobian(far)
    assert (jacobian[2] == 0.0).all()
    assert (jacobian[:, :, 2] == 0.0).all()
    assert (jacobian[:2, :, :2] != 0.0).any()


def test_a_crystal_of_one_atom_has_no_derivatives_but_a_strain() -> None:
    # all that it sees moves with it
    cell = np.array([[2.1, 0.0, 0.0], [0.3, 2.2, 0.0], [-0.2, 0.4, 2.4]])
    crystal = Structure("crystal", ("O",), np.zeros((1, 3)), cell)
    np.testing.assert_allclose(_mixed().jacobian(crystal), 0.0, atol=1e-13)
    description = _mixed().describe([crystal])
    gradient, strain = description.gradient(np.ones_like(description.features))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-13)
    assert np.abs(strain).max() > 0.1


def test_a_structure_larger_than_a_block_of_centers_has_one_jacobian() -> None:
    n = CENTERS_PER_BLOCK + 20
    rng = np.random.default_rng(0)
    positions = 1.3 * np.arange(n)[:, None] * np.array([1.0, 0.0, 0.0]) + rng.uniform(-0.3, 0.3, (n, 3))
    chain = Structure("chain", ("O",) * n, positions, np.zeros((3, 3)), (False,) * 3)
    parameters = ParameterSet(
        elements=("O",), cutoff=3.0, radial=(RadialFunction(0.1),), angular=(AngularFunction(0.1, 1, 2.0),)
    )
    calculator = SymmetryCalculator(parameters)
    description = calculator.describe([chain])
    weights = _weights(description.features.shape, 1)
    gradient, _ = description.gradient(weights)
    jacobian = calculator.jacobian(chain, np.float32).astype(np.float64)
    np.testing.assert_allclose(gradient, np.tensordot(weights, jacobian, axes=2), rtol=0.0, atol=1e-5)
    # an atom well inside the first block, and one in the second, as if cut out with all that they see
    for atom in (500, n - 8):
        near = slice(atom - 6, atom + 7)
        part = replace(chain, elements=chain.elements[near], positions=chain.positions[near])
        own = calculator.jacobian(part)[6]
        np.testing.assert_allclose(jacobian[atom, :, near], own, rtol=0.0, atol=1e-6)


def test_the_jacobian_refuses_an_element_that_the_parameters_lack(molecule: Structure) -> None:
    with pytest.raises(InputError, match="expected the elements Ti, O, got Cs"):
        _mixed().jacobian(replace(molecule, elements=("Cs", "O", "O", "O")))
