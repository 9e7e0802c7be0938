"""The stress of a structure as a label: its sign, the order of its components, and which stresses are used.

A stress is the derivative of the energy with respect to strain over the volume, in eV/Å³, positive under tension, as in
ASE; a virial is minus the volume times the stress, in eV. Of six numbers the order is Voigt's: xx, yy, zz, yz, xz, xy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray

VOIGT: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Row and column of each component: xx, yy, zz, yz, xz, xy."""

GPA = 160.21766208
"""1 eV/Å³ in GPa."""

# of the largest component, and eV/Å³: programs on a grid break the symmetry, but by less
_ASYMMETRY, _SMALLEST = 0.01, 1e-5
# eV/Å³, 160 million GPa; stresses in kbar, far beyond those in eV/Å³, are read, so that the audit can tell them
_LARGEST = 1e6


class UsableStress(NamedTuple):
    """A stress, or why there is none.

    Attributes:
        stress: (3, 3) symmetric, eV/Å³, or None.
        reason: why a given stress is not used, after "ignored: "; None if it is.
    """

    stress: FloatArray | None
    reason: str | None


def usable_stress(given: object, periodic: Sequence[bool], scale: float = 1.0) -> UsableStress:
    """The stress that was given, if it is one that can be learned.

    Args:
        given: (3, 3), (9,) or (6,) numbers; None for no stress.
        periodic: along each cell vector; the stress of a slab or molecule depends on a cell that is no part of it.
        scale: the factor to eV/Å³; of virials −1/volume.
    """
    if given is None:
        return UsableStress(None, None)
    try:
        numbers = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        return UsableStress(None, "expected six or nine numbers, got something else")
    if numbers.size not in (6, 9) or numbers.ndim > 2:
        return UsableStress(None, f"expected six or nine numbers, got {numbers.size}")
    if not all(periodic):
        return UsableStress(None, "expected three periodic axes, got fewer")
    tensor = from_voigt(numbers.ravel()) if numbers.size == 6 else numbers.reshape(3, 3)
    if not np.isfinite(tensor).all():
        return UsableStress(None, "expected finite numbers, got NaN or infinity")
    if not tensor.any():
        # of programs that print a stress, computed or not; one that vanishes in all digits is no loss
        return UsableStress(None, "expected numbers that were computed, got zeros only")
    tensor = tensor * scale
    if (largest := float(np.abs(tensor).max())) > _LARGEST:
        return UsableStress(None, f"expected at most {_LARGEST:g} eV/Å³, got more")
    if np.abs(tensor - tensor.T).max() > max(_ASYMMETRY * largest, _SMALLEST):
        return UsableStress(None, "expected a symmetric matrix, got another")
    return UsableStress(0.5 * (tensor + tensor.T), None)


def from_voigt(components: FloatArray) -> FloatArray:
    """(..., 3, 3) symmetric matrices of their (..., 6) components in Voigt's order."""
    found = np.empty((*components.shape[:-1], 3, 3))
    for k, (row, column) in enumerate(VOIGT):
        found[..., row, column] = found[..., column, row] = components[..., k]
    return found


def to_voigt(tensors: FloatArray) -> FloatArray:
    """(..., 6) components, in Voigt's order, of (..., 3, 3) symmetric matrices."""
    return np.stack([tensors[..., row, column] for row, column in VOIGT], axis=-1)
