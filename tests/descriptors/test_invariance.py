from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
from calculators import angular_calculator
from hypothesis import given
from hypothesis import strategies as st
from strategies import MIXED, oxygen_molecule, structures

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure


@cache
def _mixed() -> SymmetryCalculator:
    return SymmetryCalculator(MIXED)


@given(structures(), st.tuples(*[st.floats(-30.0, 30.0)] * 3))
def test_translation_changes_nothing(structure: Structure, shift: tuple[float, float, float]) -> None:
    calculator = _mixed()
    moved = replace(structure, positions=structure.positions + np.array(shift))
    np.testing.assert_allclose(calculator(moved), calculator(structure), rtol=1e-11, atol=1e-11)


@given(structures(), st.integers(0, 2**32 - 1), st.sampled_from((1.0, -1.0)))
def test_proper_and_improper_rotations_change_nothing(
    structure: Structure, seed: int, determinant: float
) -> None:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    rotation *= determinant * np.linalg.det(rotation)
    assert np.linalg.det(rotation) == pytest.approx(determinant)
    rotated = replace(structure, positions=structure.positions @ rotation, cell=structure.cell @ rotation)
    calculator = _mixed()
    np.testing.assert_allclose(calculator(rotated), calculator(structure), rtol=1e-11, atol=1e-11)


@given(structures(), st.data())
def test_reordering_the_atoms_reorders_the_rows(structure: Structure, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(structure.n_atoms)))
    reordered = replace(
        structure,
        elements=tuple(structure.elements[k] for k in order),
        positions=structure.positions[order],
    )
    calculator = _mixed()
    np.testing.assert_allclose(calculator(reordered), calculator(structure)[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_exchanging_like_neighbors_changes_nothing(molecule: Structure, order: tuple[int, ...]) -> None:
    exchanged = replace(molecule, positions=molecule.positions[[0, *order]])
    calculator = _mixed()
    np.testing.assert_allclose(calculator(exchanged)[0], calculator(molecule)[0], rtol=1e-13)


@given(structures(), st.data())
def test_atoms_may_lie_in_any_cell(structure: Structure, data: st.DataObject) -> None:
    steps = [
        [data.draw(st.integers(-4, 4)) if periodic else 0 for periodic in structure.periodic]
        for _ in structure.elements
    ]
    moved = replace(structure, positions=structure.positions + np.array(steps) @ structure.cell)
    calculator = _mixed()
    np.testing.assert_allclose(calculator(moved), calculator(structure), rtol=1e-11, atol=1e-11)


@given(structures(), st.tuples(*[st.integers(1, 3)] * 3))
def test_a_supercell_repeats_the_rows(structure: Structure, multiples: tuple[int, int, int]) -> None:
    n = np.where(structure.periodic, multiples, 1)
    images = np.array(list(product(*map(range, n))))
    supercell = replace(
        structure,
        elements=structure.elements * len(images),
        positions=(structure.positions + (images @ structure.cell)[:, None]).reshape(-1, 3),
        cell=structure.cell * n[:, None],
    )
    calculator = _mixed()
    expected = np.tile(calculator(structure), (len(images), 1))
    np.testing.assert_allclose(calculator(supercell), expected, rtol=1e-11, atol=1e-11)


@given(structures(periodicities=((True, True, True),)), st.integers(-3, 3), st.permutations((0, 1, 2)))
def test_another_choice_of_cell_vectors_changes_nothing(
    structure: Structure, multiple: int, axes: list[int]
) -> None:
    cell = structure.cell.copy()
    cell[axes[0]] += multiple * cell[axes[1]]
    calculator = _mixed()
    other = calculator(replace(structure, cell=cell))
    np.testing.assert_allclose(other, calculator(structure), rtol=1e-11, atol=1e-11)


def test_cell_vectors_far_longer_than_need_be_change_nothing(skew_crystal: Structure) -> None:
    # 0.03 Å between opposite faces: without a reduction of the cell, images by the million are in reach
    shear = np.array([[1.0, 12.0, 3.0], [0.0, 1.0, 10.0], [0.0, 0.0, 1.0]])
    shear @= np.array([[1.0, 0.0, 0.0], [3.0, 1.0, 0.0], [2.0, 4.0, 1.0]])
    sheared = replace(skew_crystal, cell=shear @ skew_crystal.cell)
    calculator = _mixed()
    np.testing.assert_allclose(calculator(sheared), calculator(skew_crystal), rtol=1e-8, atol=1e-8)


@given(st.floats(1e-7, 1e-3), st.sampled_from((0.0, 0.05, 3.0)))
def test_value_and_slope_vanish_as_a_neighbor_leaves(step: float, eta: float) -> None:
    cutoff = 3.5
    parameters = ParameterSet(
        elements=("O",),
        cutoff=cutoff,
        radial=(RadialFunction(eta), RadialFunction(eta, 2.0)),
        angular=(AngularFunction(eta, 1, 1.0), AngularFunction(eta, -1, 4.0)),
    )
    calculator = SymmetryCalculator(parameters)
    # the second neighbor stays; both sides of the triangle that leave do so at once
    inside = [
        calculator(oxygen_molecule((0, 0, 0), (cutoff - distance, 0, 0), (0.5, 0.9, 0)))[0]
        for distance in (2 * step, step)
    ]
    without = calculator(oxygen_molecule((0, 0, 0), (cutoff + step, 0, 0), (0.5, 0.9, 0)))[0]
    # f_c = (π²/4) (δ/R_c)² + ... at a distance δ from the cutoff
    bound = 2.5 * (step / cutoff) ** 2
    assert (np.abs(inside[1] - without) <= bound).all()
    assert (np.abs(inside[0] - inside[1]) / step <= 4.0 * bound / step).all()
    assert (without[2:] == 0.0).all()


@given(st.floats(1e-7, 1e-3))
def test_value_and_slope_vanish_as_the_third_side_of_a_triangle_leaves(step: float) -> None:
    cutoff = 3.5
    calculator = angular_calculator(AngularFunction(0.02, -1, 1.0), cutoff=cutoff)

    def value(third_side: float) -> float:
        half = 0.5 * third_side
        height = math.sqrt(2.0**2 - half**2)
        return float(calculator(oxygen_molecule((0, 0, 0), (half, height, 0), (-half, height, 0)))[0, 0])

    assert value(cutoff + step) == 0.0
    assert 0.0 < value(cutoff - step) <= 2.5 * 2.0 * (step / cutoff) ** 2
    assert (value(cutoff - 2 * step) - value(cutoff - step)) / step <= 20.0 * step / cutoff**2


def test_a_neighbor_at_exactly_the_cutoff_counts_as_none() -> None:
    # but for the square of what rounding makes of 1 - R²/R_c²
    features = _mixed()(oxygen_molecule((0, 0, 0), (3.5, 0, 0), (0.0, 3.5, 0)))
    assert np.abs(features[0]).max() < 1e-30
