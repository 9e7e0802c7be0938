"""Whether the derivatives of a project are those of its present parameters, structures and forces."""

from __future__ import annotations

from dataclasses import replace

from tio2nn.errors import MissingInputError, StaleError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.jacobian_store import JacobianLayout, Selection
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore


def planned_layout(
    parameters: ParameterSet, store: StructureStore, selection: Selection | None
) -> JacobianLayout:
    """What the derivatives of these structures by these functions look like, without checksums."""
    return JacobianLayout.plan(
        parameters.fingerprint,
        store.geometry_hashes,
        parameters.n_features,
        store.n_atoms,
        store.has_forces,
        selection,
    )


def fresh_layout(project: Project, parameters: ParameterSet, store: StructureStore) -> JacobianLayout:
    """The layout of a project's derivatives.

    Raises:
        MissingInputError: there are none.
        StaleError: they belong to other parameters, or to other structures with forces.
        InputError: their table cannot be read.
    """
    command = f"tio2nn featurize{project.as_option()} --forces"
    if not project.jacobian_table.exists():
        raise MissingInputError(f'no derivatives in {project.features_directory}; run "{command}" first')
    layout = JacobianLayout.read(project.jacobian_table)
    bare = replace(layout, shards=tuple(replace(shard, checksum=None) for shard in layout.shards))
    if bare != planned_layout(parameters, store, layout.selection):
        raise StaleError(
            f"the derivatives in {project.features_directory} were made with another parameter set, or from other "
            f'structures with forces; run "{command}" again'
        )
    return layout
