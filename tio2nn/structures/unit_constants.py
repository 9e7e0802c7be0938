"""Notices energies that were converted to eV with different constants, where a structure is there twice.

Total energies of all-electron calculations are large: at −69,000 eV the Hartree of 2006 and that of 2018 make a
difference of 6 meV, more than a good fit errs, and so do two programs that read the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

# eV in a Hartree
_HARTREES: tuple[tuple[str, float], ...] = (
    ("CODATA 1986", 27.2113961),
    ("CODATA 1998", 27.2113834),
    ("CODATA 2002", 27.2113845),
    ("CODATA 2006", 27.21138386),
    ("CODATA 2010", 27.21138505),
    ("CODATA 2014", 27.21138602),
    ("CODATA 2018", 27.211386245988),
    ("27.2114 eV", 27.2114),
    ("27.21138 eV", 27.21138),
    ("27.211 eV", 27.211),
    ("13.605826 eV for a Rydberg", 27.211652),
)
_ROUNDING = 2e-6  # eV; programs print six decimals at least
_TYPING = 1e-9  # relative; programs round the constants themselves
_LARGEST = 3e-5  # relative; constants differ by less
_ALIKE = 0.1  # of a difference: scatter of the pairs that have it
_MOST_OTHERS = 0.2  # of the pairs


@dataclass(frozen=True)
class MixedConstants:
    """Energies of the same structures that differ as two constants do.

    Attributes:
        n: number of structures that are there twice.
        relative: difference of their energies over the energies.
        largest: largest difference, eV.
        files: of the pair with the largest.
        constants: what the energies seem to have been converted with.
    """

    n: int
    relative: float
    largest: float
    files: tuple[str, str]
    constants: tuple[str, str]

    def message(self) -> str:
        """One line: what was found, and what to do."""
        one, other = self.files
        first, second = self.constants
        twice = counted(self.n, "structure that is there twice", "structures that are there twice")
        return (
            f"the energies of {twice} differ by {self.relative:.2g} of their size, up to {1000 * self.largest:.2g} meV "
            f"({one}, {other}), as if Hartree were converted with {first} and {second}; convert all with one constant"
        )


def mixed_constants(structures: Sequence[Structure], duplicate_of: Sequence[int]) -> MixedConstants | None:
    """The constants that energies of the same structure in different files tell, if they are two.

    Args:
        structures: in natural order.
        duplicate_of: (n_structures,) first structure with the same geometry, or -1.

    Returns:
        None if energies agree, or differ otherwise.
    """
    differences, sizes, files = [], [], []
    for structure, first in zip(structures, duplicate_of, strict=True):
        other = structures[first]
        if first < 0 or structure.file == other.file or not structure.energy or not other.energy:
            continue
        if (difference := abs(structure.energy - other.energy)) > 0.0:
            differences.append(difference)
            sizes.append(max(abs(structure.energy), abs(other.energy)))
            files.append((other.file, structure.file))
    if not files:
        return None
    apart, energies = np.array(differences), np.array(sizes)
    # differences that printed digits explain tell nothing
    told = apart > 3.0 * _ROUNDING
    if np.count_nonzero(told) < (1.0 - _MOST_OTHERS) * len(apart):
        return None
    relative = float(np.median(apart[told] / energies[told]))
    error = _TYPING + float(np.median(_ROUNDING / energies[told]))
    scatter = np.abs(apart[told] / energies[told] - relative)
    alike = scatter <= np.maximum(_ALIKE * relative, _ROUNDING / energies[told])
    if relative > _LARGEST or np.count_nonzero(~alike) > _MOST_OTHERS * len(apart):
        return None
    known = [
        (abs(relative - abs(one / other - 1.0)), (first, second))
        for (first, one), (second, other) in combinations(_HARTREES, 2)
    ]
    distance, constants = min(known)
    if distance > error or error > 0.5 * relative:
        return None
    largest = int(np.argmax(apart))
    return MixedConstants(
        int(np.count_nonzero(told)), relative, float(apart[largest]), files[largest], constants
    )
