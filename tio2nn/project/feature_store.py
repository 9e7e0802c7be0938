"""Symmetry functions on disk: shards of whole structures, and the manifest that says what they belong to.

A shard's name carries the digest of all that its content depends on, so a shard that exists is done: a
featurization that was killed goes on with the missing ones, and one for other inputs never takes them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError, one_line
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.tables import document, write_json
from tio2nn.project.project import command_for

FloatArray = NDArray[np.float64]

# About 0.2 s of work for 70 functions: a kill loses little, and progress moves
ATOMS_PER_SHARD = 4096
_PATTERN = "shard-*.npz"
_CHUNK = 1 << 20  # bytes read at a time for a checksum: fewer are slower, from 16 MB on more are slower, too


class Span(NamedTuple):
    """The consecutive structures first:last, and how many atoms they have."""

    first: int
    last: int
    n_atoms: int


@dataclass(frozen=True)
class Shard:
    """Features of consecutive structures, one file.

    Attributes:
        file: name in the features directory.
        first, last: the structures first:last of the store.
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
    """What the features of a project were made from, `features/manifest.json`.

    Attributes:
        fingerprint: of the parameter set.
        structures: digest of all geometries.
        feature_names: one name a column.
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
            InputError: it is no manifest.
        """
        advice = f'run "{command_for(path, "featurize")}" again'
        with document(path, "a feature manifest", advice) as content:
            shards = tuple(Shard(**shard) for shard in content.pop("shards"))
            _check_shards(shards)
            return cls(**{**content, "feature_names": tuple(content["feature_names"]), "shards": shards})


def _check_shards(shards: Sequence[Shard]) -> None:
    """Raise ValueError unless they are files with consecutive structures."""
    for shard in shards:
        numbers = (shard.first, shard.last, shard.n_atoms, shard.checksum)
        if not isinstance(shard.file, str) or not all(type(number) is int for number in numbers):
            raise ValueError(f"a shard {shard}")
    if not shards or [0, *(shard.last for shard in shards[:-1])] != [shard.first for shard in shards]:
        raise ValueError("shards that do not follow one another")


def digest_of(parts: Sequence[str]) -> str:
    """Hexadecimal digest of a sequence of digests."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()


def shard_spans(n_atoms: Iterable[int]) -> Iterator[Span]:
    """Divide structures into spans that end with the one that fills `ATOMS_PER_SHARD`; the last may have fewer atoms.

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
    """CRC-32 of the next bytes of a file, of fewer where it ends before."""
    checksum, left = 0, n_bytes
    while left > 0 and (piece := handle.read(min(left, _CHUNK))):
        checksum, left = zlib.crc32(piece, checksum), left - len(piece)
    return checksum


def file_checksum(path: Path) -> int:
    """CRC-32 of a whole file, as in `Shard.checksum`."""
    with path.open("rb") as handle:
        return checksum_of(handle, path.stat().st_size)


def read_shard(directory: Path, shard: Shard, n_features: int) -> FloatArray:
    """Features of one shard, (n_atoms, n_features), checked against the checksum in the manifest and the file's own.

    Raises:
        InputError: missing, damaged or of another size.
    """
    path = directory / shard.file
    command = command_for(path, "featurize")
    advice = f'delete it and run "{command}" again'
    try:
        if shard.checksum is not None and file_checksum(path) != shard.checksum:
            raise ValueError("another checksum than in the manifest")
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

    To go through them is to read one shard after the other, (its atoms, n_features) each; nobody needs to hold all.

    Attributes:
        directory: of the shards.
        manifest: what they are.
    """

    directory: Path
    manifest: Manifest

    def __iter__(self) -> Iterator[FloatArray]:
        """The features of each shard; errors as for `read_shard`."""
        return (self._read(shard) for shard in self.manifest.shards)

    def of_structures(
        self, structures: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Iterator[FloatArray]:
        """Features of single structures, (n_atoms, n_features) each, from the shards that have any of them.

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
    """Delete shards that belong to earlier inputs; return their number."""
    keep = {shard.file for shard in shards}
    others = [path for path in directory.glob(_PATTERN) if path.name not in keep]
    for path in others:
        path.unlink()
    return len(others)
