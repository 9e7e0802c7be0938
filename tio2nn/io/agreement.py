"""Whether values of one label under several names agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# eV or eV/Å: values with four decimals, with room for bits; no fit resolves them, and other methods differ by more
_ROUNDED = 6e-5


def agree(one: ArrayLike, other: ArrayLike) -> bool:
    """Whether two energies, or the forces of one structure, differ by rounding alone.

    Total energies with all electrons have too many digits for single precision, which keeps seven: of those, one has to
    be what the other is in single precision. A difference as large as that between two others is none of rounding.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape:
        return False
    if np.array_equal(first, second, equal_nan=True) or np.all(np.abs(first - second) <= _ROUNDED):
        return True
    return first.ndim == 0 and (
        _is_single(float(first), float(second)) or _is_single(float(second), float(first))
    )


def _is_single(number: float, other: float) -> bool:
    """Whether another number is this one in single precision, with all digits of it or with as few as tell it."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return any(abs(float(text) - other) <= _ROUNDED for text in (single, str(single)))
