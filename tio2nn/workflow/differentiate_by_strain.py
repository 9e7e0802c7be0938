"""The third part of featurize: derivatives of the symmetry functions with respect to strain, for fits to stress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.job_part import JobPart
from tio2nn.parallel.progress import Track, silent
from tio2nn.parallel.shards import Workers, calculator_of
from tio2nn.parallel.workers import kernel_workers, worker_count
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.derivative_budget import planned_strains, select_derivatives
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import (
    Derivatives,
    How,
    JacobianEstimate,
    JacobianSummary,
    are_there,
    completed,
    replace_others,
)


def differentiate_by_strain(
    project: Project | Snapshot | AnyPath,
    *,
    part: tuple[int, int] | None = None,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = kernel_workers,
    jobs_are_fixed: bool = False,
    insist: bool = False,
    announce: Callable[[JacobianEstimate], None] | None = None,
    track: Track = silent,
) -> JacobianSummary:
    """Compute the missing derivatives with respect to strain for the structures of a project that have a stress.

    Where the other derivatives of all would not fit, those that have them get these, too. The others are not touched.

    Args:
        project, part, jobs, make_executor, jobs_are_fixed, insist, announce, track: as for `differentiate`.

    Raises:
        MissingInputError, TypeError, ValueError: as for `differentiate`.
        InputError: no structure has a stress, or as for `differentiate`.
    """
    how = How(JobPart.of(part), Workers(worker_count(jobs), jobs_are_fixed, make_executor, track), announce)
    snapshot = Snapshot.of(project)
    project, parameters, store = snapshot.project, snapshot.parameters, snapshot.structures
    if not store.has_bulk_stress.any():
        raise InputError(
            "expected structures with a stress, periodic along all axes, got none",
            file=str(project.structures_file),
        )
    project.features_directory.mkdir(exist_ok=True)
    selection = None
    if store.has_forces.any():
        selection = select_derivatives(project, parameters, store, insist=insist)
    layout = planned_strains(parameters, store, selection)
    is_done = are_there(snapshot.strains, layout)
    if how.part is None and not is_done:
        replace_others(project.features_directory, layout)
        project.strain_table.unlink(missing_ok=True)
    kind = Derivatives(
        "derivatives by strain",
        "strains",
        layout,
        project.strain_table,
        None,
        store.has_bulk_stress,
        is_done,
        strain_derivatives,
    )
    return completed(snapshot, kind, how)


def strain_derivatives(
    parameters: ParameterSet, structures: Sequence[Structure]
) -> Iterator[NDArray[np.floating]]:
    """The derivatives of structures with respect to strain, float32."""
    calculator = calculator_of(parameters)
    return (calculator.strain_derivatives(structure, np.float32) for structure in structures)
