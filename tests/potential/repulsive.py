"""A repulsion of nuclei, a potential that has it, and two atoms for it to drive apart."""

from __future__ import annotations

import numpy as np
from potentials import make_potential

from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

FREE = (False, False, False)
OUTER = np.array([[2.9, 2.2], [2.2, 2.5]])  # Å, Ti and O
REPULSION = Repulsion(("Ti", "O"), OUTER)
REPELLING = make_potential(repulsion=REPULSION)


def pair(r: float, elements: tuple[str, str] = ("Ti", "O")) -> Structure:
    """Two atoms at a distance, askew."""
    positions = np.array([[0.3, -0.1, 0.2], [0.0, 0.0, 0.0]])
    positions[1] = positions[0] + r * np.array([0.48, -0.6, 0.64])
    return Structure("pair", elements, positions, np.zeros((3, 3)), FREE)
