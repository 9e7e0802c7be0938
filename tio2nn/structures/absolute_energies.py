"""Total energies beside those of all electrons, which tell the unit of a whole data set.

Where everything is in one other unit, energies and forces agree, and no comparison within the set shows it. But
energies of all electrons are known, and no method gives lower ones: without the inner electrons, or counted from free
atoms, energies are higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import BoolArray, FloatArray
from tio2nn.structures.elements import ATOMIC_NUMBERS
from tio2nn.structures.usual_units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL

# Hartree; S. J. Chakravorty et al., Phys. Rev. A 47 (1993) 3649, hydrogen to neon, without relativity
_LIGHT = (0.5, 2.9037, 7.4781, 14.6674, 24.6539, 37.8450, 54.5892, 75.0673, 99.7339, 128.9376)
# Energies in these units are lower than they can be in eV ...
_LOWER = {"kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL}
# ... by this factor at least. Uranium is 9 % lower with relativity, H2 is 17 % lower than its atoms
_IMPOSSIBLE = 1.5
# What is left of the ratio to all electrons by methods, relativity and bonds
_UNLIKE_BY = (0.9, 1.25)
# Energies in Hartree, 0.037 of those of all electrons, could be those of some electrons in eV. Not with these elements,
# unless there is hydrogen by itself: pseudopotentials have 0.1 or more of all electrons; tight binding 0.041 or more,
# beyond 0.07 with much hydrogen, so that Rydberg cannot be told; from free atoms 0.03 or less. With four hydrogen atoms
# for each other atom, energies of all electrons in Hartree are 1.017 times those of the atoms.
_ORGANIC = frozenset("HCNOF")
_MOST_HYDROGEN = 4
_ORGANIC_UNLIKE_BY = (0.985, 1.035)


def all_electron_energy(element: str) -> float:
    """Energy of a free atom with all its electrons, eV; to 1 %, but of heavy ones up to 20 % too high.

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
    ratios = energies / (compositions @ all_electrons)
    ratio = float(np.median(ratios))
    if ratio > _IMPOSSIBLE:
        # what H2 has depends on where energies are counted from
        unit = None if set(elements) == {"H"} else _unit(ratio)
        seems = "are not in eV" if unit is None else f"seem to be in {unit}"
    else:
        organic = _are_organic(elements, compositions)
        if 2 * np.count_nonzero(organic) < len(ratios):
            return None
        ratio = float(np.median(ratios[organic]))
        low, high = _ORGANIC_UNLIKE_BY
        if not low <= ratio * HARTREE <= high:
            return None
        seems = "seem to be in Hartree"
    return (
        f"energies {seems}: they are {ratio:.3g} times what atoms with all their electrons have in eV; convert "
        "energies and forces to eV and eV/Å"
    )


def _unit(ratio: float) -> str | None:
    low, high = _UNLIKE_BY
    return next((unit for unit, factor in _LOWER.items() if low <= ratio * factor <= high), None)


def _are_organic(elements: Sequence[str], compositions: NDArray[np.integer]) -> BoolArray:
    """(n_structures,) whether these are molecules of few light elements, without hydrogen by itself."""
    others = compositions[:, [element not in _ORGANIC for element in elements]].sum(axis=1)
    hydrogen = compositions[:, [element == "H" for element in elements]].sum(axis=1)
    heavy = compositions.sum(axis=1) - hydrogen
    return np.asarray((others == 0) & (hydrogen <= _MOST_HYDROGEN * heavy))
