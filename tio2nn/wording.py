"""Counts and sizes in messages."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`n` with its noun in the singular or plural: "1 structure", "2 structures".

    Args:
        n: the number to show.
        noun: the singular; it may be a whole phrase, verb included.
        plural: used for 0 and for more than 1; by default, the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def size(n_bytes: float) -> str:
    """A number of bytes in a readable form, such as 12.3 MB."""
    exponent = 0
    while n_bytes >= 999.5 and exponent < 4:  # from here on, three digits would show 1e+03
        n_bytes, exponent = n_bytes / 1000, exponent + 1
    return f"{n_bytes:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[exponent]}"
