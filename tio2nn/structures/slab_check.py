"""Checks the shear stresses of slabs and molecules in periodic cells against their forces.

Where a layer of vacuum lies across an axis of the cell, a strain that moves planes normal to n against each other by
v stretches nothing but the layer and the bonds in the slab, so that with heights z of the atoms along n

    volume · (stress n) · v = - sum of z (F · v)

Only shears are compared: the stress normal to the slab has errors of the basis set, in proportion to the vacuum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.structures.stress import from_voigt, to_voigt
from tio2nn.structures.stress_causes import AGREEMENT, SHEAR_ORDERS, cause_of
from tio2nn.structures.structure import Structure
from tio2nn.wording import counted

_VACUUM = 8.0  # Å, farther than atoms act on each other
_SMALLEST = 0.1  # eV; smaller moments of the forces are errors of the forces
_FEWEST = 5  # slabs
_LOOKED_AT = 5000  # structures at most, evenly chosen; each takes 0.1 ms
_FITS = 0.35  # error of a moment over its size, up to which a slab fits
_MOST, _FEW = (
    0.6,
    0.25,
)  # part of the slabs that must fit, and that may fit in the order of Voigt if another is right


@dataclass(frozen=True)
class SlabCheck:
    """What the forces of slabs tell about their shear stresses.

    Attributes:
        n: number of slabs, or layers of vacuum, whose forces tell something.
        n_fitting: of them that fit best.
        order: components in the order that fits best.
        slope: moments of forces divided by those of the stresses, in this order.
        volume: median, Å³.
        example: name of one that fits.
    """

    n: int
    n_fitting: int
    order: tuple[str, ...]
    slope: float
    volume: float
    example: str

    @property
    def cause(self) -> str:
        """What the stresses seem to be; "" if they fit the forces."""
        if self.order == SHEAR_ORDERS[0] and AGREEMENT[0] <= self.slope <= AGREEMENT[1]:
            return ""
        found = cause_of(self.slope, self.order)
        if abs(np.log(abs(self.slope) * self.volume)) < np.log(AGREEMENT[1]):
            found += " or as if they were virials" if found else "as if they were virials"
        return found or "by a factor; check units and signs"

    @property
    def doubt(self) -> str:
        """As `StressCheck.doubt`."""
        if not self.cause:
            return ""
        is_shears = self.order[:3] == SHEAR_ORDERS[0][:3] and AGREEMENT[0] <= self.slope <= AGREEMENT[1]
        return "shears" if is_shears else "stress"

    def message(self, of_part: str = "", others: str = "") -> str:
        """One line on a disagreement; `of_part` and `others` as for `StressCheck.message`."""
        return (
            f"shear stresses of slabs{of_part} do not match their forces: {self.n_fitting} of {self.n}, such as "
            f"{self.example}, fit with the factor {self.slope:.3g} {self.cause}; {others}correct the files"
        )

    def fact(self) -> str:
        """The end of a line about stresses."""
        return f"; shears of {counted(self.n, 'slab')} " + (
            "do not match forces" if self.cause else "agree with forces"
        )


def compare_slabs(structures: Sequence[Structure]) -> SlabCheck | None:
    """Compare shear stresses of slabs and molecules in periodic cells with forces.

    Returns:
        None if there are too few, or forces tell nothing that is clear.
    """
    if len(structures) > _LOOKED_AT:
        structures = [structures[k * len(structures) // _LOOKED_AT] for k in range(_LOOKED_AT)]
    found = [(structure, row) for structure in structures for row in _moments(structure)]
    if len(found) < _FEWEST:
        return None
    of_forces = np.array([row[2] for _, row in found])
    fitting, slopes = [], []
    for order in SHEAR_ORDERS:
        of_stress = np.array([_across(stress, normal, order) for _, (stress, normal, _) in found])
        votes, slope = _votes(of_stress, of_forces)
        fitting.append(votes)
        slopes.append(slope)
    n_fitting = [int(np.count_nonzero(votes)) for votes in fitting]
    best = int(np.argmax(n_fitting))
    if best and n_fitting[0] > _FEW * len(found):
        best = 0
    if n_fitting[best] < _MOST * len(found):
        return None
    volumes = [structure.volume or 1.0 for structure, _ in found]
    example = found[int(np.flatnonzero(fitting[best])[0])][0].name
    return SlabCheck(
        len(found), n_fitting[best], SHEAR_ORDERS[best], slopes[best], float(np.median(volumes)), example
    )


def _votes(of_stress: FloatArray, of_forces: FloatArray) -> tuple[NDArray[np.bool_], float]:
    """(n,) which moments (n, 3) follow from the stresses with one factor, and that factor."""
    squares = (of_stress**2).sum(axis=1)
    known = squares > 0.0
    if not known.any():
        return known, 1.0
    slope = float(np.median((of_stress * of_forces).sum(axis=1)[known] / squares[known]))
    sizes = np.maximum(np.linalg.norm(of_forces, axis=1), np.linalg.norm(slope * of_stress, axis=1))
    errors = np.linalg.norm(slope * of_stress - of_forces, axis=1)
    return np.asarray(errors <= _FITS * sizes) & (sizes > 0.0), slope


def _across(stress: FloatArray, normal: FloatArray, order: Sequence[str]) -> FloatArray:
    """(3,) shears on the plane of a stress whose components were given in this order."""
    as_read = to_voigt(stress)
    pulled = from_voigt(np.array([as_read[order.index(name)] for name in SHEAR_ORDERS[0]])) @ normal
    return np.asarray(pulled - (pulled @ normal) * normal)


def _moments(structure: Structure) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Volume times stress (3, 3), normal (3,) and shear moment of the forces (3,), eV, across each layer of vacuum."""
    if structure.stress is None or structure.forces is None or not all(structure.periodic):
        return
    inverse = np.linalg.inv(structure.cell)
    thickness = 1.0 / np.linalg.norm(inverse, axis=0)
    if thickness.max() < _VACUUM:
        return
    fractions = (structure.positions @ inverse) % 1.0
    order = np.sort(fractions, axis=0)
    gaps = np.diff(order, axis=0, append=order[:1] + 1.0)
    for axis in np.flatnonzero(gaps.max(axis=0) * thickness >= _VACUUM):
        normal, height = thickness[axis] * inverse[:, axis], thickness[axis]
        above = (int(np.argmax(gaps[:, axis])) + 1) % len(order)
        heights = height * ((fractions[:, axis] - order[above, axis]) % 1.0)
        forces = structure.forces - structure.forces.mean(axis=0)
        moment = -(heights[:, None] * forces).sum(axis=0)
        shear = moment - (moment @ normal) * normal
        if np.linalg.norm(shear) > _SMALLEST:
            yield abs(float(np.linalg.det(structure.cell))) * structure.stress, normal, shear
