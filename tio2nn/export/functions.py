"""The symmetry functions of a potential as other programs list them: one line each, for each central element.

Other programs sum over neighbors of one element or pairs of two; some know sums weighted by atomic number. A column of
a potential that is a sum over all elements, weighted or not, is a sum of such functions,

Σ_j w_j g(R_ij) = Σ_e w_e Σ_{j of e} g(R_ij),  Σ_{j<k} w_j w_k h_ijk = Σ_{e≤f} w_e w_f Σ_{j<k of e, f} h_ijk,

so it can be written for a program that knows only those, with one row of weights for several functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.export.units import Units
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.structures.elements import ATOMIC_NUMBERS

# as RuNNer and n2p2 number them
RADIAL, ANGULAR, WEIGHTED_RADIAL, WEIGHTED_ANGULAR = 2, 3, 12, 13


class Function(NamedTuple):
    """A symmetry function around any central element.

    Attributes:
        kind: `RADIAL`, `ANGULAR`, `WEIGHTED_RADIAL` or `WEIGHTED_ANGULAR`.
        cutoff: unit of length.
        eta: 1 / (unit of length)².
        r_s: of radial functions, unit of length.
        zeta, lambda_: of angular functions.
        neighbors: their elements, lighter first; none where neighbors are weighted.
        column: of the parameter set, to which it contributes.
        factor: times the function.
    """

    kind: int
    cutoff: float
    eta: float
    r_s: float
    zeta: float
    lambda_: int
    neighbors: tuple[str, ...]
    column: int
    factor: float


def functions_of(parameters: ParameterSet, units: Units, *, weighted: bool) -> list[Function]:
    """The functions that the columns of a parameter set are made of, in the order of the columns.

    Args:
        parameters: the set.
        units: of the result.
        weighted: whether the program knows functions weighted by atomic number; else they are written out.
    """
    cutoff, per_area = parameters.cutoff * units.length, units.length**-2
    column = itertools.count()
    found = []
    for radial in parameters.radial:
        for neighbors in _columns(parameters.radial_elements, parameters.elements, 1, weighted):
            own = next(column)
            for elements, factor in neighbors:
                kind = RADIAL if elements else WEIGHTED_RADIAL
                eta, r_s = radial.eta * per_area, radial.r_s * units.length
                found.append(Function(kind, cutoff, eta, r_s, 0.0, 0, elements, own, factor))
    for angular in parameters.angular:
        for neighbors in _columns(parameters.angular_elements, parameters.elements, 2, weighted):
            own = next(column)
            for elements, factor in neighbors:
                kind = ANGULAR if elements else WEIGHTED_ANGULAR
                eta = angular.eta * per_area
                found.append(
                    Function(kind, cutoff, eta, 0.0, angular.zeta, angular.lambda_, elements, own, factor)
                )
    return found


def in_n2p2_order(functions: Sequence[Function]) -> list[Function]:
    """As n2p2 and CP2K sort the functions of an element, whatever their order in `input.nn`."""

    def key(function: Function) -> tuple[float, ...]:
        numbers = tuple(ATOMIC_NUMBERS[element] for element in function.neighbors)
        return (*function[:6], *numbers)

    return sorted(functions, key=key)


class Scaling(NamedTuple):
    """How the values of functions are centered and scaled, (n_functions,) each: (G - mean) / (high - low)."""

    low: FloatArray
    high: FloatArray
    mean: FloatArray


def scaling_of(functions: Sequence[Function], low: FloatArray, high: FloatArray, mean: FloatArray) -> Scaling:
    """The scaling of functions around one element from that of the columns.

    Args:
        functions: all that contribute to the columns.
        low, high, mean: (n_columns,) of the training atoms of the element.

    Returns:
        scaling: high is above low, also where a column is constant. Where functions share a column their values are
            not known one by one; the limits are then those that the column implies, since no function is negative.
    """
    columns = np.array([function.column for function in functions])
    factors = np.array([function.factor for function in functions])
    n_sharing = np.bincount(columns)[columns]
    alone = (n_sharing == 1) & (factors == 1.0)
    lowest = np.where(alone, low[columns], 0.0)
    highest = high[columns] / factors
    return Scaling(
        lowest,
        np.where(highest > lowest, highest, lowest + 1.0),
        mean[columns] / (factors * n_sharing),
    )


def _columns(
    choice: str, elements: Sequence[str], order: int, weighted: bool
) -> Iterator[list[tuple[tuple[str, ...], float]]]:
    """For each column of one function, the neighbors that it sums over, each with a factor."""
    combined = [
        tuple(sorted(pair, key=ATOMIC_NUMBERS.__getitem__))
        for pair in itertools.combinations_with_replacement(elements, order)
    ]
    if choice in ("each", "pairs"):
        yield from ([(neighbors, 1.0)] for neighbors in combined)
    elif choice == "blind":
        yield [(neighbors, 1.0) for neighbors in combined]
    elif weighted:
        yield [((), 1.0)]
    else:
        yield [
            (neighbors, float(np.prod([ATOMIC_NUMBERS[element] for element in neighbors])))
            for neighbors in combined
        ]
