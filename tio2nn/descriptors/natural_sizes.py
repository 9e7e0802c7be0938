"""The natural size of each symmetry function: what near neighbors contribute to it.

A radial function is as large as what one neighbor at the closest distance of its pair of elements contributes, an
angular one as what two such neighbors contribute, at the angle where that is most: any from a right one on, and those
at which the two are no closer to each other than any in the set. A value far below it tells nothing of the structure
but rounding, or atoms that are all but aligned, however constant it is over a set of structures.
"""

from __future__ import annotations

import itertools

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.attenuation import cosine_cutoff
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.elements import ATOMIC_NUMBERS

_N_ANGLES = 61  # 3 degrees apart; the narrowest function, ζ = 16, is 30 degrees wide


def natural_sizes(parameters: ParameterSet, element: str, closest: FloatArray) -> FloatArray:
    """Sizes of the functions of one central element.

    Args:
        parameters: the functions.
        element: of the central atom.
        closest: (n_elements, n_elements) closest distance of each pair of elements, Å.

    Returns:
        (n_features,), above or equal to zero.
    """
    center = parameters.elements.index(element)
    distances, kinds = closest[center], range(len(parameters.elements))
    pairs = list(itertools.combinations_with_replacement(kinds, 2))
    radial = np.array(
        [[_radial(f, distances[a], parameters.cutoff) for a in kinds] for f in parameters.radial]
    ).reshape(-1, len(kinds))
    angular = np.array(
        [
            [_angular(f, distances[a], distances[b], closest[a, b], parameters.cutoff) for a, b in pairs]
            for f in parameters.angular
        ]
    ).reshape(-1, len(pairs))
    numbers = np.array([float(ATOMIC_NUMBERS[name]) for name in parameters.elements])
    products = np.array([numbers[a] * numbers[b] for a, b in pairs])
    columns = [
        _of_columns(radial, numbers, parameters.radial_elements),
        _of_columns(angular, products, parameters.angular_elements),
    ]
    return np.concatenate([values.ravel() for values in columns])


def _of_columns(values: FloatArray, weights: FloatArray, resolution: str) -> FloatArray:
    """Sizes (n_functions, n_columns of each) from those for each kind of neighbors (n_functions, n_kinds)."""
    if resolution == "weighted":
        values = values * weights
    elif resolution != "blind":
        return values
    return np.asarray(values.max(axis=1, keepdims=True))


def _radial(function: RadialFunction, distance: float, cutoff: float) -> float:
    gaussian = np.exp(-function.eta * (distance - function.r_s) ** 2)
    return float(gaussian * cosine_cutoff(distance, cutoff))


def _angular(
    function: AngularFunction, to_first: float, to_second: float, between: float, cutoff: float
) -> float:
    """The largest value over all angles that are right or wider, or leave the neighbors `between` apart."""
    cosine = np.cos(np.linspace(0.0, np.pi, _N_ANGLES))
    square = to_first**2 + to_second**2 - 2.0 * to_first * to_second * cosine
    # in a set of straight molecules the ends are never as close as in bent ones; by the straight angle alone, which is
    # zero for λ = 1, rounding would be as large as anything
    allowed = square >= min(between**2, to_first**2 + to_second**2) * (1.0 - 1e-9)
    exponent = function.eta * (to_first**2 + to_second**2 + square)
    values = (
        2.0 ** (1.0 - function.zeta)
        * (1.0 + function.lambda_ * cosine) ** function.zeta
        * np.exp(-exponent)
        * cosine_cutoff(to_first, cutoff)
        * cosine_cutoff(to_second, cutoff)
        * cosine_cutoff(np.sqrt(np.maximum(square, 0.0)), cutoff)
    )
    return float(values[allowed].max())
