"""What a fit, and the potential that it makes, know of the features of the training set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.familiarity import TrainingAtoms
from tio2nn.potential.whitening import Whitening, floor_of
from tio2nn.training.atom_table import AtomTable
from tio2nn.training.subnets import Subnets

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def whitenings_of(
    parameters: ParameterSet, table: AtomTable, sizes: Sequence[FloatArray]
) -> tuple[Whitening, ...]:
    """The whitening of each subnet.

    Args:
        parameters: with nothing left to a recipe.
        table: features of the training set, float64, not whitened.
        sizes: (n_features,) natural sizes, for each subnet.
    """
    if not parameters.network.whitening:
        return tuple(map(Whitening.standardization, table.features, sizes))
    given = parameters.network.whitening_floor
    floors = [
        floor_of(len(part), n_structures) if given is None else given
        for part, n_structures in zip(table.features, np.count_nonzero(table.counts, axis=0), strict=True)
    ]
    return tuple(map(Whitening.fit, table.features, floors, sizes))


def training_atoms_of(
    parameters: ParameterSet,
    table: AtomTable,
    subnets: Subnets,
    elements: IntArray,
    whitenings: Sequence[Whitening],
) -> tuple[TrainingAtoms, ...]:
    """Training atoms of each element, drawn by the seed; `elements` (n_atoms,) separates those of a shared subnet."""
    random = np.random.default_rng(parameters.training.seed)
    found = []
    for k, subnet in enumerate(subnets.of_element):
        features, structures = table.features[subnet], table.segments(subnet)
        if subnets.are_shared:
            features, structures = features[elements == k], structures[elements == k]
        found.append(TrainingAtoms.fit(features, structures, whitenings[subnet], random))
    return tuple(found)
