"""Units of a folder for another program: its files hold numbers alone."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tio2nn.parameters.validation import known

UnitsName = Literal["metal", "atomic"]
UNITS_NAMES: tuple[UnitsName, ...] = ("metal", "atomic")


class Units(NamedTuple):
    """The units of a folder.

    Attributes:
        name: as options have it.
        length: units of length in one Å.
        energy: units of energy in one eV.
        described: for people.
    """

    name: UnitsName
    length: float
    energy: float
    described: str


# CODATA 2006 (P. J. Mohr et al., Rev. Mod. Phys. 80 (2008) 633), the constants of CP2K: with those of 2018 the same
# atoms would be 1e-8 Å farther apart there, and energies of heavy atoms off by meV
_BOHR = 0.52917720859  # Å
_HARTREE = 27.21138386  # eV

METAL = Units("metal", 1.0, 1.0, "Å and eV")
ATOMIC = Units("atomic", 1.0 / _BOHR, 1.0 / _HARTREE, "Bohr and Hartree")
UNITS: dict[str, Units] = {units.name: units for units in (METAL, ATOMIC)}


def known_units(name: str | None, option: str = "--units") -> UnitsName | None:
    """The units of that name, as given with an option; None for none.

    Raises:
        UsageError: no such units.
    """
    return None if name is None else known(name, UNITS_NAMES, option)
