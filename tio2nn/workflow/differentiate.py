"""The second half of featurize: derivatives of the symmetry functions, for all structures with forces or a stress."""

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
    StrainLayout,
    byte_span,
    other_jacobians,
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
        n_without_labels: number of structures without forces, or without a stress.
        disk_bytes: size of the file, or of the part.
        seconds: wall time.
    """

    n_structures: int
    n_computed: int
    n_left_out: int
    n_without_labels: int
    disk_bytes: float
    seconds: float


Compute = Callable[[ParameterSet, Sequence[Structure]], Iterator[NDArray[np.floating]]]
"""Derivatives of structures, one after the other; a function of a module, as it goes to workers."""


class How(NamedTuple):
    """How derivatives are computed.

    Attributes:
        part: of a job array; None for all.
        workers: who computes them.
        announce: called with the estimate before the work begins.
    """

    part: JobPart | None
    workers: Workers
    announce: Callable[[JacobianEstimate], None] | None


class Derivatives(NamedTuple):
    """One kind of derivatives.

    Attributes:
        title: of the progress bar.
        notes: kind of the notes that parts of a job array leave.
        layout: of their file.
        table: receives the layout when all are there.
        plan: the record of the chosen structures; None if they need none.
        is_labeled: (n_structures,) which structures have the label that they are for.
        is_done: whether nothing is left to do.
        compute: those of some structures.
    """

    title: str
    notes: str
    layout: JacobianLayout
    table: Path
    plan: Path | None
    is_labeled: NDArray[np.bool_]
    is_done: bool
    compute: Compute


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
    how = How(JobPart.of(part), Workers(worker_count(jobs), jobs_are_fixed, make_executor, track), announce)
    snapshot = Snapshot.of(project)
    project, parameters, store = snapshot.project, snapshot.parameters, snapshot.structures
    if not store.has_forces.any():
        raise InputError(
            "expected structures with forces, got none: train on energies, without --forces",
            file=str(project.structures_file),
        )
    project.features_directory.mkdir(exist_ok=True)
    selection = select_derivatives(project, parameters, store, insist=insist)
    layout = planned_layout(parameters, store, selection)
    plan = plan_file(project, parameters, store)
    is_done = are_there(snapshot.derivatives, layout)
    if how.part is not None and not (insist or is_done):
        layout = settle_plan(plan, layout, parameters, store)
    if how.part is None and not is_done:
        replace_others(project.features_directory, layout, plan)
        project.jacobian_table.unlink(missing_ok=True)
        if not insist:
            record_plan(plan, layout)
    kind = Derivatives(
        "derivatives of symmetry functions",
        "derivatives",
        layout,
        project.jacobian_table,
        plan,
        store.has_forces,
        is_done,
        jacobians,
    )
    return completed(snapshot, kind, how)


def completed(snapshot: Snapshot, kind: Derivatives, how: How) -> JacobianSummary:
    """Compute the missing derivatives of one kind."""
    begin = time.perf_counter()
    parameters, store, layout, own = snapshot.parameters, snapshot.structures, kind.layout, how.part
    has_derivatives = layout.has_derivatives(kind.is_labeled)
    shards = layout.shards if own is None else own.share(layout.shards)
    summary = JacobianSummary(
        n_structures=sum(int(has_derivatives[shard.first : shard.last].sum()) for shard in shards),
        n_computed=0,
        n_left_out=int((kind.is_labeled & ~has_derivatives).sum()),
        n_without_labels=int((~kind.is_labeled).sum()),
        disk_bytes=sum(len(byte_span(shard)) for shard in shards),
        seconds=0.0,
    )
    if kind.is_done:
        return replace(summary, seconds=time.perf_counter() - begin)
    directory = snapshot.project.features_directory
    path = directory / layout.file
    ledger = ShardLedger(path, layout)
    _require_disk(directory, layout)
    if own is None:
        pieces = pieces_there(path, layout)
        n_bytes = sum(len(byte_span(shard)) for shard in pieces)
        with how.workers.track("collecting derivatives", n_bytes) as advance:
            collect_pieces(path, layout, ledger, advance)
    left = missing_shards(path, layout, ledger.checksums)
    notes = PartNotes(directory, kind.notes, layout.file)
    missing = [layout.shards[place] for place in left]
    if own is not None:
        missing = [shard for shard in shards if shard in missing]
        notes.write(own)
    pending = [k for shard in missing for k in range(shard.first, shard.last) if has_derivatives[k]]
    if pending:
        by_strain = isinstance(layout, StrainLayout)
        compile_kernels(derivatives=not by_strain, strains=by_strain)
        work = _work(parameters, _Chosen(store, has_derivatives), kind, path, ledger)
        if own is not None:
            run = partial(differentiate_piece, kind.compute)
            work = replace(work, run=run, on_done=lambda *_: None)
        elif is_remote(how.workers.make_executor):
            work = _work_elsewhere(work, parameters, kind, path, ledger)

        def announced(n_jobs: int, seconds: float) -> None:
            if how.announce is not None:
                n_atoms = int(store.n_atoms[pending].sum())
                how.announce(
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
        sizes = layout.sizes(store.n_atoms, 1, has_derivatives)
        seconds = measured_seconds(store, pending, work.compute, sizes, _SAMPLE_ATOMS)
        carry_out(work, missing, seconds, how.workers, announced)
    if own is None:
        # an existing file may be longer
        os.truncate(path, layout.n_bytes)
        done = tuple(replace(shard, checksum=ledger.checksums[shard.offset]) for shard in layout.shards)
        replace(layout, shards=done).write(kind.table)
        ledger.remove()
        if kind.plan is not None:
            kind.plan.unlink(missing_ok=True)
        notes.remove()
    return replace(summary, n_computed=len(pending), seconds=time.perf_counter() - begin)


def _work(
    parameters: ParameterSet, chosen: _Chosen, kind: Derivatives, path: Path, ledger: ShardLedger
) -> ShardWork[JacobianShard, Any]:
    """The work on a shard by processes that may write into the file."""
    return ShardWork(
        title=kind.title,
        run=partial(differentiate_shard, kind.compute),
        task=lambda shard: (parameters, chosen.structures(shard), path, shard),
        structures=chosen.structures,
        n_atoms=chosen.n_atoms,
        compute=partial(kind.compute, parameters),
        on_done=ledger.append,
    )


def _work_elsewhere(
    work: ShardWork[JacobianShard, Any],
    parameters: ParameterSet,
    kind: Derivatives,
    path: Path,
    ledger: ShardLedger,
) -> ShardWork[JacobianShard, Any]:
    """Machines that write into one file at once damage each other's pages: this one alone writes."""
    return replace(
        work,
        run=partial(derivatives_of_shard, kind.compute),
        task=lambda shard: (parameters, work.structures(shard)),
        on_done=lambda shard, found: ledger.append(shard, write_jacobian_shard(path, shard, found)),
    )


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
    compute: Compute,
    parameters: ParameterSet,
    structures: Sequence[Structure],
    path: Path,
    shard: JacobianShard,
) -> int:
    """Compute one shard, write it at its offset, and return its checksum; runs in a worker."""
    return write_jacobian_shard(path, shard, compute(parameters, structures))


def differentiate_piece(
    compute: Compute,
    parameters: ParameterSet,
    structures: Sequence[Structure],
    path: Path,
    shard: JacobianShard,
) -> None:
    """Compute one shard and write it to a file of its own; runs in a worker."""
    write_piece(path, shard, compute(parameters, structures))


def derivatives_of_shard(
    compute: Compute, parameters: ParameterSet, structures: Sequence[Structure]
) -> list[NDArray[np.floating]]:
    """Compute one shard; runs in a worker."""
    return list(compute(parameters, structures))


def jacobians(parameters: ParameterSet, structures: Sequence[Structure]) -> Iterator[NDArray[np.floating]]:
    """The derivatives of structures with respect to positions, float32."""
    calculator = calculator_of(parameters)
    return (calculator.jacobian(structure, np.float32) for structure in structures)


def are_there(present: Callable[[], JacobianLayout], layout: JacobianLayout) -> bool:
    """Whether the derivatives of a layout are there; `present` reads that of those that are."""
    try:
        found = present()
    except Tio2nnError:
        return False
    # the selection may have changed
    return found.file == layout.file


def replace_others(directory: Path, layout: JacobianLayout, plan: Path | None = None) -> None:
    """Delete files of earlier inputs, unless the disk is too small for these even without them.

    Raises:
        InputError: it is too small.
    """
    others = other_jacobians(directory, layout, plan)
    _require_disk(directory, layout, others)
    for path in others:
        path.unlink()


def _require_disk(directory: Path, layout: JacobianLayout, replaced: Sequence[Path] = ()) -> None:
    """Refuse derivatives that do not fit on the disk, which `replaced` will leave."""
    path = directory / layout.file
    pieces = [len(byte_span(shard)) for shard in pieces_there(path, layout)]
    # shards are written in any order, so the file is sparse: count the blocks that it occupies
    there = sum(pieces) + (512 * path.stat().st_blocks if path.exists() else 0)
    free = shutil.disk_usage(directory).free + sum(512 * other.stat().st_blocks for other in replaced)
    # a piece is copied before it is removed
    needed = layout.n_bytes - there + max(pieces, default=0) + RESERVE
    if needed <= free:
        return
    # parts of a job array leave these alone, as others may use them
    others = [one.name for one in directory.glob(f"{layout.stem}-*.f32") if one not in (path, *replaced)]
    advice = f"; derivatives of other inputs lie there: delete {', '.join(others)}" if others else ""
    raise InputError(
        f"expected {needed / 1e9:.1f} GB of free disk for the derivatives, got {free / 1e9:.1f} GB{advice}",
        file=str(directory),
    )
