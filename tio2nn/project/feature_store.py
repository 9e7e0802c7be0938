"""Symmetry functions on disk: shards of whole structures, and a manifest of what they were computed from.

The name of a shard contains a digest of everything that its content depends on, so an existing shard is complete: a
featurization that was killed resumes with the missing shards, and one for other inputs never uses them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.errors import InputError, one_line
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.digests import digest_of
from tio2nn.files.tables import document, write_json
from tio2nn.project.project import command_for

# About 0.2 s of work for 70 functions: little is lost by a kill, and progress is smooth
ATOMS_PER_SHARD = 4096
_PATTERN = "shard-*.npz"
_CHUNK = 1 << 20  # bytes read at a time for a checksum; fewer are slower, and so are 16 MB and more


class Span(NamedTuple):
    """Consecutive structures first:last, and their number of atoms."""

    first: int
    last: int
    n_atoms: int


@dataclass(frozen=True)
class Shard:
    """Features of consecutive structures, one file.

    Attributes:
        file: name in the features directory.
        first, last: structures first:last of the store.
        n_atoms: rows of the array.
        checksum: CRC-32 of the file; None before it is written.
    """

    file: str
    first: int
    last: int
    n_atoms: int
    checksum: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What the features of a project were computed from, `features/manifest.json`.

    Attributes:
        fingerprint: of the parameter set.
        structures: digest of all geometries.
        feature_names: one per column.
        shards: in the order of the structures.
    """

    fingerprint: str
    structures: str
    feature_names: tuple[str, ...]
    shards: tuple[Shard, ...]
    unit: str = "dimensionless"

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read `manifest.json`.

        Raises:
            InputError: the file is no manifest.
        """
        advice = f'run "{command_for(path, "featurize")}" again'
        with document(path, "a feature manifest", advice) as content:
            shards = tuple(Shard(**shard) for shard in content.pop("shards"))
            _check_shards(shards)
            return cls(**{**content, "feature_names": tuple(content["feature_names"]), "shards": shards})


def _check_shards(shards: Sequence[Shard]) -> None:
    """Raise ValueError unless the shards are files of consecutive structures."""
    for shard in shards:
        numbers = (shard.first, shard.last, shard.n_atoms, shard.checksum)
        if not isinstance(shard.file, str) or not all(type(number) is int for number in numbers):
            raise ValueError(f"an invalid shard {shard}")
    if not shards or [0, *(shard.last for shard in shards[:-1])] != [shard.first for shard in shards]:
        raise ValueError("shards that are not consecutive")


def shard_spans(n_atoms: Iterable[int]) -> Iterator[Span]:
    """Divide structures into spans of at least `ATOMS_PER_SHARD` atoms; the last may have fewer.

    Args:
        n_atoms: of each structure.
    """
    first = last = atoms = 0
    for n in n_atoms:
        last += 1
        atoms += n
        if atoms >= ATOMS_PER_SHARD:
            yield Span(first, last, atoms)
            first, atoms = last, 0
    if first < last:
        yield Span(first, last, atoms)


def plan_shards(
    fingerprint: str, geometry_hashes: Sequence[str], n_atoms: Sequence[int]
) -> tuple[Shard, ...]:
    """Divide structures into shards of about `ATOMS_PER_SHARD` atoms.

    Args:
        fingerprint: of the parameter set.
        geometry_hashes: `Structure.geometry_hash` of each structure.
        n_atoms: of each structure.
    """
    shards: list[Shard] = []
    for span in shard_spans(n_atoms):
        digest = digest_of([fingerprint, *geometry_hashes[span.first : span.last]])
        shards.append(Shard(f"shard-{len(shards):05d}-{digest}.npz", *span))
    return tuple(shards)


def write_shard(path: Path, features: FloatArray) -> None:
    """Write features, (n_atoms, n_features) float64."""
    write_arrays(path, {"features": features})


def checksum_of(handle: BinaryIO, n_bytes: int) -> int:
    """CRC-32 of the next `n_bytes` of a file, or of the rest if that is less."""
    checksum, left = 0, n_bytes
    while left > 0 and (piece := handle.read(min(left, _CHUNK))):
        checksum, left = zlib.crc32(piece, checksum), left - len(piece)
    return checksum


def file_checksum(path: Path) -> int:
    """CRC-32 of a whole file, as in `Shard.checksum`."""
    with path.open("rb") as handle:
        return checksum_of(handle, path.stat().st_size)


def read_shard(directory: Path, shard: Shard, n_features: int) -> FloatArray:
    """Features of one shard, (n_atoms, n_features), verified by the checksums of the manifest and of the file.

    Raises:
        InputError: a missing or damaged file, or one of another size.
    """
    path = directory / shard.file
    command = command_for(path, "featurize")
    advice = f'delete it and run "{command}" again'
    try:
        if shard.checksum is not None and file_checksum(path) != shard.checksum:
            raise ValueError("checksum differs from the manifest")
        with opened_arrays(path) as arrays:
            features = arrays["features"]
    except FileNotFoundError:
        raise InputError(f'expected a shard, got no file; run "{command}" again', file=str(path)) from None
    except Exception as error:
        raise InputError(
            f"expected features, got a damaged file ({one_line(error)}); {advice}", file=str(path)
        ) from None
    if features.shape != (shard.n_atoms, n_features):
        expected = (shard.n_atoms, n_features)
        raise InputError(
            f"expected features of shape {expected}, got {features.shape}; {advice}", file=str(path)
        )
    return np.asarray(features, dtype=np.float64)


@dataclass(frozen=True)
class StoredFeatures:
    """Features of all structures of a project, in the order of the store.

    Iteration reads one shard after the other, (n_atoms of the shard, n_features) each, so they need not all fit in
    memory.

    Attributes:
        directory: of the shards.
        manifest: of the shards.
    """

    directory: Path
    manifest: Manifest

    def __iter__(self) -> Iterator[FloatArray]:
        """The features of each shard; errors as for `read_shard`."""
        return (self._read(shard) for shard in self.manifest.shards)

    def of_structures(
        self, structures: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Iterator[FloatArray]:
        """Features of some structures, (n_atoms, n_features) each; only shards that hold them are read.

        Args:
            structures: indices into the store, ascending.
            offsets: (n_structures of the store + 1,) where the atoms of each structure begin.
        """
        for shard in self.manifest.shards:
            begin, end = np.searchsorted(structures, [shard.first, shard.last])
            if begin == end:
                continue
            features = self._read(shard)
            for k in structures[begin:end]:
                first, last = offsets[[k, k + 1]] - offsets[shard.first]
                yield features[first:last]

    def _read(self, shard: Shard) -> FloatArray:
        return read_shard(self.directory, shard, len(self.manifest.feature_names))


def remove_other_shards(directory: Path, shards: Sequence[Shard]) -> int:
    """Delete shards of earlier inputs; return their number."""
    keep = {shard.file for shard in shards}
    others = [path for path in directory.glob(_PATTERN) if path.name not in keep]
    for path in others:
        path.unlink()
    return len(others)
