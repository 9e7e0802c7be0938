"""DScribe's atom-centered symmetry functions, for a benchmark and a test."""

from __future__ import annotations

import itertools

from ase.data import atomic_numbers
from dscribe.descriptors import ACSF

from tio2nn.parameters.parameter_set import ParameterSet


def acsf(parameters: ParameterSet) -> ACSF:
    """DScribe's calculator of the same functions."""
    return ACSF(
        species=list(parameters.elements),
        r_cut=parameters.cutoff,
        g2_params=[(f.eta, f.r_s) for f in parameters.radial],
        g4_params=[(f.eta, f.zeta, f.lambda_) for f in parameters.angular],
        periodic=True,
    )


def columns_in_acsf(parameters: ParameterSet) -> list[int]:
    """For each column of tio2nn its position in DScribe's.

    DScribe goes through the elements by atomic number, for each one through a bare cutoff function and all radial
    functions, then through the pairs of elements, for each one through all angular functions.
    """
    elements = sorted(parameters.elements, key=atomic_numbers.__getitem__)
    pairs = [frozenset((a, b)) for i, a in enumerate(elements) for b in elements[: i + 1]]
    n_radial, n_angular = len(parameters.radial), len(parameters.angular)
    radial = [
        elements.index(element) * (1 + n_radial) + 1 + k
        for k in range(n_radial)
        for element in parameters.elements
    ]
    angular = [
        len(elements) * (1 + n_radial) + pairs.index(frozenset(pair)) * n_angular + k
        for k in range(n_angular)
        for pair in itertools.combinations_with_replacement(parameters.elements, 2)
    ]
    return radial + angular
