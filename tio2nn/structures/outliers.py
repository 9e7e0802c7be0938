"""Outliers: not the values of a long tail, but values that a wide gap separates from all others.

Quartiles and standard deviations do not tell a mistake from physics: a good TiO2 set has half of its structures within
0.3 eV/atom and a hundred between 10 and 30; a set of crystals may have an isolated atom or a melt far above them. A
wrong sign, a wrong unit or a calculation that did not converge gives values that stand alone.
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray

FEWEST = 5
"""Structures needed to find an outlier: the middle half of five is three, and excludes one wild value."""

GROSS_ENERGY = 20.0
"""Smallest gap before a gross outlier, eV/atom: twice the largest cohesive energy of a solid (tungsten, 8.9), so
that an isolated atom among crystals, or a crystal among atoms, is no outlier, whatever the reference method."""

# Forces exceed 100 eV/Å where two nuclei are closer than half a bond length. The factor is far above the ratio between
# distorted and relaxed structures, and between the two largest forces of a set (TiO2: 191 and 188 eV/Å).
GROSS_FORCE = 100.0
GROSS_FORCE_FACTOR = 100.0


def beyond_gap(values: FloatArray, smallest: float) -> BoolArray:
    """Which values a gap separates from the rest, wider than `smallest` and wider than the rest itself.

    The rest grows outward from the middle half, by the nearest value each time, so at most a quarter of the values
    are outliers on either side; fewer than `FEWEST` values have no outliers.

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
    """Which values exceed `smallest` and are more than `factor` times as large as all others.

    At most a quarter of the values are outliers; fewer than `FEWEST` known values have none.

    Args:
        values: (n,) not negative; NaN if unknown, and never an outlier then.

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
