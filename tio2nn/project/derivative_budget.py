"""Which structures have derivatives, where those of all would not fit: decided once, recorded, then followed.

Derivatives grow with the square of the atoms of a structure: those of 70 functions take 48 GB for 100,000 structures of
24 atoms. They are read in every epoch, so that what does not stay in memory would be read from disk each time.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.files.tables import write_json
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.jacobian_store import JacobianLayout, Selection, jacobian_sizes, size_on_disk
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

RESERVE = 1e8
"""Bytes that a disk should keep free."""

# The system's cache of files shares the memory with the network and with what else runs
_OF_MEMORY = 0.5
_OF_DISK = 0.9
_PLANS = "jacobian-*.plan"


class Budget(NamedTuple):
    """How many bytes derivatives may take, and what says so: a key of `BOUNDS`."""

    n_bytes: int
    bound: str


def budget_of(directory: Path, limit: float | None) -> Budget:
    """Half of the memory or 90 % of the free disk, whichever is less.

    Args:
        directory: of the features; derivatives that lie there count as free, for the new ones take their place.
        limit: GB, instead of half of the memory.
    """
    free = shutil.disk_usage(directory).free + size_on_disk(directory)
    disk = Budget(int(max(0.0, min(_OF_DISK * free, free - RESERVE))), "disk")
    if limit is not None:
        return min(Budget(int(1e9 * limit), "limit"), disk)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(Budget(int(_OF_MEMORY * memory), "memory"), disk)


def plan_derivatives(
    sizes: IntArray,
    has_forces: BoolArray,
    groups: Sequence[str],
    compositions: IntArray,
    seed: int,
    budget_bytes: int,
) -> BoolArray:
    """Choose structures whose derivatives fit together: all with forces if they do.

    Else drawn by the seed: first one structure of each element, then one of each group, and so on, a second one of each
    group only where all have one. Among as many structures of their groups each composition comes once, then each in
    proportion to its number. One that no longer fits is left out for smaller ones behind it.

    Args:
        sizes: (n_structures,) bytes of the derivatives of each structure.
        has_forces: (n_structures,)
        groups: name of the group of each structure.
        compositions: (n_structures, n_elements) numbers of atoms.
        seed: of the draw.
        budget_bytes: what they may take together.

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
    """The structures, each group represented before any comes again, and the compositions in each such round."""
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
    """The same order, but for the first structure of each element, the rarest first, that go before all others."""
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
    """The structures that have, or shall have, derivatives: as it was decided for these inputs, else decided now.

    Args:
        project: its directory of features exists.
        insist: all that have forces, whatever it takes.

    Returns:
        None for all structures with forces.

    Raises:
        InputError: not those of one structure fit.
    """
    if insist:
        return None
    limit = parameters.training.derivatives_limit
    for path in (project.jacobian_table, *sorted(project.features_directory.glob(_PLANS))):
        recorded = _recorded(path, parameters, store)
        if recorded is not None and (recorded.selection is None or recorded.selection.limit == limit):
            return recorded.selection
    sizes = 4 * jacobian_sizes(store.n_atoms, parameters.n_features, store.has_forces)
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
            f"expected room for the derivatives of a structure, at least {smallest:.3g} GB, got {selection.reason}; "
            "train on energies alone",
            file=str(project.features_directory),
        )
    return selection


def record_plan(project: Project, layout: JacobianLayout) -> None:
    """Write down which structures were chosen, so that a computation that was killed goes on with them."""
    if layout.selection is not None:
        write_json(project.features_directory / f"{layout.file}.plan", asdict(layout))


def remove_plan(project: Project, layout: JacobianLayout) -> None:
    """`jacobian.json` says it now."""
    (project.features_directory / f"{layout.file}.plan").unlink(missing_ok=True)


def _recorded(path: Path, parameters: ParameterSet, store: StructureStore) -> JacobianLayout | None:
    """What was decided for the same functions and structures."""
    if not path.is_file():
        return None
    try:
        layout = JacobianLayout.read(path)
    except InputError:
        return None
    # the name of the file carries a digest of all that it depends on
    is_of_these = layout.file == planned_layout(parameters, store, layout.selection).file
    return layout if is_of_these else None


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
