"""Chemical symbols of the elements 1 to 118."""

from __future__ import annotations

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
"""The symbol that a file's `Ti`, `TI`, `ti` or `22` means."""
