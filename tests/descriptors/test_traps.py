from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from calculators import angular_calculator, check_against_equations
from strategies import MIXED, oxygen_molecule

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.structure import Structure


def test_the_angle_is_between_vectors_and_not_the_quotient_of_distances() -> None:
    calculator = angular_calculator(AngularFunction(0.0, 1, 1.0), AngularFunction(0.0, -1, 1.0))
    f_c, diagonal = reference.cutoff_function(1.5, 4.5), reference.cutoff_function(1.5 * math.sqrt(2.0), 4.5)
    right_angle = calculator(oxygen_molecule((0, 0, 0), (1.5, 0, 0), (0, 1.5, 0)))[0]
    np.testing.assert_allclose(right_angle, f_c**2 * diagonal, rtol=1e-12)
    straight = calculator(oxygen_molecule((0, 0, 0), (1.5, 0, 0), (-1.5, 0, 0)))[0]
    far = reference.cutoff_function(3.0, 4.5)
    np.testing.assert_allclose(straight, [0.0, 2.0 * f_c**2 * far], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.03, 1.0])
def test_the_prefactor_is_two_to_the_one_minus_zeta_and_not_minus_eta(eta: float) -> None:
    # at an angle of 0° it turns (1 + cosθ)^ζ = 2^ζ into 2, whatever ζ is
    functions = [AngularFunction(eta, 1, zeta) for zeta in (1.0, 2.0, 2.7, 4.0, 16.0)]
    values = angular_calculator(*functions)(oxygen_molecule((0, 0, 0), (1.0, 0, 0), (2.2, 0, 0)))[0]
    cutoffs = math.prod(reference.cutoff_function(r, 4.5) for r in (1.0, 2.2, 1.2))
    expected = 2.0 * math.exp(-eta * (1.0 + 2.2**2 + 1.2**2)) * cutoffs
    np.testing.assert_allclose(values, expected, rtol=1e-11)


def test_cell_vectors_are_rows() -> None:
    # the nearest images are at the lengths of the rows, 2 Å and 2.5 Å; columns would be 2.5 Å and 2 Å with other angles
    cell = np.array([[2.0, 0.0, 0.0], [1.5, 2.0, 0.0], [0.0, 0.0, 30.0]])
    calculator = SymmetryCalculator(
        ParameterSet(elements=("O",), cutoff=2.6, radial=(RadialFunction(0.0),), angular=())
    )
    features = calculator(Structure("skew", ("O",), np.zeros((1, 3)), cell))
    nearest = (2.0, 2.5, math.hypot(0.5, 2.0))
    assert features[0, 0] == pytest.approx(2.0 * sum(reference.cutoff_function(r, 2.6) for r in nearest))
    check_against_equations(
        Structure("skew", ("O", "O"), np.array([[0.0, 0.0, 0.0], [1.4, 2.3, 0.8]]), cell), MIXED
    )


def test_images_are_counted_as_far_as_the_cutoff_reaches() -> None:
    chain = Structure("chain", ("O",), np.zeros((1, 3)), np.diag([1.0, 0.0, 0.0]), (True, False, False))
    parameters = ParameterSet(elements=("O",), cutoff=6.5, radial=(RadialFunction(0.0),), angular=())
    expected = 2.0 * sum(reference.cutoff_function(n, 6.5) for n in range(1, 7))
    assert SymmetryCalculator(parameters)(chain)[0, 0] == pytest.approx(expected, rel=1e-12)


def test_a_neighbor_makes_no_angle_with_itself() -> None:
    calculator = angular_calculator(AngularFunction(0.0, 1, 1.0), AngularFunction(0.0, -1, 1.0))
    assert (calculator(oxygen_molecule((0, 0, 0), (1.3, 0, 0))) == 0.0).all()
    # two images of one atom make one angle of 180°, not four angles
    chain = Structure("chain", ("O",), np.zeros((1, 3)), np.diag([2.0, 0.0, 0.0]), (True, False, False))
    narrow = angular_calculator(AngularFunction(0.0, 1, 1.0), AngularFunction(0.0, -1, 1.0), cutoff=4.0)
    assert (narrow(chain) == 0.0).all()
    f_c, far = reference.cutoff_function(2.0, 4.2), reference.cutoff_function(4.0, 4.2)
    wide = angular_calculator(AngularFunction(0.0, -1, 1.0), cutoff=4.2)(chain)
    assert wide[0, 0] == pytest.approx(2.0 * f_c**2 * far, rel=1e-12)
