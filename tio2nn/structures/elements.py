"""Chemical symbols of the elements 1 to 118, and chemical formulas."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

_PERIODS = (
    "H He",
    "Li Be B C N O F Ne",
    "Na Mg Al Si P S Cl Ar",
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
    "Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
    "Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og",
)

SYMBOLS: tuple[str, ...] = tuple(symbol for period in _PERIODS for symbol in period.split())
"""SYMBOLS[z - 1] is the element of atomic number z."""

ATOMIC_NUMBERS: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}

ELEMENT_OF: dict[str, str] = {
    spelling: symbol
    for symbol, number in ATOMIC_NUMBERS.items()
    for spelling in (symbol, symbol.upper(), symbol.lower(), str(number))
}
"""The symbol for each spelling in a file: `Ti`, `TI`, `ti` or `22`."""

_ISOTOPES = ("D", "T", "2H", "3H")
_GHOSTS = ("X", "XX", "GH", "BQ", "Q", "DUM", "VA", "VAC")


def remedy(text: str) -> str:
    """The end of a message about what is no element: what to do where that is known, else ""."""
    name = text.strip().upper()
    if name in _ISOTOPES:
        return "; isotopes have the energies and forces of H: write H"
    return "; take out ghost atoms and vacancies" if name in _GHOSTS else ""


_COVALENT_RADII = (
    "0.31 0.28",
    "1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58",
    "1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06",
    "2.03 1.76 1.70 1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16",
    "2.20 1.95 1.90 1.75 1.64 1.54 1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40",
    "2.44 2.15 2.07 2.04 2.03 2.01 1.99 1.98 1.98 1.96 1.94 1.92 1.92 1.89 1.90 1.87",
    "1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32 1.45 1.46 1.48 1.40 1.50 1.50",
    "2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69" + 22 * " 2.00",
)

COVALENT_RADII: dict[str, float] = dict(
    zip(SYMBOLS, (float(radius) for row in _COVALENT_RADII for radius in row.split()), strict=True)
)
"""Å; B. Cordero et al., Dalton Trans. (2008) 2832, low spin for Mn, Fe and Co; 2.0 as in ASE beyond Cm, where the paper
ends."""

# IUPAC Red Book (2005), table VI: in formulas nonmetals follow the metals in this order
_NONMETALS = "Rn Xe Kr Ar Ne He B Si C Sb As P N H Te Se S At I Br Cl O F"
_PLACE = {symbol: k for k, symbol in enumerate(_NONMETALS.split(), start=1)}


def formula(composition: Mapping[str, int], *, reduced: bool = False) -> str:
    """Chemical formula, metals in alphabetical order before nonmetals: `Ti8O16`, or, reduced, `TiO2`.

    Args:
        composition: number of atoms of each element; zeros are ignored.
        reduced: divide by the greatest common divisor.
    """
    divisor = gcd(*composition.values()) if reduced else 1
    ordered = sorted(composition.items(), key=lambda item: (_PLACE.get(item[0], 0), item[0]))
    return "".join(f"{symbol}{n // divisor if n > divisor else ''}" for symbol, n in ordered if n)
