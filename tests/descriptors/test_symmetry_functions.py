from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import reference
from calculators import angular_calculator, check_against_equations
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    MIXED,
    PERIODICITIES,
    RESOLUTIONS,
    examples,
    oxygen_molecule,
    parameter_sets,
    random_structure,
    structures,
)

from tio2nn.descriptors.neighbors import CENTERS_PER_BLOCK
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator, compile_kernels
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

FREE = (False, False, False)


@cache
def _mixed() -> SymmetryCalculator:
    return SymmetryCalculator(MIXED)


# --- against the printed equations ---------------------------------------------------------------------


@examples(150)
@given(structures(), parameter_sets())
def test_any_functions_of_any_structure_are_those_of_the_printed_equations(
    structure: Structure, parameters: ParameterSet
) -> None:
    check_against_equations(structure, parameters)


@examples(25)
@given(
    structures(elements=("Cs", "Pb", "Br")),
    parameter_sets(elements=("Br", "Cs", "Pb")),
)
def test_three_elements_have_six_pairs(structure: Structure, parameters: ParameterSet) -> None:
    check_against_equations(structure, parameters)


@pytest.mark.parametrize("periodic", PERIODICITIES)
@pytest.mark.parametrize("seed", range(3))
def test_every_periodicity_agrees_with_the_printed_equations(
    periodic: tuple[bool, bool, bool], seed: int
) -> None:
    structure = random_structure(np.random.default_rng(seed), n_atoms=4, periodic=periodic)
    check_against_equations(structure, MIXED)


@pytest.mark.parametrize("name", ["skew_crystal", "thin_crystal", "slab", "molecule"])
@pytest.mark.parametrize(("radial_elements", "angular_elements"), RESOLUTIONS)
def test_typical_structures_agree_with_the_printed_equations(
    name: str, radial_elements: str, angular_elements: str, request: pytest.FixtureRequest
) -> None:
    parameters = MIXED.with_overrides(
        cutoff=4.5, radial_elements=radial_elements, angular_elements=angular_elements
    )
    check_against_equations(request.getfixturevalue(name), parameters)


def test_a_left_handed_cell_is_as_good_as_a_right_handed_one(skew_crystal: Structure) -> None:
    left = replace(skew_crystal, cell=skew_crystal.cell[[1, 0, 2]])
    assert np.linalg.det(left.cell) < 0 < np.linalg.det(skew_crystal.cell)
    calculator = _mixed()
    np.testing.assert_allclose(calculator(left), calculator(skew_crystal), atol=1e-12)


@pytest.mark.parametrize("zeta", [0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 6.25, 16.0, 31.0, 32.0, 2000.0, 2000.5])
@pytest.mark.parametrize("lambda_", [-1, 1])
def test_a_function_alone_agrees_for_every_exponent(zeta: float, lambda_: int) -> None:
    molecule = oxygen_molecule((0, 0, 0), (1.1, 0, 0), (-0.2, 1.2, 0.1), (0.9, 0.9, 0.8))
    function = AngularFunction(0.05, lambda_, zeta)
    values = angular_calculator(function)(molecule)[0, 0]
    around = reference.neighbors(molecule, 0, 4.5)
    expected = 0.0
    for j, k in ((0, 1), (0, 2), (1, 2)):
        a, b = around[j], around[k]
        c = float(np.linalg.norm(a.vector - b.vector))
        half = 0.5 * (1.0 + lambda_ * float(a.vector @ b.vector) / (a.distance * b.distance))
        decay = math.exp(-0.05 * (a.distance**2 + b.distance**2 + c**2))
        cutoffs = math.prod(reference.cutoff_function(r, 4.5) for r in (a.distance, b.distance, c))
        expected += 2.0 * half**zeta * decay * cutoffs
    assert values == pytest.approx(expected, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("n_etas", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("n_powers", [1, 2, 3, 5])
def test_any_number_of_etas_and_powers_fills_the_tiles_of_the_matrix_product(
    n_etas: int, n_powers: int, skew_crystal: Structure
) -> None:
    etas = (0.0, 0.01, 0.3, 2.5, 0.09, 20.0, 0.7)[:n_etas]
    powers = ((1, 1.0), (1, 4.0), (-1, 2.0), (-1, 2.5), (1, 32.0))[:n_powers]
    # every second cell of the grid, and the first, so that no row and no column of it is whole
    functions = tuple(
        AngularFunction(eta, *power)
        for n, (eta, power) in enumerate(product(etas, powers))
        if n % 2 == 0 or n_powers == 1
    )
    check_against_equations(
        skew_crystal, ParameterSet(elements=("O", "Ti"), cutoff=3.3, radial=(), angular=functions)
    )


def test_narrow_and_far_radial_functions_agree_with_the_printed_equations(thin_crystal: Structure) -> None:
    functions = tuple(RadialFunction(eta, r_s) for eta in (0.0, 0.4, 20.0) for r_s in (0.0, 1.8, 4.4, 6.0))
    check_against_equations(
        thin_crystal, ParameterSet(elements=("Ti", "O"), cutoff=4.5, radial=functions, angular=())
    )


def test_an_atom_can_be_its_own_neighbor() -> None:
    crystal = Structure("simple cubic", ("O",), np.array([[0.3, 0.2, 0.1]]), 2.0 * np.eye(3))
    check_against_equations(
        crystal, ParameterSet(elements=("O",), cutoff=4.3, radial=MIXED.radial, angular=MIXED.angular)
    )
    features = SymmetryCalculator(MIXED.with_overrides(cutoff=2.1))(crystal)
    f_c = reference.cutoff_function(2.0, 2.1)
    assert features[0, 1] == pytest.approx(6.0 * math.exp(-0.1 * 4.0) * f_c, rel=1e-12)


def test_an_atom_without_neighbors_has_only_zeros() -> None:
    assert (_mixed()(oxygen_molecule((1.0, 2.0, 3.0))) == 0.0).all()
    assert (_mixed()(oxygen_molecule((0, 0, 0), (3.6, 0, 0), (0, 9.0, 0))) == 0.0).all()


def test_columns_belong_to_neighbor_elements_in_the_order_of_the_parameter_set() -> None:
    # Ti sees one O at 2 Å and one Ti at 1.5 Å
    line = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-1.5, 0.0, 0.0]])
    structure = Structure("line", ("Ti", "O", "Ti"), line, np.zeros((3, 3)), FREE)
    parameters = ParameterSet(
        elements=("O", "Ti"),
        cutoff=3.0,
        radial=(RadialFunction(0.0),),
        angular=(AngularFunction(0.0, -1, 1.0),),
    )
    row = dict(zip(parameters.feature_names, SymmetryCalculator(parameters)(structure)[0], strict=True))
    assert row["radial[O] eta=0 r_s=0"] == pytest.approx(reference.cutoff_function(2.0, 3.0))
    assert row["radial[Ti] eta=0 r_s=0"] == pytest.approx(reference.cutoff_function(1.5, 3.0))
    # the third side, 3.5 Å, is longer than the cutoff
    assert not any(value for name, value in row.items() if name.startswith("angular"))
    wide = SymmetryCalculator(parameters.with_overrides(cutoff=4.0))(structure)[0]
    row = dict(zip(parameters.feature_names, wide, strict=True))
    assert [name for name, value in row.items() if value and name.startswith("angular")] == [
        "angular[O-Ti] eta=0 lambda=-1 zeta=1"
    ]


def test_blindness_to_elements_sums_the_columns_of_all_elements(skew_crystal: Structure) -> None:
    parameters = MIXED.with_overrides(radial_elements="blind", angular_elements="blind")
    blind = SymmetryCalculator(parameters)(skew_crystal)
    seeing = _mixed()(skew_crystal)
    radial = seeing[:, :4].reshape(-1, 2, 2).sum(axis=2)
    angular = seeing[:, 4:].reshape(-1, 3, 3).sum(axis=2)
    np.testing.assert_allclose(blind, np.concatenate([radial, angular], axis=1), atol=1e-12)


def test_weights_are_the_atomic_numbers_of_the_neighbors(skew_crystal: Structure) -> None:
    parameters = MIXED.with_overrides(radial_elements="weighted", angular_elements="weighted")
    weighted = SymmetryCalculator(parameters)(skew_crystal)
    seeing = _mixed()(skew_crystal)
    radial = seeing[:, :4].reshape(-1, 2, 2) @ [22, 8]
    angular = seeing[:, 4:].reshape(-1, 3, 3) @ [22 * 22, 22 * 8, 8 * 8]
    np.testing.assert_allclose(weighted, np.concatenate([radial, angular], axis=1), rtol=1e-13)


def test_with_one_element_weights_are_one_factor(molecule: Structure) -> None:
    oxygen = replace(molecule, elements=("O",) * molecule.n_atoms)
    blind = MIXED.with_overrides(elements=["O"], radial_elements="blind", angular_elements="blind")
    weighted = blind.with_overrides(radial_elements="weighted", angular_elements="weighted")
    factors = np.repeat([8.0, 64.0], [len(MIXED.radial), len(MIXED.angular)])
    expected = factors * SymmetryCalculator(blind)(oxygen)
    np.testing.assert_allclose(SymmetryCalculator(weighted)(oxygen), expected, rtol=1e-13)


def test_weighted_sums_do_not_depend_on_the_order_of_the_elements(skew_crystal: Structure) -> None:
    parameters = MIXED.with_overrides(radial_elements="weighted", angular_elements="weighted")
    backwards = parameters.with_overrides(elements=["O", "H", "Ti"])
    expected = SymmetryCalculator(parameters)(skew_crystal)
    np.testing.assert_allclose(SymmetryCalculator(backwards)(skew_crystal), expected, rtol=1e-13)


def test_functions_told_apart_keep_their_bits_beside_weighted_ones(skew_crystal: Structure) -> None:
    mixed = SymmetryCalculator(MIXED.with_overrides(angular_elements="weighted"))(skew_crystal)
    np.testing.assert_array_equal(mixed[:, :4], _mixed()(skew_crystal)[:, :4])


@pytest.mark.parametrize(
    ("radial_elements", "angular_elements", "n_columns"),
    [
        ("each", "pairs", 88 + 1188),
        ("each", "weighted", 88 + 18),
        ("weighted", "weighted", 8 + 18),
    ],
)
def test_weighted_columns_do_not_grow_with_the_elements(
    radial_elements: str, angular_elements: str, n_columns: int
) -> None:
    elements = ("Ti", "O", "H", "C", "N", "Fe", "Co", "Ni", "Cu", "Zn", "Au")
    parameters = preset("artrith-urban-2016", elements).with_overrides(
        radial_elements=radial_elements, angular_elements=angular_elements
    )
    assert parameters.n_features == n_columns


# --- many structures -----------------------------------------------------------------------------------


@examples(30)
@given(st.lists(structures(), min_size=1, max_size=12), st.sampled_from(("pairs", "weighted")), st.data())
def test_results_do_not_depend_on_the_company_or_its_order(
    many: list[Structure], angular_elements: str, data: st.DataObject
) -> None:
    calculator = SymmetryCalculator(MIXED.with_overrides(angular_elements=angular_elements))
    alone = [calculator(structure) for structure in many]
    order = data.draw(st.permutations(range(len(many))))
    together = list(calculator.map([many[k] for k in order]))
    assert len(together) == len(many)
    for k, features in zip(order, together, strict=True):
        np.testing.assert_array_equal(features, alone[k], strict=True)


def test_a_structure_larger_than_a_block_keeps_its_bits_in_company(skew_crystal: Structure) -> None:
    images = np.array(list(product(range(6), repeat=3)))
    large = replace(
        skew_crystal,
        elements=skew_crystal.elements * len(images),
        positions=(skew_crystal.positions + (images @ skew_crystal.cell)[:, None]).reshape(-1, 3),
        cell=6 * skew_crystal.cell,
    )
    assert large.n_atoms > CENTERS_PER_BLOCK
    calculator = _mixed()
    small, alone = calculator(skew_crystal), calculator(large)
    for got, expected in zip(
        calculator.map([skew_crystal, large, skew_crystal]), [small, alone, small], strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(alone, np.tile(small, (len(images), 1)), rtol=1e-11, atol=1e-11)


def test_more_structures_than_fit_a_block_come_in_their_order() -> None:
    rng = np.random.default_rng(0)
    many = [random_structure(rng, n_atoms=n % 5 + 1) for n in range(40)] * 12
    assert sum(structure.n_atoms for structure in many) > CENTERS_PER_BLOCK
    calculator = _mixed()
    for features, structure in zip(calculator.map(many), many, strict=True):
        np.testing.assert_array_equal(features, calculator(structure))


def test_no_structures_give_no_features() -> None:
    assert list(_mixed().map([])) == []


def test_a_spawned_process_computes_the_same_bits(skew_crystal: Structure, thin_crystal: Structure) -> None:
    compile_kernels()
    calculator = SymmetryCalculator(preset("artrith-urban-2016"))
    many = [skew_crystal, thin_crystal]
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for structure, features in zip(many, pool.map(calculator, many), strict=True):
            np.testing.assert_array_equal(features, calculator(structure))


# --- errors --------------------------------------------------------------------------------------------


def test_an_unknown_element_is_an_error_with_file_and_line(molecule: Structure) -> None:
    strange = replace(molecule, elements=("Ti", "O", "N", "O"), line=7)
    with pytest.raises(InputError, match=r"^molecule\.xsf:7: expected the elements Ti, O, got N$"):
        _mixed()(strange)


def test_a_structure_without_a_file_is_called_by_its_name(molecule: Structure) -> None:
    with pytest.raises(InputError, match=r"^molecule: expected the elements Ti, O, got N$"):
        _mixed()(replace(molecule, elements=("N",) * 4, file=""))


def test_an_error_comes_when_its_structure_has_its_turn(molecule: Structure, slab: Structure) -> None:
    overlapping = replace(slab, positions=np.zeros((3, 3)), file="bad.xsf")
    results = _mixed().map([molecule, slab, overlapping, molecule])
    for structure in (molecule, slab):
        np.testing.assert_array_equal(next(results), _mixed()(structure))
    with pytest.raises(InputError, match=r"^bad\.xsf: "):
        next(results)
