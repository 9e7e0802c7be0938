"""One label under several names: whether the values agree, and which forces are placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from tio2nn.errors import InputError
from tio2nn.io.label_weights import FORCES, key_of_no_weight
from tio2nn.io.labels import Label

# eV or eV/Å: values with four decimals, with room for bits; no fit resolves them, and other methods differ by more
_ROUNDED = 6e-5


def check_agreement(found: Mapping[str, ArrayLike], option: str, failed: Callable[[str], InputError]) -> None:
    """Refuse other values than the first.

    Args:
        found: the value under each name.
        option: that chooses a name.
        failed: makes the error.

    Raises:
        InputError: two of them do not agree.
    """
    names = list(found)
    for name in names[1:]:
        if not agree(found[names[0]], found[name]):
            raise failed(
                f"expected equal values of {names[0]} and {name}, got others; choose one with {option}"
            )


def forces_by_name(
    label: Label, written: Mapping[str, str], numbers: Callable[[str], ArrayLike]
) -> tuple[list[str], list[str]]:
    """The names that hold forces, and remarks on what is not used.

    Args:
        label: the names that may hold them.
        written: the value of each key.
        numbers: (n_atoms, 3) under a name.
    """
    names = label.names
    if names and (weight := key_of_no_weight(written, FORCES)) is not None:
        return [], [f"{' and '.join(names)} ignored: {weight} is 0"]
    unknown = [name for name in names if np.isnan(np.asarray(numbers(name), dtype=np.float64)).all()]
    remarks = [label.remark] if label.remark is not None else []
    if unknown:
        remarks.append(f"{' and '.join(unknown)} ignored: expected numbers, got NaN only")
    return [name for name in names if name not in unknown], remarks


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
