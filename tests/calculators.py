"""What tests of the symmetry functions share: a calculator of few functions, and the comparison with the equations."""

from __future__ import annotations

import numpy as np
import reference

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.structure import Structure


def angular_calculator(
    *functions: AngularFunction, cutoff: float = 4.5, element: str = "O"
) -> SymmetryCalculator:
    """Of these functions alone, for one element."""
    return SymmetryCalculator(ParameterSet(elements=(element,), cutoff=cutoff, radial=(), angular=functions))


def check_against_equations(structure: Structure, parameters: ParameterSet) -> None:
    """The features are those of the printed equations, to rounding."""
    expected = reference.symmetry_functions(structure, parameters)
    # the largest product of two weights
    size = 1.0
    if "weighted" in (parameters.radial_elements, parameters.angular_elements):
        size = max(ATOMIC_NUMBERS[element] for element in parameters.elements) ** 2
    assert np.abs(expected).max() < 1e3 * size
    features = SymmetryCalculator(parameters)(structure)
    np.testing.assert_allclose(features, expected, rtol=1e-12, atol=1e-12 * size)
