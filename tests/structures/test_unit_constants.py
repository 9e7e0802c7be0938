"""Constants that were mixed are noticed where a structure is there twice, and nothing else is taken for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tio2nn.structures.groups import find_groups
from tio2nn.structures.structure import Structure
from tio2nn.structures.unit_constants import MixedConstants, mixed_constants

OF_2006, OF_2018 = 27.21138386, 27.211386245988


def twice(
    n: int, other: float, first: float = OF_2018, *, size: float = 2536.0, step: float = 0.37
) -> list[Structure]:
    """The same structures from two files; energies in Hartree were converted with two constants."""
    rng = np.random.default_rng(5)
    made = []
    for k in range(n):
        positions = 6.0 * rng.random((3, 3))
        energy = -size - k * step
        for file, constant in (("a.xyz", first), ("b.data", other)):
            made.append(
                Structure(
                    f"{file}-{k}",
                    ("Ti", "O", "O"),
                    positions * (1.0 + 1e-9),
                    6.0 * np.eye(3),
                    energy=round(energy * constant, 8),
                    file=file,
                )
            )
    return made


def found(structures: list[Structure]) -> MixedConstants | None:
    return mixed_constants(structures, find_groups(structures).duplicate_of.tolist())


@pytest.mark.parametrize("n", [1, 2, 9])
def test_six_millielectronvolts_at_69000_are_noticed(n: int) -> None:
    told = found(twice(n, OF_2006))
    assert told is not None
    assert told.n == n
    assert told.constants == ("CODATA 2006", "CODATA 2018")
    assert told.largest == pytest.approx(0.006, rel=0.02)
    message = told.message()
    assert (
        "up to 6.1 meV (a.xyz, b.data), as if Hartree were converted with CODATA 2006 and CODATA 2018"
        in message
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        (27.2113961, "CODATA 1986"),
        (27.2113845, "CODATA 2002"),
        (27.21138505, "CODATA 2010"),
        (27.2114, "27.2114 eV"),
    ],
)
def test_constants_are_named(constant: float, name: str) -> None:
    told = found(twice(3, constant))
    assert told is not None
    assert name in told.constants
    assert "CODATA 2018" in told.constants


def test_what_constants_do_not_explain_is_not_accused() -> None:
    assert found(twice(5, OF_2018)) is None
    # in one file
    assert found([replace(s, file="a.xyz") for s in twice(5, OF_2006)]) is None
    # small energies, whose digits do not tell
    assert found(twice(5, OF_2006, size=0.5)) is None
    rng = np.random.default_rng(1)
    noise = [
        replace(s, energy=s.energy + 1e-3 * rng.normal()) for s in twice(9, OF_2018) if s.energy is not None
    ]
    assert found(noise) is None
    shifted = [
        replace(s, energy=s.energy + (0.0042 if s.file == "b.data" else 0.0))
        for s in twice(9, OF_2018, step=300.0)
        if s.energy is not None
    ]
    assert found(shifted) is None
    assert found([replace(s, energy=None) for s in twice(3, OF_2006)]) is None
