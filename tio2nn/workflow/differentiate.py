"""The second half of featurize: derivatives of the symmetry functions for all structures with forces."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import compile_kernels
from tio2nn.errors import InputError, Tio2nnError
from tio2nn.files.paths import AnyPath
from tio2nn.job_part import JobPart
from tio2nn.parallel.progress import Track, silent
from tio2nn.parallel.remote import is_remote
from tio2nn.parallel.shards import ShardWork, Workers, calculator_of, carry_out, measured_seconds
from tio2nn.parallel.workers import kernel_workers, worker_count
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.derivative_budget import (
    RESERVE,
    plan_file,
    planned_layout,
    record_plan,
    select_derivatives,
    settle_plan,
)
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_pieces import (
    collect_pieces,
    missing_shards,
    pieces_there,
    write_piece,
)
from tio2nn.project.jacobian_store import (
    JacobianLayout,
    JacobianShard,
    ShardLedger,
    byte_span,
    jacobian_sizes,
    remove_other_jacobians,
    write_jacobian_shard,
)
from tio2nn.project.job_parts import PartNotes
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import Structure

_SAMPLE_ATOMS = 200  # sample for the time estimate: about 50 ms


@dataclass(frozen=True)
class JacobianEstimate:
    """Estimated cost of the derivatives.

    Attributes:
        n_structures, n_atoms: number still to be computed.
        n_features: number of symmetry functions.
        jobs: number of processes.
        seconds: wall time on `jobs` processes.
        disk_bytes: size of the whole file.
        n_left_out: number of structures with forces whose derivatives would not fit.
        bound: the limit that they would exceed, as text.
        undone_parts: parts of a job array that have left work, as text.
    """

    n_structures: int
    n_atoms: int
    n_features: int
    jobs: int
    seconds: float
    disk_bytes: float
    n_left_out: int = 0
    bound: str = ""
    undone_parts: str = ""


@dataclass(frozen=True)
class JacobianSummary:
    """Result of computing the derivatives.

    Attributes:
        n_structures: number of structures in the project, or in the part, that now have derivatives.
        n_computed: number of structures computed in this run; the others existed before.
        n_left_out: number of structures with forces whose derivatives would not fit.
        n_without_forces: number of structures without forces.
        disk_bytes: size of the file, or of the part.
        seconds: wall time.
    """

    n_structures: int
    n_computed: int
    n_left_out: int
    n_without_forces: int
    disk_bytes: float
    seconds: float


def differentiate(
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
    """Compute the missing derivatives for the structures of a project that have forces.

    Args:
        insist: compute all of them, even if they exceed the limits in `derivative_budget`.
        project, part, jobs, make_executor, jobs_are_fixed, track: as for `compute_features`.
        announce: called with the estimate before the work begins.

    Raises:
        MissingInputError: there are no parameters or no structures.
        InputError: no structure has forces, the disk is too small, a structure cannot be described, or a worker
            process died.
        TypeError, ValueError: jobs is no positive whole number, or there is no such part.
    """
    begin = time.perf_counter()
    n_workers, own = worker_count(jobs), JobPart.of(part)
    snapshot = Snapshot.of(project)
    project, parameters, store = snapshot.project, snapshot.parameters, snapshot.structures
    has_forces = store.has_forces
    if not has_forces.any():
        raise InputError(
            "expected structures with forces, got none: train on energies, without --forces",
            file=str(project.structures_file),
        )
    directory = project.features_directory
    directory.mkdir(exist_ok=True)
    selection = select_derivatives(project, parameters, store, insist=insist)
    layout = planned_layout(parameters, store, selection)
    plan = plan_file(project, parameters, store)
    are_there = _are_there(snapshot, layout)
    if own is not None and not (insist or are_there):
        layout = settle_plan(plan, layout, parameters, store)
    has_derivatives = layout.has_derivatives(has_forces)
    shards = layout.shards if own is None else own.share(layout.shards)
    n_structures = sum(int(has_derivatives[shard.first : shard.last].sum()) for shard in shards)
    summary = JacobianSummary(
        n_structures=n_structures,
        n_computed=0,
        n_left_out=int((has_forces & ~has_derivatives).sum()),
        n_without_forces=int((~has_forces).sum()),
        disk_bytes=sum(len(byte_span(shard)) for shard in shards),
        seconds=0.0,
    )
    if are_there:
        return replace(summary, seconds=time.perf_counter() - begin)
    path = directory / layout.file
    if own is None:
        remove_other_jacobians(directory, layout, plan)
        project.jacobian_table.unlink(missing_ok=True)
        if not insist:
            record_plan(plan, layout)
    ledger = ShardLedger(path, layout)
    _check_disk(directory, path, layout)
    if own is None:
        pieces = pieces_there(path, layout)
        with track("collecting derivatives", sum(len(byte_span(shard)) for shard in pieces)) as advance:
            collect_pieces(path, layout, ledger, advance)
    left = missing_shards(path, layout, ledger.checksums)
    notes = PartNotes(directory, "derivatives", layout.file)
    missing = [layout.shards[place] for place in left]
    if own is not None:
        missing = [shard for shard in shards if shard in missing]
        notes.write(own)
    pending = [k for shard in missing for k in range(shard.first, shard.last) if has_derivatives[k]]
    if pending:
        compile_kernels(derivatives=True)
        chosen = _Chosen(store, has_derivatives)
        work: ShardWork[JacobianShard, Any] = ShardWork(
            title="derivatives of symmetry functions",
            run=differentiate_shard if own is None else differentiate_piece,
            task=lambda shard: (parameters, chosen.structures(shard), path, shard),
            structures=chosen.structures,
            n_atoms=chosen.n_atoms,
            compute=partial(_jacobians, parameters),
            on_done=ledger.append if own is None else lambda *_: None,
        )
        if is_remote(make_executor):
            # machines that write into one file at once damage each other's pages: this one alone writes
            work = replace(
                work,
                run=jacobians_of_shard,
                task=lambda shard: (parameters, chosen.structures(shard)),
                on_done=lambda shard, found: ledger.append(shard, write_jacobian_shard(path, shard, found)),
            )

        def announced(n_jobs: int, seconds: float) -> None:
            if announce is not None:
                n_atoms = int(store.n_atoms[pending].sum())
                announce(
                    JacobianEstimate(
                        n_structures=len(pending),
                        n_atoms=n_atoms,
                        n_features=parameters.n_features,
                        jobs=n_jobs,
                        seconds=seconds,
                        disk_bytes=summary.disk_bytes,
                        n_left_out=summary.n_left_out,
                        bound=layout.selection.reason if layout.selection else "",
                        undone_parts=notes.undone(left) if own is None else "",
                    )
                )

        # the cost is proportional to the amount of data written
        sizes = jacobian_sizes(store.n_atoms, 1, has_derivatives)
        seconds = measured_seconds(store, pending, work.compute, sizes, _SAMPLE_ATOMS)
        carry_out(work, missing, seconds, Workers(n_workers, jobs_are_fixed, make_executor, track), announced)
    if own is None:
        # an existing file may be longer
        os.truncate(path, layout.n_bytes)
        done = tuple(replace(shard, checksum=ledger.checksums[shard.offset]) for shard in layout.shards)
        replace(layout, shards=done).write(project.jacobian_table)
        ledger.remove()
        plan.unlink(missing_ok=True)
        notes.remove()
    return replace(summary, n_computed=len(pending), seconds=time.perf_counter() - begin)


class _Chosen(NamedTuple):
    """The structures selected for derivatives."""

    store: StructureStore
    are_chosen: NDArray[np.bool_]

    def structures(self, shard: JacobianShard) -> list[Structure]:
        return [self.store[k] for k in range(shard.first, shard.last) if self.are_chosen[k]]

    def n_atoms(self, shard: JacobianShard) -> int:
        own = slice(shard.first, shard.last)
        return int(self.store.n_atoms[own][self.are_chosen[own]].sum())


def differentiate_shard(
    parameters: ParameterSet, structures: Sequence[Structure], path: Path, shard: JacobianShard
) -> int:
    """Compute one shard, write it at its offset, and return its checksum; runs in a worker."""
    return write_jacobian_shard(path, shard, _jacobians(parameters, structures))


def differentiate_piece(
    parameters: ParameterSet, structures: Sequence[Structure], path: Path, shard: JacobianShard
) -> None:
    """Compute one shard and write it to a file of its own; runs in a worker."""
    write_piece(path, shard, _jacobians(parameters, structures))


def jacobians_of_shard(parameters: ParameterSet, structures: Sequence[Structure]) -> list[np.ndarray]:
    """Compute one shard; runs in a worker."""
    return list(_jacobians(parameters, structures))


def _jacobians(parameters: ParameterSet, structures: Sequence[Structure]) -> Iterator[np.ndarray]:
    calculator = calculator_of(parameters)
    return (calculator.jacobian(structure, np.float32) for structure in structures)


def _are_there(snapshot: Snapshot, layout: JacobianLayout) -> bool:
    try:
        found = snapshot.derivatives()
    except Tio2nnError:
        return False
    # the selection may have changed
    return found.file == layout.file


def _check_disk(directory: Path, path: Path, layout: JacobianLayout) -> None:
    pieces = [len(byte_span(shard)) for shard in pieces_there(path, layout)]
    # shards are written in any order, so the file is sparse: count the blocks that it occupies
    there = sum(pieces) + (512 * path.stat().st_blocks if path.exists() else 0)
    free = shutil.disk_usage(directory).free
    # a piece is copied before it is removed
    needed = layout.n_bytes - there + max(pieces, default=0) + RESERVE
    if needed <= free:
        return
    # parts of a job array leave these alone, as others may use them
    others = [name for other in directory.glob("jacobian-*.f32") if (name := other.name) != path.name]
    advice = f"; derivatives of other inputs lie there: delete {', '.join(others)}" if others else ""
    raise InputError(
        f"expected {needed / 1e9:.1f} GB of free disk for the derivatives, got {free / 1e9:.1f} GB{advice}",
        file=str(directory),
    )
