"""Units in which programs write energies and lengths, to as many digits as it takes to recognize them."""

from __future__ import annotations

HARTREE = 27.211386
RYDBERG = HARTREE / 2
KCAL_PER_MOL = 1 / 23.0605
KJ_PER_MOL = 1 / 96.4853
"""eV, as those above."""

BOHR = 0.529177
"""Å"""
