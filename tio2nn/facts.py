"""What a recipe asks of a project's structures, before anything is fitted to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tio2nn.io.jacobians import jacobian_sizes
from tio2nn.io.store import StructureStore
from tio2nn.parameters import ParameterSet
from tio2nn.recipes import Facts, resolve, uses_forces
from tio2nn.split import Split


def are_used(parameters: ParameterSet, store: StructureStore) -> NDArray[np.bool_]:
    """(n_structures,) which are in a part at all: neither above the largest energy nor gross outliers."""
    settings = parameters.training
    are_low = store.are_up_to(settings.max_energy)
    return are_low if settings.outliers == "keep" else are_low & ~store.gross_outliers


def facts_of(parameters: ParameterSet, store: StructureStore, split: Split) -> Facts:
    """Those of the training part."""
    train = split.restricted_to(are_used(parameters, store)).indices("train")
    has_forces = store.has_forces[train]
    n_atoms = store.n_atoms[train]
    return Facts(
        n_structures=len(train),
        n_atoms=int(n_atoms.sum()),
        n_structures_with_forces=int(has_forces.sum()),
        n_force_components=3 * int(n_atoms[has_forces].sum()),
        n_derivatives=int(jacobian_sizes(n_atoms, parameters.n_features, has_forces).sum()),
        n_features=parameters.n_features,
        n_elements=len(parameters.elements),
    )


def resolved(parameters: ParameterSet, store: StructureStore, split: Split) -> ParameterSet:
    """The set as a fit to this training part takes it."""
    return resolve(parameters, facts_of(parameters, store, split))


def needs_derivatives(parameters: ParameterSet, store: StructureStore) -> bool:
    """Whether a fit by this set needs derivatives of the features of these structures."""
    return uses_forces(parameters, int(store.has_forces.sum()))
