"""The states of features and derivatives, and how far the parts of a job array have got with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.kernel_version import fingerprint, is_of_older_kernels
from tio2nn.errors import InputError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.derivative_budget import plan_file, planned_layout, planned_strains, recorded_layout
from tio2nn.project.feature_store import Manifest, plan_shards
from tio2nn.project.jacobian_pieces import missing_shards
from tio2nn.project.jacobian_store import (
    JacobianLayout,
    Selection,
    ShardLedger,
    StrainLayout,
    open_jacobian,
)
from tio2nn.project.job_parts import PartNotes
from tio2nn.project.parts import BROKEN, DERIVATIVES, FEATURES, FRESH, MISSING, STALE, State
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.wording import counted, size


def state_of_features(project: Project, parameters: ParameterSet, geometries: str | None) -> State:
    """The state of the features.

    Args:
        project: may have features.
        parameters: of the project.
        geometries: digest of all geometries; None if there are no structures.
    """
    directory, manifest_file = project.features_directory, project.features_manifest
    if not manifest_file.exists():
        shards = len(list(directory.glob("shard-*.npz")))
        what = f"interrupted, {counted(shards, 'shard')} done" if shards else ""
        return State(MISSING, what)
    try:
        manifest = Manifest.read(manifest_file)
    except InputError as error:
        return State(BROKEN, str(error))
    made = {}
    if is_of_older_kernels(manifest.fingerprint, parameters):
        made["functions"] = "by an earlier version of tio2nn, whose numbers differ in the last digits"
    elif manifest.fingerprint != fingerprint(parameters):
        made["functions"] = "with another parameter set (elements, cutoff or functions)"
    if geometries is not None and manifest.structures != geometries:
        made["geometries"] = "from other structures"
    if made:
        of = tuple(name for name in FEATURES.records if name in made)
        return State(STALE, f"made {' and '.join(made.values())}", of)
    lost = [s.file for s in manifest.shards if not (directory / s.file).exists()]
    if lost:
        are = "is" if len(lost) == 1 else "are"
        return State(BROKEN, f"{len(lost)} of {counted(len(manifest.shards), 'shard')} {are} missing")
    n_atoms = sum(shard.n_atoms for shard in manifest.shards)
    functions = counted(len(manifest.feature_names), "function")
    return State(FRESH, f"{counted(n_atoms, 'atom')} × {functions}")


def state_of_derivatives(project: Project, parameters: ParameterSet, store: StructureStore) -> State:
    """The state of the derivatives of these structures."""
    kind = _Kind(JacobianLayout, planned_layout, project.jacobian_table, "forces", store.has_forces)
    found = _state(project, parameters, store, kind)
    return _with_parts_of(found, _parts_with_derivatives, project, parameters, store)


def state_of_strains(project: Project, parameters: ParameterSet, store: StructureStore) -> State:
    """The state of the derivatives with respect to strain of these structures."""
    kind = _Kind(StrainLayout, planned_strains, project.strain_table, "stress", store.has_bulk_stress)
    found = _state(project, parameters, store, kind)
    return _with_parts_of(found, _parts_with_strains, project, parameters, store)


def with_parts(found: State, parts: str) -> State:
    """The state with what the parts of a job array have done."""
    if not parts:
        return found
    return found._replace(what=f"{found.what}; {parts}" if found.kind == STALE else parts)


def _with_parts_of(
    found: State,
    parts: Callable[[Project, ParameterSet, StructureStore], str],
    project: Project,
    parameters: ParameterSet,
    store: StructureStore,
) -> State:
    return found if found.kind in (FRESH, BROKEN) else with_parts(found, parts(project, parameters, store))


class _Kind(NamedTuple):
    """A kind of derivatives.

    Attributes:
        layout: reads their table.
        planned: the layout that they would have.
        table: their table.
        label: that they are for.
        is_labeled: (n_structures,) which structures have that label.
    """

    layout: type[JacobianLayout]
    planned: Callable[[ParameterSet, StructureStore, Selection | None], JacobianLayout]
    table: Path
    label: str
    is_labeled: NDArray[np.bool_]


def _state(project: Project, parameters: ParameterSet, store: StructureStore, kind: _Kind) -> State:
    if not kind.table.exists():
        return State(MISSING)
    try:
        layout = kind.layout.read(kind.table)
        if layout.as_planned() != kind.planned(parameters, store, layout.selection):
            others = f"made with another parameter set, by another version, or from other structures with {kind.label}"
            return State(STALE, others, DERIVATIVES.records)
        open_jacobian(project.features_directory, layout)
    except InputError as error:
        return State(BROKEN, str(error))
    n_chosen, n_labeled = (
        int(mask.sum()) for mask in (layout.has_derivatives(kind.is_labeled), kind.is_labeled)
    )
    what = counted(n_chosen, "structure")
    if layout.selection is not None:
        what = f"{n_chosen} of {counted(n_labeled, 'structure')} with {kind.label}"
    return State(FRESH, f"{what}, {size(layout.n_bytes)}")


def parts_with_features(notes: PartNotes, parameters: ParameterSet, store: StructureStore) -> str:
    """Which parts of a job array have computed their features, for messages; "" if there is no array."""
    if not notes.are_there:
        return ""
    shards = plan_shards(fingerprint(parameters), store.geometry_hashes, store.n_atoms.tolist())
    there = {path.name for path in notes.directory.iterdir()}
    return notes.done([place for place, shard in enumerate(shards) if shard.file not in there])


def _parts_with_derivatives(project: Project, parameters: ParameterSet, store: StructureStore) -> str:
    """Which parts of a job array have computed their derivatives, for messages; "" if there is no array."""
    directory = project.features_directory
    recorded = recorded_layout(plan_file(project, parameters, store), parameters, store)
    for layout in filter(None, (recorded, planned_layout(parameters, store, None))):
        notes = PartNotes(directory, "derivatives", layout.file)
        path = directory / layout.file
        if not notes.are_there:
            continue
        # without the file its ledger means nothing
        finished = ShardLedger(path, layout).checksums if path.exists() else {}
        if told := notes.done(missing_shards(path, layout, finished)):
            return told
    return ""


def _parts_with_strains(project: Project, parameters: ParameterSet, store: StructureStore) -> str:
    """As `_parts_with_derivatives`, of the derivatives with respect to strain."""
    directory = project.features_directory
    recorded = recorded_layout(project.jacobian_table, parameters, store)
    recorded = recorded or recorded_layout(plan_file(project, parameters, store), parameters, store)
    layout = planned_strains(parameters, store, None if recorded is None else recorded.selection)
    notes, path = PartNotes(directory, "strains", layout.file), directory / layout.file
    if not notes.are_there:
        return ""
    finished = ShardLedger(path, layout).checksums if path.exists() else {}
    return notes.done(missing_shards(path, layout, finished))
