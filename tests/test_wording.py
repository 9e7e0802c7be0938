"""How messages count things."""

from __future__ import annotations

import pytest

from tio2nn.wording import counted


@pytest.mark.parametrize(
    ("n", "words", "expected"),
    [
        (0, ("structure",), "0 structures"),
        (1, ("structure",), "1 structure"),
        (12, ("structure",), "12 structures"),
        (1, ("process", "processes"), "1 process"),
        (2, ("process", "processes"), "2 processes"),
        (1, ("structure has", "structures have"), "1 structure has"),
        (3, ("structure has", "structures have"), "3 structures have"),
    ],
)
def test_nouns_and_verbs_follow_the_number(n: int, words: tuple[str, ...], expected: str) -> None:
    assert counted(n, *words) == expected
