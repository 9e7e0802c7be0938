"""Total energies beside those of all electrons, which tell the unit of a whole data set.

Where everything is in one other unit, energies and forces agree, and no comparison within the set shows it. But
energies of all electrons are known, and no method gives lower ones: without the inner electrons, or counted from free
atoms, energies are higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.usual_units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL, RYDBERG

# Hartree; S. J. Chakravorty et al., Phys. Rev. A 47 (1993) 3649, hydrogen to neon, without relativity
_LIGHT = (0.5, 2.9037, 7.4781, 14.6674, 24.6539, 37.8450, 54.5892, 75.0673, 99.7339, 128.9376)
# Energies in these units are lower than they can be in eV ...
_LOWER = {"kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL}
# ... by this factor at least. Atoms of uranium are 9 % lower with relativity, H2 is 17 % lower than its atoms
_IMPOSSIBLE = 1.5
# What is left of the ratio to all electrons by methods, relativity and bonds
_UNLIKE_BY = (0.9, 1.25)
# Energies in these units could be those of some electrons in eV. That is ruled out for light elements, which have
# few electrons to leave out: in units of all electrons, pseudopotentials have 0.1 or more and tight binding (xTB,
# DFTB) 0.041 to 0.068, where Hartree is 0.037 and Rydberg 0.073, both times at most 1.03 (methane 1.017)
_HIGHER = {"Hartree": HARTREE, "Rydberg": RYDBERG}
_LIGHT_UNLIKE_BY = (0.985, 1.035)


def all_electron_energy(element: str) -> float:
    """Energy of a free atom with all its electrons, eV; to 1 %, above krypton up to 10 % too high.

    Up to neon as published; beyond, the expansion of J. Schwinger, Phys. Rev. A 24 (1981) 2353, without relativity.
    """
    z = ATOMIC_NUMBERS[element]
    if z <= len(_LIGHT):
        return -HARTREE * _LIGHT[z - 1]
    expansion = 0.768745 * z ** (7 / 3) - 0.5 * z**2 + 0.269900 * z ** (5 / 3)
    return -HARTREE * float(expansion)


def message_of_unit(
    elements: Sequence[str], compositions: NDArray[np.integer], energies: FloatArray
) -> str | None:
    """What to say of energies that are not in eV; None if they may be.

    Args:
        elements: of the columns.
        compositions: (n_structures, n_elements) number of atoms of each element.
        energies: (n_structures,) total energies, as if in eV.
    """
    all_electrons = np.array([all_electron_energy(element) for element in elements])
    ratio = float(np.median(energies / (compositions @ all_electrons)))
    if ratio > _IMPOSSIBLE:
        unit = _unit(ratio, _LOWER, _UNLIKE_BY)
        seems = "are not in eV" if unit is None else f"seem to be in {unit}"
    else:
        is_light = all(ATOMIC_NUMBERS[element] <= len(_LIGHT) for element in elements)
        unit = _unit(ratio, _HIGHER, _LIGHT_UNLIKE_BY) if is_light and set(elements) != {"H"} else None
        if unit is None:
            return None
        seems = f"seem to be in {unit}"
    return (
        f"energies {seems}: they are {ratio:.3g} times what atoms with all their electrons have in eV; convert "
        "energies and forces to eV and eV/Å"
    )


def _unit(ratio: float, units: dict[str, float], unlike_by: tuple[float, float]) -> str | None:
    low, high = unlike_by
    return next((unit for unit, factor in units.items() if low <= ratio * factor <= high), None)
