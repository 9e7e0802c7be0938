"""The units in which CP2K prints energies, lengths and forces, as it names them; which ones, its input may choose."""

from __future__ import annotations

import re

from tio2nn.io.atomic_units import BOHR, HARTREE

_ATOMIC = "a.u."
# eV; CODATA 2014, as in ASE
_ENERGIES = {
    _ATOMIC: HARTREE,
    "hartree": HARTREE,
    "ry": HARTREE / 2,
    "ev": 1.0,
    "kev": 1e3,
    "kcalmol": 0.04336410390059322,
    "kjmol": 0.010364269574711572,
    "k_e": 8.617330337217213e-05,
    "wavenumber_e": 1.2398419739640718e-04,
    "joule": 6.241509125883258e18,
}
# Å
_LENGTHS = {_ATOMIC: BOHR, "bohr": BOHR, "angstrom": 1.0, "pm": 0.01, "nm": 10.0, "m": 1e10}
_PER_LENGTH = re.compile(r"([a-z_]+)(?:/([a-z]+)|\*([a-z]+)\^-1)")


def of_energy(name: str) -> float | None:
    """An energy in eV; None if CP2K knows none of this name."""
    return _ENERGIES.get(name.strip().lower())


def of_length(name: str) -> float | None:
    """A length in Å; None if CP2K knows none of this name."""
    return _LENGTHS.get(name.strip().lower())


def of_force(name: str) -> float | None:
    """A force in eV/Å; None if it is no energy over a length, `eV/angstrom` or `eV*angstrom^-1`."""
    bare = name.strip().lower()
    if bare == _ATOMIC:
        return HARTREE / BOHR
    found = _PER_LENGTH.fullmatch(bare)
    if found is None:
        return None
    energy, length = _ENERGIES.get(found[1]), _LENGTHS.get(found[2] or found[3])
    return None if energy is None or length is None else energy / length
