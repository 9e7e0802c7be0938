"""The verb featurize: symmetry functions, and their derivatives for a fit to forces, in a pool of processes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.descriptors.symmetry_functions import compile_kernels
from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.files.paths import AnyPath
from tio2nn.job_part import JobPart
from tio2nn.parallel.progress import Track, silent
from tio2nn.parallel.shards import ShardWork, Workers, calculator_of, carry_out, measured_seconds
from tio2nn.parallel.workers import kernel_workers, worker_count
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.feature_store import (
    Manifest,
    Shard,
    file_checksum,
    plan_shards,
    read_shard,
    remove_other_shards,
    write_shard,
)
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.structure import Structure
from tio2nn.workflow.differentiate import JacobianSummary, differentiate
from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain
from tio2nn.workflow.settings import require_stress, training_parameters

_SAMPLE_ATOMS = 300  # sample for the time estimate: about 20 ms
_WORKER_BYTES = 180e6  # measured for a worker with its libraries; the features of a shard add to it


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a featurization.

    Attributes:
        n_structures, n_atoms: number still to be computed.
        n_features: number of symmetry functions.
        jobs: number of processes.
        seconds: wall time on `jobs` processes.
        memory_bytes: memory of all processes.
        disk_bytes: size of all features, or of those of the part.
        undone_parts: parts of a job array that have left work, as text.
    """

    n_structures: int
    n_atoms: int
    n_features: int
    jobs: int
    seconds: float
    memory_bytes: float
    disk_bytes: float
    undone_parts: str = ""


@dataclass(frozen=True)
class FeaturizeSummary:
    """Result of a featurization.

    Attributes:
        n_structures, n_atoms, n_features: numbers in the project, or in the part.
        n_computed: number of structures computed in this run; the others existed before.
        seconds: wall time.
        csv_files: number of `symXXXX.csv` files written.
        derivatives: result of computing the derivatives; None if they were not needed.
        by_strain: likewise, of those with respect to strain.
    """

    n_structures: int
    n_atoms: int
    n_features: int
    n_computed: int
    seconds: float
    csv_files: int
    derivatives: JacobianSummary | None = None
    by_strain: JacobianSummary | None = None


def featurize(
    project: Project | Snapshot | AnyPath,
    *,
    forces: bool | None = None,
    stress: bool | None = None,
    part: tuple[int, int] | None = None,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = kernel_workers,
    csv: bool = False,
    track: Track = silent,
) -> FeaturizeSummary:
    """Compute the missing features of a project and, if its potential will be trained on forces, their derivatives.

    Args:
        project: project with parameters and extracted structures, or its directory.
        forces: train on forces, or on energies alone; None to keep the setting of `params.json`.
        stress: train on the stress, or without it; likewise.
        part, jobs, make_executor, csv, track: as for `compute_features`.

    Raises:
        MissingInputError, InputError, TypeError, ValueError: as `compute_features` and `differentiate`.
    """
    snapshot = Snapshot.of(project)
    fitted = training_parameters(snapshot, forces=forces, stress=stress)
    require_stress(snapshot, fitted)
    found = compute_features(
        snapshot, part=part, jobs=jobs, make_executor=make_executor, csv=csv, track=track
    )
    derivatives = [
        compute(
            snapshot,
            part=part,
            jobs=jobs,
            make_executor=make_executor,
            insist=fitted.training.forces is True,
            track=track,
        )
        if is_needed
        else None
        for compute, is_needed in (
            (differentiate, snapshot.needs_derivatives(fitted)),
            (differentiate_by_strain, snapshot.needs_strains(fitted)),
        )
    ]
    return replace(found, derivatives=derivatives[0], by_strain=derivatives[1])


def compute_features(
    project: Project | Snapshot | AnyPath,
    *,
    part: tuple[int, int] | None = None,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = kernel_workers,
    jobs_are_fixed: bool = False,
    csv: bool = False,
    announce: Callable[[Estimate], None] | None = None,
    track: Track = silent,
) -> FeaturizeSummary:
    """Compute the missing features of all structures of a project.

    Args:
        project: project with parameters and extracted structures, or its directory.
        part: (K, N) for the share K, from 1, of a job array of N, which may be at work all at once; None for all that
            is missing, and for the manifest without which no command uses features.
        jobs: maximum number of worker processes; by default one per core.
        make_executor: makes a pool of that many workers, if one is needed; by default of local processes.
        jobs_are_fixed: use a pool even if it is not faster.
        csv: also write one `symXXXX.csv` per structure; not with a part.
        announce: called with the estimate before the work begins.
        track: reports progress in atoms.

    Raises:
        MissingInputError: there are no parameters or no structures.
        InputError: a structure cannot be described, or a worker process died.
        TypeError, ValueError: jobs is no positive whole number, or there is no such part.
    """
    begin = time.perf_counter()
    n_workers, own = worker_count(jobs), JobPart.of(part)
    if csv and own is not None:
        raise ValueError("csv: expected no part, got one; the last command writes the tables")
    snapshot = Snapshot.of(project)
    project, parameters, store = snapshot.project, snapshot.parameters, snapshot.structures
    directory = project.features_directory
    directory.mkdir(exist_ok=True)
    all_shards = plan_shards(fingerprint(parameters), store.geometry_hashes, store.n_atoms.tolist())
    shards = all_shards if own is None else own.share(all_shards)
    earlier = _earlier_manifest(project.features_manifest)
    checksums = _usable_checksums(directory, shards, earlier)
    missing = [shard for shard in shards if shard.file not in checksums]
    notes = snapshot.notes_of_features
    made_of = None if earlier is None else (earlier.fingerprint, earlier.structures)
    if own is not None and (missing or made_of != (fingerprint(parameters), snapshot.geometries)):
        notes.write(own)
    if missing:
        left = [place for place, shard in enumerate(shards) if shard.file not in checksums]
        undone = notes.undone(left) if own is None else ""
        compile_kernels()
        work: ShardWork[Shard, None] = ShardWork(
            title="symmetry functions",
            run=featurize_shard,
            task=lambda shard: (parameters, store[shard.first : shard.last], directory / shard.file),
            structures=lambda shard: store[shard.first : shard.last],
            n_atoms=lambda shard: shard.n_atoms,
            compute=partial(_features, parameters),
            on_done=lambda *_: None,
        )
        pending = [k for shard in missing for k in range(shard.first, shard.last)]
        carry_out(
            work,
            missing,
            measured_seconds(store, pending, work.compute, store.n_atoms, _SAMPLE_ATOMS),
            Workers(n_workers, jobs_are_fixed, make_executor, track),
            lambda *cost: (
                announce(_estimate(parameters, shards, missing, undone, *cost)) if announce else None
            ),
        )
    n_csv = 0
    if own is None:
        checksums |= {shard.file: file_checksum(directory / shard.file) for shard in missing}
        manifest = Manifest(
            fingerprint(parameters),
            snapshot.geometries,
            parameters.feature_names,
            tuple(replace(shard, checksum=checksums[shard.file]) for shard in shards),
        )
        if manifest != earlier:
            for table in directory.glob("sym*.csv"):
                table.unlink()  # out of date
            manifest.write(project.features_manifest)
        remove_other_shards(directory, shards)
        notes.remove()
        n_csv = write_csv(store, directory, manifest, track) if csv else 0
    return FeaturizeSummary(
        n_structures=sum(shard.last - shard.first for shard in shards),
        n_atoms=sum(shard.n_atoms for shard in shards),
        n_features=parameters.n_features,
        n_computed=sum(shard.last - shard.first for shard in missing),
        seconds=time.perf_counter() - begin,
        csv_files=n_csv,
    )


def _earlier_manifest(path: Path) -> Manifest | None:
    try:
        return Manifest.read(path)
    except InputError:
        return None


def _usable_checksums(directory: Path, shards: Sequence[Shard], earlier: Manifest | None) -> dict[str, int]:
    """Checksums of the shards that are there and have not changed since they were recorded."""
    known = {} if earlier is None else {shard.file: shard.checksum for shard in earlier.shards}
    there = [shard.file for shard in shards if (directory / shard.file).exists()]
    found = {file: file_checksum(directory / file) for file in there}
    return {file: checksum for file, checksum in found.items() if known.get(file) in (None, checksum)}


def featurize_shard(parameters: ParameterSet, structures: Sequence[Structure], path: Path) -> None:
    """Compute one shard and write it atomically; runs in a worker."""
    import numpy as np

    write_shard(path, np.concatenate(list(_features(parameters, structures))))


def _features(parameters: ParameterSet, structures: Sequence[Structure]) -> Iterator[object]:
    return calculator_of(parameters).map(structures)


def _estimate(
    parameters: ParameterSet,
    shards: Sequence[Shard],
    missing: Sequence[Shard],
    undone_parts: str,
    jobs: int,
    seconds: float,
) -> Estimate:
    row = 8.0 * parameters.n_features
    largest = max(shard.n_atoms for shard in missing)
    return Estimate(
        n_structures=sum(shard.last - shard.first for shard in missing),
        n_atoms=sum(shard.n_atoms for shard in missing),
        n_features=parameters.n_features,
        jobs=jobs,
        seconds=seconds,
        memory_bytes=jobs * (_WORKER_BYTES + 3 * largest * row),
        disk_bytes=sum(shard.n_atoms for shard in shards) * row,
        undone_parts=undone_parts,
    )


def csv_names(names: Sequence[str]) -> list[str]:
    """File names `symXXXX.csv`, as in the paper, with the number at the end of the structure's name.

    Names without a number, or with the same number as another name, give `sym_<name>.csv`.
    """
    numbers = [match.group() if (match := re.search(r"\d+$", name)) else None for name in names]
    uses = Counter(numbers)
    return [
        f"sym{number}.csv"
        if number is not None and uses[number] == 1
        else f"sym_{name.replace('/', '_')}.csv"
        for name, number in zip(names, numbers, strict=True)
    ]


def write_csv(store: StructureStore, directory: Path, manifest: Manifest, track: Track) -> int:
    """Write a CSV per structure with columns atom (from 1), element and one per feature; return the number of files."""
    header = ",".join(["atom", "element", *manifest.feature_names])
    targets = csv_names(store.names)
    with track("symmetry functions as CSV", len(store)) as advance:
        for shard in manifest.shards:
            rows = read_shard(directory, shard, len(manifest.feature_names)).tolist()
            row = 0
            for k in range(shard.first, shard.last):
                elements = store[k].elements
                lines = [
                    f"{atom + 1},{element}," + ",".join(map(repr, rows[row + atom]))
                    for atom, element in enumerate(elements)
                ]
                row += len(elements)
                with atomic_write(directory / targets[k]) as handle:
                    handle.write("\n".join([header, *lines]) + "\n")
                advance(1)
    return len(targets)
