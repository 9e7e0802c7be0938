"""How messages count and list things."""

from __future__ import annotations

import pytest

from tio2nn.wording import counted, digits, listed, other


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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["features"], "features"),
        (["features", "forces"], "features and forces"),
        (["features", "energies", "forces"], "features, energies and forces"),
    ],
)
def test_the_last_of_a_list_follows_an_and(words: list[str], expected: str) -> None:
    assert listed(words) == expected
    assert other(words) == f"other {expected}"


def test_one_thing_is_another() -> None:
    assert other(["split"]) == "another split"
    assert other(["features", "split", "settings"]) == "other features and settings and another split"


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (12.3456, 2, "12.35"),
        (0.5678, 2, "0.57"),
        (0.0996, 2, "0.100"),
        (0.05, 2, "0.050"),
        (0.00421, 2, "0.0042"),
        (-0.00421, 2, "-0.0042"),
        (0.000123, 4, "0.00012"),
        (3e-14, 4, "0.0000"),
        (-3e-14, 4, "0.0000"),
        (0.0, 4, "0.0000"),
        (None, 2, "unknown"),
    ],
)
def test_small_errors_are_shown_with_two_digits(value: float | None, decimals: int, expected: str) -> None:
    assert digits(value, decimals) == expected
