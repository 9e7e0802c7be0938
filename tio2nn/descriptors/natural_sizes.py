"""The natural size of each symmetry function: what near neighbors contribute to it.

A radial function is as large as what one neighbor at the closest distance of its pair of elements contributes, an
angular one as what two such neighbors contribute, at the angle where that is most: any from a right one on, and those
at which the two are no closer to each other than any in the set. A value far below it tells nothing of the structure
but rounding, or atoms that are all but aligned, however constant it is over a set of structures.

Elements that are no neighbors in the set, for want of structures or in the molecules at hand, may be neighbors in
others: their closest distance counts as no longer than a stretched bond.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.attenuation import cosine_cutoff
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.structures.elements import ATOMIC_NUMBERS, COVALENT_RADII

# Longest distance at which two elements count as near, over the sum of their covalent radii. Errors without a limit and
# with 1.25:
# - eleven elements in ten cells, where one pair was nowhere closer than 4.3 Å: energy of another cell off by 4e4 and by
#   0.5 eV/atom
# - straight molecules of four elements, judged by bent ones (one network, 150 epochs; energy MAE in meV/atom, RMSE of
#   forces in eV/Å): 9.2, 1.58 and 2.7, 0.16
# - acetylacetone, 125 of the half with the lowest energies, judged by the tenth with the highest (one network, 100
#   epochs, two seeds; MAE in meV/atom and eV/Å): 0.96, 0.067 and 0.87, 0.060; 1.11, 0.064 and 0.99, 0.059. With the
#   first seed 1.5 gave 0.93, 0.064, and 1 gave 1.02, 0.063
# - scales of columns that become more than twice as large, of 526 for Ge, Li, TiO2 and oxides of five elements: two
_LONGEST_BOND = 1.25
_N_ANGLES = 61  # 3 degrees apart; the narrowest function, ζ = 16, is 30 degrees wide


def near(elements: Sequence[str], closest: FloatArray) -> FloatArray:
    """(n_elements, n_elements) Å; the closest distances in training, or those of stretched bonds where that is less."""
    radii = np.array([COVALENT_RADII[element] for element in elements])
    return np.asarray(np.minimum(closest, _LONGEST_BOND * np.add.outer(radii, radii)))


def natural_sizes(parameters: ParameterSet, element: str, closest: FloatArray) -> FloatArray:
    """Sizes of the functions of one central element.

    Args:
        parameters: the functions.
        element: of the central atom.
        closest: (n_elements, n_elements) distance at which each pair of elements is near, see `near`, Å.

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
