"""Values that do not belong to the rest: not those of a long tail, but those that a wide gap separates from it.

Quartiles and standard deviations do not tell a mistake from physics: a good set of TiO2 has half of its structures
within 0.3 eV/atom and a hundred between 10 and 30, one of crystals has an isolated atom or a melt far above them. What
a wrong sign, a wrong unit or a calculation that did not converge makes stands alone instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEWEST = 5
"""Structures; of so many the middle half is three, and one wild value not among them."""

GROSS_ENERGY = 20.0
"""Smallest gap before a gross outlier, eV/atom: twice what holds the strongest solid together (tungsten, 8.9), so that
an atom alone among crystals, or a crystal among atoms, is none, whatever the method that its energy comes from."""

# A force beyond 100 eV/Å is that of two nuclei at half a bond length or less. The factor is far above what separates
# relaxed from distorted structures, and the largest of a set from the next (TiO2: 191 and 188 eV/Å).
GROSS_FORCE = 100.0
GROSS_FORCE_FACTOR = 100.0


def beyond_gap(values: FloatArray, smallest: float) -> BoolArray:
    """Which values a gap separates from the rest that is wider than `smallest` and than the rest is spread.

    The rest grows from the middle half outward, by the nearest value each time, so that at most a quarter of the
    values are separated on either side; of fewer than `FEWEST` values none is.

    Args:
        values: (n,)
        smallest: least width of the gap, in the unit of the values.

    Returns:
        (n,)
    """
    n = len(values)
    if n < FEWEST:
        return np.zeros(n, dtype=np.bool_)
    ordered = np.sort(values)
    low, high = n // 4, n - 1 - n // 4
    while low > 0 or high < n - 1:
        below = ordered[low] - ordered[low - 1] if low > 0 else np.inf
        above = ordered[high + 1] - ordered[high] if high < n - 1 else np.inf
        if min(below, above) > max(smallest, ordered[high] - ordered[low]):
            break
        if below <= above:
            low -= 1
        else:
            high += 1
    return np.asarray((values < ordered[low]) | (values > ordered[high]))


def beyond_factor(values: FloatArray, factor: float, smallest: float) -> BoolArray:
    """Which values are above `smallest` and more than `factor` times as large as all of the rest.

    At most a quarter of the values are; of fewer than `FEWEST` known values none is.

    Args:
        values: (n,) not negative; NaN where unknown, and such are never among them.

    Returns:
        (n,)
    """
    ordered = np.sort(values[~np.isnan(values)])
    n = len(ordered)
    if n < FEWEST:
        return np.zeros(len(values), dtype=np.bool_)
    tail = ordered[n - 1 - n // 4 :]
    jumps = np.flatnonzero(tail[1:] > np.maximum(factor * tail[:-1], smallest))
    if not len(jumps):
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(values > tail[jumps[0]])
