"""The command featurize: symmetry functions of all structures of a project, in a pool of processes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tio2nn.descriptors.symmetry_functions import compile_kernels
from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.parallel.progress import Track, silent
from tio2nn.parallel.shards import calculator_of, measured_seconds, useful_jobs, work_through
from tio2nn.parallel.workers import available_cores, kernel_workers
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

_SAMPLE_ATOMS = 300  # what the estimate of time measures: about 20 ms
_WORKER_BYTES = 180e6  # a worker with its libraries, measured; features of a shard come on top


@dataclass(frozen=True)
class Estimate:
    """What a featurization will need.

    Attributes:
        n_structures, n_atoms: still to be computed.
        n_features: columns.
        seconds: time on `jobs` processes.
        memory_bytes: of all processes.
        disk_bytes: of all features.
    """

    n_structures: int
    n_atoms: int
    n_features: int
    jobs: int
    seconds: float
    memory_bytes: float
    disk_bytes: float


@dataclass(frozen=True)
class FeaturizeSummary:
    """What a featurization did.

    Attributes:
        n_structures, n_atoms, n_features: that the project has now.
        n_computed: structures computed in this run; the others were there.
        seconds: wall time.
        csv_files: number of `symXXXX.csv` written.
    """

    n_structures: int
    n_atoms: int
    n_features: int
    n_computed: int
    seconds: float
    csv_files: int


def featurize(
    project: Project | Snapshot,
    *,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = kernel_workers,
    jobs_are_fixed: bool = False,
    csv: bool = False,
    announce: Callable[[Estimate], None] | None = None,
    track: Track = silent,
) -> FeaturizeSummary:
    """Compute what is missing of the features of all structures of a project.

    Args:
        project: with parameters and extracted structures.
        jobs: largest number of worker processes; by default one for each core.
        make_executor: makes the pool of that many workers when it is needed; by default of local processes.
        jobs_are_fixed: use a pool even where it does not pay.
        csv: also write one `symXXXX.csv` for each structure.
        announce: hears the estimate before the work begins.
        track: progress, in atoms.

    Raises:
        MissingInputError: no parameters or no structures.
        InputError: a structure that cannot be described, or a worker process that died.
    """
    begin = time.perf_counter()
    snapshot = Snapshot.of(project)
    project, parameters, store = snapshot.project, snapshot.parameters, snapshot.structures
    shards = plan_shards(parameters.fingerprint, store.geometry_hashes, store.n_atoms.tolist())
    directory = project.features_directory
    directory.mkdir(exist_ok=True)
    earlier = _earlier_manifest(project.features_manifest)
    known = {} if earlier is None else {shard.file: shard.checksum for shard in earlier.shards}
    there = [shard.file for shard in shards if (directory / shard.file).exists()]
    checksums = {file: file_checksum(directory / file) for file in there}
    # one that is not the file that it was is computed again
    missing = [
        s for s in shards if s.file not in checksums or known.get(s.file) not in (None, checksums[s.file])
    ]
    n_computed = sum(shard.last - shard.first for shard in missing)
    if missing:
        compile_kernels()
        pending = [k for shard in missing for k in range(shard.first, shard.last)]
        compute = calculator_of(parameters).map
        seconds = measured_seconds(store, pending, compute, store.n_atoms, _SAMPLE_ATOMS)
        jobs = useful_jobs(jobs or available_cores(), len(missing), seconds, are_fixed=jobs_are_fixed)
        if announce is not None:
            announce(_estimate(parameters, shards, missing, jobs, seconds / jobs))
        _compute(parameters, store, directory, missing, jobs, make_executor, track)
    checksums |= {shard.file: file_checksum(directory / shard.file) for shard in missing}
    manifest = Manifest(
        parameters.fingerprint,
        snapshot.geometries,
        parameters.feature_names,
        tuple(replace(shard, checksum=checksums[shard.file]) for shard in shards),
    )
    if manifest != earlier:
        for table in directory.glob("sym*.csv"):
            table.unlink()  # what it shows is no more
        manifest.write(project.features_manifest)
    remove_other_shards(directory, shards)
    return FeaturizeSummary(
        n_structures=len(store),
        n_atoms=sum(shard.n_atoms for shard in shards),
        n_features=parameters.n_features,
        n_computed=n_computed,
        seconds=time.perf_counter() - begin,
        csv_files=write_csv(store, directory, manifest, track) if csv else 0,
    )


def _earlier_manifest(path: Path) -> Manifest | None:
    try:
        return Manifest.read(path)
    except InputError:
        return None


def _compute(
    parameters: ParameterSet,
    store: StructureStore,
    directory: Path,
    missing: Sequence[Shard],
    jobs: int,
    make_executor: Callable[[int], Executor],
    track: Track,
) -> None:
    def structures(shard: Shard) -> list[Structure]:
        return store[shard.first : shard.last]

    def task(shard: Shard) -> tuple[ParameterSet, list[Structure], Path]:
        return parameters, structures(shard), directory / shard.file

    with track("symmetry functions", sum(shard.n_atoms for shard in missing)) as advance:
        work_through(
            missing,
            featurize_shard,
            task,
            lambda shard, _: advance(shard.n_atoms),
            jobs=jobs,
            make_executor=make_executor,
            structures=structures,
            work_alone=partial(try_features, parameters),
        )


def featurize_shard(parameters: ParameterSet, structures: Sequence[Structure], path: Path) -> None:
    """Compute one shard and write it whole: what a worker does."""
    import numpy as np

    write_shard(path, np.concatenate(list(calculator_of(parameters).map(structures))))


def try_features(parameters: ParameterSet, structure: Structure) -> None:
    """Compute a structure for nothing but to see whether a process survives it."""
    calculator_of(parameters)(structure)


def _estimate(
    parameters: ParameterSet, shards: Sequence[Shard], missing: Sequence[Shard], jobs: int, seconds: float
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
    )


def csv_names(names: Sequence[str]) -> list[str]:
    """The paper's `symXXXX.csv` with the number that the name ends in, `sym_<name>.csv` where that fails.

    Names without a number, and names that would share one, take the second form.
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
    """One CSV for each structure: atom (from 1), element, then a column for each symmetry function."""
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
