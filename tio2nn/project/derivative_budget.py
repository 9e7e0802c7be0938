"""Chooses the structures that get derivatives if not all fit: decided once, recorded, then followed.

Derivatives grow with the square of the number of atoms: 70 functions take 48 GB for 100,000 structures of 24 atoms.
What exceeds the memory is read from disk in each epoch, as fast as the disk can.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import BoolArray, IntArray
from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.errors import InputError
from tio2nn.files.atomic import write_once
from tio2nn.files.digests import digest_of
from tio2nn.files.strict_json import format_json
from tio2nn.files.tables import write_json
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.jacobian_store import (
    JacobianLayout,
    Selection,
    StrainLayout,
    jacobian_sizes,
    size_on_disk,
    strain_sizes,
)
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore

RESERVE = 1e8
"""Bytes to keep free on the disk."""

_OF_DISK = 0.9


class Budget(NamedTuple):
    """How many bytes derivatives may take, and what limits them: a key of `BOUNDS`."""

    n_bytes: int
    bound: str


def budget_of(directory: Path, limit: float | None) -> Budget:
    """90 % of the free disk space, or a limit that is less.

    Args:
        directory: of the features; derivatives there count as free space, as new ones replace them.
        limit: GB; None for none.
    """
    free = shutil.disk_usage(directory).free + size_on_disk(directory)
    disk = Budget(int(max(0.0, min(_OF_DISK * free, free - RESERVE))), "disk")
    return disk if limit is None else min(Budget(int(1e9 * limit), "limit"), disk)


def plan_derivatives(
    sizes: IntArray,
    has_forces: BoolArray,
    groups: Sequence[str],
    compositions: IntArray,
    seed: int,
    budget_bytes: int,
) -> BoolArray:
    """Choose structures whose derivatives fit into the budget: all with forces if possible.

    Otherwise structures are drawn at random: first one for each element, then one from each group, then a second from
    each group, and so on. Within each round, every composition comes once, and then in proportion to its number. A
    structure that no longer fits is skipped in favor of smaller ones.

    Args:
        sizes: (n_structures,) bytes of the derivatives of each structure.
        has_forces: (n_structures,)
        groups: name of the group of each structure.
        compositions: (n_structures, n_elements) numbers of atoms.
        seed: for the draw.
        budget_bytes: total size allowed.

    Returns:
        (n_structures,) whether each is chosen.
    """
    candidates = np.flatnonzero(has_forces)
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    if sizes[candidates].sum() <= budget_bytes:
        chosen[candidates] = True
        return chosen
    drawn = np.random.default_rng(seed).permutation(candidates)
    left = budget_bytes
    for k in _elements_first(_spread(drawn, groups, compositions), compositions):
        if sizes[k] <= left:
            chosen[k] = True
            left -= int(sizes[k])
    return chosen


def _spread(drawn: IntArray, groups: Sequence[str], compositions: IntArray) -> IntArray:
    """The structures in rounds, one per group in each, with the compositions spread over each round."""
    rounds: dict[int, list[int]] = defaultdict(list)
    uses: Counter[str] = Counter()
    for k in drawn.tolist():
        rounds[uses[groups[k]]].append(k)
        uses[groups[k]] += 1
    _, kinds = np.unique(compositions, axis=0, return_inverse=True)
    kind_of = kinds.reshape(-1).tolist()
    order: list[int] = []
    for number in sorted(rounds):
        members = rounds[number]
        totals = Counter(kind_of[k] for k in members)
        places: Counter[int] = Counter()
        keys = []
        for k in members:
            kind = kind_of[k]
            keys.append((places[kind] > 0, (places[kind] + 0.5) / totals[kind]))
            places[kind] += 1
        order.extend(k for _, k in sorted(zip(keys, members, strict=True), key=lambda pair: pair[0]))
    return np.array(order, dtype=np.int64)


def _elements_first(order: IntArray, compositions: IntArray) -> list[int]:
    """The same order, but with the first structure of each element, rarest element first, ahead of all others."""
    contains = compositions[order] > 0
    leading: dict[int, None] = {}
    for element in np.argsort(contains.sum(axis=0), kind="stable"):
        having = np.flatnonzero(contains[:, element])
        if len(having) and not any(contains[place, element] for place in leading):
            leading[int(having[0])] = None
    places = [*leading, *(place for place in range(len(order)) if place not in leading)]
    return [int(k) for k in order[places]]


def select_derivatives(
    project: Project, parameters: ParameterSet, store: StructureStore, *, insist: bool
) -> Selection | None:
    """The structures to have derivatives: the recorded choice for these inputs, or else a new one.

    Args:
        project: its features directory exists.
        insist: take all structures with forces, whatever the size.

    Returns:
        None for all structures with forces.

    Raises:
        InputError: the derivatives of not even one structure fit.
    """
    if insist:
        return None
    limit = parameters.training.derivatives_limit
    for path in (project.jacobian_table, plan_file(project, parameters, store)):
        recorded = recorded_layout(path, parameters, store)
        if recorded is not None and (recorded.selection is None or recorded.selection.limit == limit):
            return recorded.selection
    sizes = jacobian_sizes(store.n_atoms, parameters.n_features, store.has_forces)
    if parameters.training.stress is not False:
        # those with respect to strain belong to the same structures
        sizes += strain_sizes(store.n_atoms, parameters.n_features, store.has_forces & store.has_bulk_stress)
    sizes *= 4  # bytes
    budget = budget_of(project.features_directory, limit)
    chosen = plan_derivatives(
        sizes,
        store.has_forces,
        store.groups,
        store.compositions(store.elements),
        parameters.training.seed,
        budget.n_bytes,
    )
    if (chosen == store.has_forces).all():
        return None
    selection = Selection.of(chosen, budget.bound, budget.n_bytes, limit)
    if not chosen.any():
        smallest = sizes[store.has_forces].min() / 1e9
        raise InputError(
            f"cannot store derivatives: those of the smallest structure take {smallest:.3g} GB, more than "
            f"{selection.reason}; train with --energies-only",
            file=str(project.features_directory),
        )
    return selection


def plan_file(project: Project, parameters: ParameterSet, store: StructureStore) -> Path:
    """The record of the chosen structures, which `jacobian.json` replaces when all are computed.

    Its name contains a digest of what the choice depends on, machine apart.
    """
    training = parameters.training
    depends_on = [
        fingerprint(parameters),
        *store.geometry_hashes,
        np.packbits(store.has_forces).tobytes().hex(),
        repr(training.derivatives_limit),
        repr(training.seed),
    ]
    return project.features_directory / f"jacobian-{digest_of(depends_on)}.plan"


def record_plan(path: Path, layout: JacobianLayout) -> None:
    """Record the chosen structures, so that a computation that was killed resumes with them."""
    write_json(path, asdict(layout))


def settle_plan(
    path: Path, layout: JacobianLayout, parameters: ParameterSet, store: StructureStore
) -> JacobianLayout:
    """Record the chosen structures unless another machine has done so, and return what is recorded.

    Machines with more or less memory would choose differently; the first decides for all parts of a job array.

    Raises:
        InputError: the record cannot be read.
    """
    write_once(path, format_json(asdict(layout)))
    settled = recorded_layout(path, parameters, store)
    if settled is None:
        raise InputError(
            "expected a choice of structures, got something else; delete this file", file=str(path)
        )
    return settled


def recorded_layout(path: Path, parameters: ParameterSet, store: StructureStore) -> JacobianLayout | None:
    """A recorded choice for the same functions and structures, or None."""
    if not path.is_file():
        return None
    try:
        layout = JacobianLayout.read(path)
    except InputError:
        return None
    # the file name contains a digest of everything that its content depends on
    is_of_these = layout.file == planned_layout(parameters, store, layout.selection).file
    return layout if is_of_these else None


def planned_layout(
    parameters: ParameterSet, store: StructureStore, selection: Selection | None
) -> JacobianLayout:
    """The layout of the derivatives of these structures, without checksums."""
    return JacobianLayout.plan(
        fingerprint(parameters),
        store.geometry_hashes,
        parameters.n_features,
        store.n_atoms,
        store.has_forces,
        selection,
    )


def planned_strains(
    parameters: ParameterSet, store: StructureStore, selection: Selection | None
) -> StrainLayout:
    """As `planned_layout`, of the derivatives with respect to strain; `selection` is that of the others."""
    return StrainLayout.plan(
        fingerprint(parameters),
        store.geometry_hashes,
        parameters.n_features,
        store.n_atoms,
        store.has_bulk_stress,
        selection,
    )
