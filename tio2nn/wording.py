"""How messages count and measure things."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`n` and the noun, in the number that goes with it: "1 structure", "2 structures".

    Args:
        n: how many.
        noun: for one; may be a whole phrase, verb included.
        plural: for none and several; by default the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def size(n_bytes: float) -> str:
    """Bytes for people: 12.3 MB."""
    exponent = 0
    while n_bytes >= 999.5 and exponent < 4:  # what three digits would round to 1e+03
        n_bytes, exponent = n_bytes / 1000, exponent + 1
    return f"{n_bytes:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[exponent]}"
