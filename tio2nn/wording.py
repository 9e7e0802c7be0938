"""Counts, lists, errors and sizes in messages."""

from __future__ import annotations

import math
from collections.abc import Sequence

_ROUNDING = 1e-9  # what is smaller, in eV, meV or GPa, is the last bits of sums


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`n` with its noun in the singular or plural: "1 structure", "2 structures".

    Args:
        n: the number to show.
        noun: the singular; it may be a whole phrase, verb included.
        plural: used for 0 and for more than 1; by default, the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def listed(words: Sequence[str]) -> str:
    """The words as a list: "features", "features and forces", "features, energies and forces"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def other(inputs: Sequence[str]) -> str:
    """Inputs of a fit that have changed: "other features and forces", "another split"."""
    several = [name for name in inputs if name.endswith("s")]
    single = [f"another {name}" for name in inputs if not name.endswith("s")]
    return listed([*([f"other {listed(several)}"] if several else []), *single])


def digits(value: float | None, decimals: int) -> str:
    """A measure of errors with so many decimals, or with more where these would not show two digits: 0.56, 0.0042."""
    if value is None:
        return "unknown"
    if abs(value) <= _ROUNDING:
        value = 0.0  # without a sign
    elif abs(value) < math.inf:
        decimals = max(decimals, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def size(n_bytes: float) -> str:
    """A number of bytes in a readable form, such as 12.3 MB."""
    exponent = 0
    while n_bytes >= 999.5 and exponent < 4:  # from here on, three digits would show 1e+03
        n_bytes, exponent = n_bytes / 1000, exponent + 1
    return f"{n_bytes:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[exponent]}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as a list, three or more in a row by their ends: "1 to 4, 7 and 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run] for run in runs]
    return listed([word for words in told for word in words])
