"""How messages count things."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`n` and the noun, in the number that goes with it: "1 structure", "2 structures".

    Args:
        n: how many.
        noun: for one; may be a whole phrase, verb included.
        plural: for none and several; by default the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"
