"""Energies of training structures that a fit misses by far: they may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tio2nn.array_types import BoolArray, FloatArray
from tio2nn.cores import one_blas_thread
from tio2nn.potential.layers import Layer
from tio2nn.project.structure_store import StructureStore
from tio2nn.training.data import TrainingData

_MEV = 1000.0  # per eV
# Forces hold a fit where they belong, so that it hardly bends to an energy that contradicts them, and the linear part
# of the loss keeps such an energy from bending it. Of 100 structures of Si, Mo and acetylacetone three energies were
# moved by 31 meV/atom each: after a fit by default, eight of these nine were missed by 27 to 37 meV/atom, 51 to 137
# times the median and 3.7 to 34 times as much as all others, the ninth (a vacancy) by 7. Of 64 molecules: 47 to 76
# times the median, 2.7 times as much as all others. Of right energies, the one missed most is at 20 times the median
# in TiO2 (5,157 structures), 26 in Si, 17 in Mo, 12 in Li, 7 in acetylacetone, 8 in an oxide of five elements, at
# most 12 in 16 random subsets of 20 or 60 structures of Si, Mo, Ge and Li, 30 (3.8 meV/atom) in H on Cu, and 38 to 47
# in sample_data, 1.1 to 1.3 times as much as the next. One slab of Ge, whose slabs contradict its bulk, is at 80, 6
# times as much as all others.
_APART, _GAP = 40.0, 2.0  # medians, if that gap is between these energies and all others
_FAR = 80.0  # medians, even without a gap
_FRACTION = 0.1  # of the structures that may be beyond a gap
# meV/atom; a fit that goes through nearly all energies has a small median, and differences below this are not worth a
# look: they are what changes of basis sets and k-points make
_NOTICEABLE = 5.0
_FEWEST = 20  # structures; fewer are fitted too well for their median to mean anything


def missed_energies(
    members: Sequence[Sequence[Sequence[Layer]]], data: TrainingData, store: StructureStore
) -> dict[str, float]:
    """Structures of the training set whose energies a fit misses by far more than those of the others.

    Forces contradict them, their own or those of others; in a fit to energies alone nothing does, so none is found.
    Where every structure has another composition, or has no forces, a fit can learn a wrong energy, too.

    Args:
        members: for each member, for each subnet, its layers.
        data: of the fit.
        store: the structures of the project.

    Returns:
        The name and residual of each, predicted minus true, meV/atom, the largest first.
    """
    if data.train_forces is None:
        return {}
    with one_blas_thread():
        predicted = data.train.mean_energies(list(zip(*members, strict=True)))
    residuals = _MEV * (predicted - data.train_labels.energies) / data.train.n_atoms
    missed = np.flatnonzero(stand_apart(residuals, data.train_labels.weights))
    names = [store.names[k] for k in data.split.indices("train")]
    places = missed[np.argsort(-np.abs(residuals[missed]), kind="stable")]
    return {names[place]: round(float(residuals[place]), 2) for place in places}


def stand_apart(residuals: FloatArray, weights: FloatArray) -> BoolArray:
    """(n_structures,) which residuals are far larger than all others.

    Args:
        residuals: (n_structures,) meV/atom.
        weights: (n_structures,) in the loss; a structure of small weight is meant to be missed.
    """
    learned = weights > 0.0
    n = int(np.count_nonzero(learned))
    if n < _FEWEST:
        return np.zeros(len(residuals), dtype=np.bool_)
    sizes = np.abs(residuals) * np.sqrt(weights / weights[learned].mean())
    median, ordered = float(np.median(sizes[learned])), -np.sort(-sizes)
    limit = _FAR * median
    for k in range(1, int(_FRACTION * n) + 1):
        if ordered[k - 1] > max(_APART * median, _GAP * ordered[k]):
            limit = min(limit, float(ordered[k]))
    return np.asarray((sizes > limit) & (np.abs(residuals) > _NOTICEABLE))
