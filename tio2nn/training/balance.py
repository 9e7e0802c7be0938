"""Weights of structures in the loss."""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError


def density_weights(energies_per_atom: FloatArray, strength: float) -> FloatArray:
    """Weights that favor rare energies: density of energies to the power -strength, with mean 1.

    The density comes from a histogram with bins by the Freedman-Diaconis rule.

    Args:
        energies_per_atom: (n_structures,) eV/atom.
        strength: from 0 (equal weights) to 1 (equal weight for every bin).

    Returns:
        (n_structures,)
    """
    if strength == 0.0 or np.ptp(energies_per_atom) == 0.0:
        return np.ones(len(energies_per_atom))
    counts, edges = np.histogram(energies_per_atom, bins="fd")
    bins = np.clip(np.searchsorted(edges, energies_per_atom, side="right") - 1, 0, len(counts) - 1)
    weights = counts[bins].astype(np.float64) ** -strength
    return np.asarray(weights / weights.mean())


def weighted(weights: FloatArray, given: FloatArray) -> FloatArray:
    """(n_structures,) weights times those that the files give, with mean 1.

    Raises:
        InputError: they are all zero.
    """
    found = weights * given
    if not found.any():
        raise InputError("expected weights above 0 in the training set, got none")
    return np.asarray(found / found.mean())
