"""Facts about the structures of a project that the recipe for a fit needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import resolve, uses_forces, uses_stress
from tio2nn.parameters.training_size import Facts
from tio2nn.project.jacobian_store import Selection, jacobian_sizes, strain_sizes, with_derivatives
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import Split
from tio2nn.wording import counted


def are_used(parameters: ParameterSet, store: StructureStore) -> NDArray[np.bool_]:
    """(n_structures,) which structures are used at all: neither above the energy limit nor gross outliers."""
    settings = parameters.training
    are_low = store.are_up_to(settings.max_energy)
    return are_low if settings.outliers == "keep" else are_low & ~store.gross_outliers


def why_left_out(parameters: ParameterSet, store: StructureStore, structures: NDArray[np.bool_]) -> str:
    """The end of a message: why some of these structures are not used; "" if all are.

    Args:
        structures: (n_structures,) the structures in question.
    """
    settings = parameters.training
    n_above = int(np.count_nonzero(structures & ~store.are_up_to(settings.max_energy)))
    n_gross = int(np.count_nonzero(structures & store.gross_outliers)) if settings.outliers != "keep" else 0
    reasons = []
    if n_above:
        are = counted(n_above, "structure is", "structures are")
        reasons.append(f"{are} left out, above --max-energy {settings.max_energy:g} eV/atom")
    if n_gross:
        are = counted(n_gross, "gross outlier is", "gross outliers are")
        reasons.append(f"{are} left out (keep with --keep-outliers)")
    return "".join(f"; {reason}" for reason in reasons)


def facts_of(
    parameters: ParameterSet, store: StructureStore, split: Split, selection: Selection | None = None
) -> Facts:
    """The facts about the training set.

    Args:
        selection: structures whose forces can be trained on, if not all with forces.
    """
    train = split.restricted_to(are_used(parameters, store)).indices("train")
    has_forces = with_derivatives(store.has_forces, selection)[train]
    has_stress = with_derivatives(store.has_bulk_stress, selection)[train]
    n_atoms = store.n_atoms[train]
    return Facts(
        n_structures=len(train),
        n_atoms=int(n_atoms.sum()),
        n_structures_with_forces=int(has_forces.sum()),
        n_force_components=3 * int(n_atoms[has_forces].sum()),
        n_derivatives=int(jacobian_sizes(n_atoms, parameters.n_features, has_forces).sum()),
        n_features=parameters.n_features,
        n_elements=len(parameters.elements),
        n_structures_with_stress=int(has_stress.sum()),
        n_strain_derivatives=int(strain_sizes(n_atoms, parameters.n_features, has_stress).sum()),
        doubts=tuple(store.label_notes.doubts),
    )


def resolved(
    parameters: ParameterSet, store: StructureStore, split: Split, selection: Selection | None = None
) -> ParameterSet:
    """The parameters with the recipe resolved for this training set; `selection` as in `facts_of`."""
    return resolve(parameters, facts_of(parameters, store, split, selection))


def needs_strains(parameters: ParameterSet, store: StructureStore) -> bool:
    """Whether a fit with these parameters needs derivatives of the features with respect to strain."""
    return uses_stress(parameters, int(store.has_bulk_stress.sum()), store.label_notes.doubts)


def needs_derivatives(parameters: ParameterSet, store: StructureStore) -> bool:
    """Whether a fit with these parameters needs derivatives of the features."""
    return uses_forces(parameters, int(store.has_forces.sum()), store.label_notes.doubts)
