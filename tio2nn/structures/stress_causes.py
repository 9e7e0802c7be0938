"""What numbers may be instead of stresses in eV/Å³: another unit or sign, virials, another order of components."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from tio2nn.structures.stress import GPA
from tio2nn.structures.usual_units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG

AGREEMENT = (0.4, 2.5)
"""Slopes of energies or forces against right stresses, roughly."""
CLOSE_AGREEMENT = (0.6, 1.6)
"""Slopes where many pairs leave little: 1.00, 0.95 and 1.01 for Si, Ge and Li, 0.73 where strains reach 12 %. Rydberg
for Hartree is a factor of 2."""

_RECOGNIZED = 1.35  # factor within which a slope is recognized
NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
"""Components in Voigt's order."""

SHEAR_ORDERS: tuple[tuple[str, ...], ...] = (
    ("xx", "yy", "zz", "yz", "xz", "xy"),
    ("xx", "yy", "zz", "xy", "yz", "xz"),
    ("xx", "yy", "zz", "xy", "xz", "yz"),
    ("xx", "yy", "zz", "yz", "xy", "xz"),
    ("xx", "yy", "zz", "xz", "yz", "xy"),
    ("xx", "yy", "zz", "xz", "xy", "yz"),
    ("xx", "xy", "xz", "yy", "yz", "zz"),
    ("xx", "xy", "yy", "xz", "yz", "zz"),
)
"""Orders in which programs write six components, likely ones first."""
_OTHERS = [(*diagonal, *shears) for shears in permutations(NAMES[3:]) for diagonal in permutations(NAMES[:3])]
ORDERS = (*SHEAR_ORDERS, *(order for order in _OTHERS if order not in SHEAR_ORDERS))
"""As `SHEAR_ORDERS`, then those with another order of the diagonal."""

# slope of energies against stresses and its cause, given that the numbers were read as eV/Å³
_CAUSES: tuple[tuple[float, str], ...] = (
    (1 / GPA, "in GPa"),
    (0.1 / GPA, "in kbar"),
    (1e-3 / GPA, "in MPa"),
    (1e-4 / GPA, "in bar"),
    (HARTREE / BOHR**3, "in Ha/Bohr³"),
    (RYDBERG / BOHR**3, "in Ry/Bohr³"),
    (HARTREE, "in Ha/Å³"),
    (RYDBERG, "in Ry/Å³"),
    (1 / BOHR**3, "in eV/Bohr³"),
    (1e-3, "in meV/Å³"),
    (KCAL_PER_MOL, "in kcal/mol/Å³"),
    (KJ_PER_MOL, "in kJ/mol/Å³"),
)


# what numbers are instead, by the kind of comparison that fits
KINDS = {"virial": "virials (eV), not stresses", "stress read as virial": "stresses (eV/Å³), not virials"}


def nearest_unit(size: float) -> tuple[float, str]:
    """The known unit of a slope, "" for eV/Å³, and the logarithm of the slope over that of this unit."""
    known = [(1.0, ""), *_CAUSES]
    return min((abs(float(np.log(max(size, 1e-300) / slope))), unit) for slope, unit in known)


def cause_of(slope: float, order: tuple[str, ...], *, kind: str = "", is_sure: bool = True) -> str:
    """What stresses seem to be whose multiple by the slope, in this order, fits; "" if unknown.

    Args:
        slope: 1 for stresses as they should be.
        order: of the components.
        kind: what they are instead of stresses, if known.
        is_sure: whether no other order fits as well.
    """
    distance, unit = nearest_unit(abs(slope))
    if kind:
        found = [kind + (", of the other sign" if slope < 0 else "")]
    else:
        found = [unit] if distance < np.log(_RECOGNIZED) and unit else []
        # a negative slope of no known size is a wrong sign, too
        found += ["of the wrong sign (positive under pressure)"] if slope < 0 else []
    found += [text] if (text := of_order(order, is_sure)) else []
    return f"as if they were {', '.join(found)}" if found else ""


def of_order(order: tuple[str, ...], is_sure: bool) -> str:
    """The order of components in words; "" if it is that of Voigt."""
    like = "the order" if is_sure else "an order like"
    return "" if order == NAMES else f"in {like} {' '.join(order)}"
