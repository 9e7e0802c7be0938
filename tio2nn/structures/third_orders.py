"""Tells wrong forces and stresses from right ones of structures that are far apart.

Energies follow from the mean of the work that the forces at both ends of a path predict, to second order. Third orders
change the slope of energies against this work: it is 0.3 for right forces of atoms pressed together. But where the
force along the path changes steadily, the change of the energy lies between the two predictions; and small third orders
leave nearly the same slope for all pairs.
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray

_LARGEST_FACTOR = 5.0  # of slopes, either way, that third orders may leave
# pairs whose change is not between both predictions, as a part and at least; of right labels 0.00, rarely 0.13
_BEYOND, _FEWEST_BEYOND = 0.2, 3
_ROOM = 0.05  # for errors of the labels, part of the larger prediction


def may_explain(
    slope: float, spread: float, differences: FloatArray, at_ends: FloatArray, *, small: float
) -> bool:
    """Whether third orders may be why energies do not change as right labels predict.

    Args:
        slope: of energies against the mean of both predictions.
        spread: of this slope over the pairs, or what the slope leaves of the differences, as a part of the whole.
        differences: (n_pairs,) of energies, eV.
        at_ends: (n_pairs, 2) what the labels at each end of a pair predict, eV.
        small: spread up to which third orders are small.
    """
    if not 1.0 / _LARGEST_FACTOR < abs(slope) < _LARGEST_FACTOR or spread <= small:
        return False
    room = _ROOM * np.abs(at_ends).max(axis=1)
    are_beyond = (differences < at_ends.min(axis=1) - room) | (differences > at_ends.max(axis=1) + room)
    return bool(np.count_nonzero(are_beyond) < max(_FEWEST_BEYOND, _BEYOND * len(differences)))
