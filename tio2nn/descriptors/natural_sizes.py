"""The natural size of each symmetry function: what near neighbors contribute to it.

A radial function is as large as what one neighbor at the closest distance of its pair of elements contributes, an
angular one as what two such neighbors contribute, at the angle where that is most: any from a right one on, and those
at which the two are no closer to each other than any in the set. A value far below it tells nothing of the structure
but rounding, or atoms that are all but aligned, however constant it is over a set of structures.

Elements that are no neighbors in the set, for want of structures or in the molecules at hand, may be neighbors in
others: their closest distance counts as no longer than a stretched bond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray
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
    distances = closest[parameters.elements.index(element)]
    n = len(distances)
    first, second = np.triu_indices(n)
    radial = np.array([_radial(f, distances, parameters.cutoff) for f in parameters.radial]).reshape(-1, n)
    triplets = _Triplets.of(distances[first], distances[second], closest[first, second], parameters.cutoff)
    angular = np.array([triplets.largest(f) for f in parameters.angular]).reshape(-1, len(first))
    numbers = np.array([float(ATOMIC_NUMBERS[name]) for name in parameters.elements])
    products = numbers[first] * numbers[second]
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


def _radial(function: RadialFunction, distances: FloatArray, cutoff: float) -> FloatArray:
    gaussians = np.exp(-function.eta * (distances - function.r_s) ** 2)
    return np.asarray(gaussians * cosine_cutoff(distances, cutoff))


class _Triplets(NamedTuple):
    """An atom with two neighbors, at angles that are right or wider, or leave the neighbors far enough apart.

    All pairs of elements together: those of 99 elements, with 18 functions, took 2,300 s one by one, and take 22 s.
    """

    cosine: FloatArray  # (n_angles,)
    squares: FloatArray  # (n_pairs, n_angles) sum of the squared distances, Å²
    cutoffs: tuple[FloatArray, ...]  # of the three distances, (n_pairs, 1) twice and (n_pairs, n_angles)
    allowed: BoolArray  # (n_pairs, n_angles)

    @classmethod
    def of(cls, to_first: FloatArray, to_second: FloatArray, between: FloatArray, cutoff: float) -> _Triplets:
        """Triplets of these distances (n_pairs,), Å; `between` is the closest of the neighbors."""
        to_first, to_second, between = to_first[:, None], to_second[:, None], between[:, None]
        cosine = np.cos(np.linspace(0.0, np.pi, _N_ANGLES))
        square = to_first**2 + to_second**2 - 2.0 * to_first * to_second * cosine
        # in a set of straight molecules the ends are never as close as in bent ones; by the straight angle alone, which
        # is zero for λ = 1, rounding would be as large as anything
        allowed = square >= np.minimum(between**2, to_first**2 + to_second**2) * (1.0 - 1e-9)
        distances = (to_first, to_second, np.sqrt(np.maximum(square, 0.0)))
        return cls(
            cosine,
            to_first**2 + to_second**2 + square,
            tuple(cosine_cutoff(distance, cutoff) for distance in distances),
            allowed,
        )

    def largest(self, function: AngularFunction) -> FloatArray:
        """(n_pairs,) the largest value over the angles."""
        angles = 2.0 ** (1.0 - function.zeta) * (1.0 + function.lambda_ * self.cosine) ** function.zeta
        values = angles * np.exp(-function.eta * self.squares)
        for cutoff in self.cutoffs:
            values = values * cutoff
        return np.asarray(np.where(self.allowed, values, -np.inf).max(axis=1))
