"""Derivatives of the symmetry functions on disk: one memory-mapped float32 file, never read as a whole.

The derivatives of a structure of n atoms have shape (n, n_features, n, 3). Structures follow one another; those without
reference forces are left out, and so are those not selected if all would not fit. Shards are written in any order, each
at its place in the file; a ledger beside it has one line for each finished shard, so a computation that was killed
resumes with the others. The file name contains a digest of everything that the content depends on. `jacobian.json`,
written last, marks the file as complete.

Derivatives with respect to strain, (n, n_features, 6) of each structure with a stress, are in another such file, which
`strain.json` belongs to: a project with the first gains the second without it being touched.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tio2nn.array_types import BoolArray, Float32Array, IntArray
from tio2nn.errors import InputError, naming
from tio2nn.files.digests import digest, digest_of
from tio2nn.files.tables import document, write_json
from tio2nn.project.feature_store import checksum_of, shard_spans
from tio2nn.project.project import command_for

if TYPE_CHECKING:
    from typing_extensions import Self


BOUNDS = {
    "memory": "half the memory",  # of projects of earlier versions
    "disk": "90 % of the free disk space",
    "limit": "derivatives_limit in params.json",
}
"""What can limit the size of the derivatives, and its name in messages."""

_BYTES = 4


@dataclass(frozen=True)
class JacobianShard:
    """Derivatives of consecutive structures.

    Attributes:
        first, last: the structures first:last of the store.
        offset: where they begin in the file, as a number of values.
        n_values: number of values.
        checksum: CRC-32 of their bytes; None before they are written.
    """

    first: int
    last: int
    offset: int
    n_values: int
    checksum: int | None = None


@dataclass(frozen=True)
class Selection:
    """The structures with forces that have derivatives, if those of all would not fit.

    Attributes:
        structures: one bit per structure of the store, the first in the highest bit, as hexadecimal digits.
        bound: what limits their size, one of `BOUNDS`.
        budget_bytes: the limit.
        limit: `training.derivatives_limit` at that time, GB.
    """

    structures: str
    bound: str
    budget_bytes: int
    limit: float | None = None

    @classmethod
    def of(cls, chosen: BoolArray, bound: str, budget_bytes: int, limit: float | None) -> Selection:
        """The selection of the structures for which `chosen`, (n_structures,), is true."""
        return cls(np.packbits(chosen).tobytes().hex(), bound, budget_bytes, limit)

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> Selection | None:
        """The inverse of `asdict` for a selection or None.

        Raises:
            ValueError, TypeError, KeyError: invalid content.
        """
        if content is None:
            return None
        selection = cls(**content)
        bytes.fromhex(selection.structures)
        if selection.bound not in BOUNDS or type(selection.budget_bytes) is not int:
            raise ValueError(f"a selection of structures {selection.bound!r}, {selection.budget_bytes!r}")
        return selection

    def mask(self, n_structures: int) -> BoolArray:
        """(n_structures,) whether each is chosen."""
        bits = np.frombuffer(bytes.fromhex(self.structures), np.uint8)
        return np.unpackbits(bits, count=n_structures).astype(np.bool_)

    @property
    def digest(self) -> str:
        return digest_of([self.structures])

    @property
    def reason(self) -> str:
        """The limit that the derivatives of all structures would exceed, for messages."""
        return f"{BOUNDS[self.bound]}, {self.budget_bytes / 1e9:.3g} GB"


def with_derivatives(has_forces: BoolArray, selection: Selection | None) -> BoolArray:
    """(n_structures,) which structures have derivatives: those with forces, restricted to the selection if any."""
    return has_forces if selection is None else has_forces & selection.mask(len(has_forces))


@dataclass(frozen=True)
class JacobianLayout:
    """The layout of the file of derivatives: the content of `jacobian.json`.

    Within a shard, structures follow one another, with `jacobian_sizes` values each.

    Attributes:
        fingerprint: of the parameter set.
        structures: digest of all geometries.
        n_features: number of symmetry functions.
        file: name in the features directory.
        shards: in the order of the structures.
        selection: which structures with forces have derivatives; None for all.
    """

    stem: ClassVar[str] = "jacobian"
    """With which the names of its files begin."""
    command: ClassVar[str] = "featurize --forces"
    """That makes them."""

    fingerprint: str
    structures: str
    n_features: int
    file: str
    shards: tuple[JacobianShard, ...]
    unit: str = "1/Å"
    selection: Selection | None = None

    @staticmethod
    def sizes(n_atoms: IntArray, n_features: int, has_derivatives: BoolArray) -> IntArray:
        """(n_structures,) number of values in the derivatives of each structure; 0 for structures without."""
        return np.asarray(3 * n_features * n_atoms**2 * has_derivatives)

    def as_planned(self) -> Self:
        """The layout as it was before anything was computed, without checksums."""
        return replace(self, shards=tuple(replace(shard, checksum=None) for shard in self.shards))

    @classmethod
    def plan(
        cls,
        fingerprint: str,
        geometry_hashes: Sequence[str],
        n_features: int,
        n_atoms: IntArray,
        has_forces: BoolArray,
        selection: Selection | None = None,
    ) -> Self:
        """Plan the layout for the structures of a store.

        Args:
            fingerprint: of the parameter set.
            geometry_hashes: `Structure.geometry_hash` of each structure.
            n_features: symmetry functions.
            n_atoms, has_forces: (n_structures,)
            selection: structures with forces that have derivatives; None for all.
        """
        if selection is not None:
            has_forces = has_forces & selection.mask(len(has_forces))
        sizes = cls.sizes(n_atoms, n_features, has_forces)
        shards: list[JacobianShard] = []
        offset = 0
        for first, last, n_labeled in shard_spans((n_atoms * has_forces).tolist()):
            if n_labeled:
                n_values = int(sizes[first:last].sum())
                shards.append(JacobianShard(first, last, offset, n_values))
                offset += n_values
        structures = digest_of(geometry_hashes)
        labeled = digest(np.packbits(has_forces).tobytes())
        file = f"{cls.stem}-{digest_of([fingerprint, structures, labeled])}.f32"
        return cls(fingerprint, structures, n_features, file, tuple(shards), selection=selection)

    def has_derivatives(self, has_forces: BoolArray) -> BoolArray:
        """(n_structures,) which structures have derivatives, given which have forces."""
        return with_derivatives(has_forces, self.selection)

    @property
    def n_values(self) -> int:
        return sum(shard.n_values for shard in self.shards)

    @property
    def n_bytes(self) -> int:
        return _BYTES * self.n_values

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `jacobian.json`.

        Raises:
            InputError: the file is no table of derivatives.
        """
        advice = f'run "{command_for(path, cls.command)}" again'
        with document(path, "a table of derivatives", advice) as content:
            shards = tuple(JacobianShard(**shard) for shard in content.pop("shards"))
            selection = Selection.from_json(content.pop("selection", None))
            return cls(**content, shards=shards, selection=selection)


@dataclass(frozen=True)
class StrainLayout(JacobianLayout):
    """The layout of the file of derivatives with respect to strain: the content of `strain.json`.

    As `JacobianLayout`, for structures with a stress in place of those with forces.
    """

    stem: ClassVar[str] = "strain"
    command: ClassVar[str] = "featurize --stress"

    unit: str = "1"

    @staticmethod
    def sizes(n_atoms: IntArray, n_features: int, has_derivatives: BoolArray) -> IntArray:
        """(n_structures,) number of values in the derivatives of each structure; 0 for structures without."""
        return np.asarray(6 * n_features * n_atoms * has_derivatives)


jacobian_sizes, strain_sizes = JacobianLayout.sizes, StrainLayout.sizes


class ShardLedger:
    """The finished shards of a file: one line for each, appended once its bytes are on disk.

    The ledger lies beside the file, and is discarded if the file is gone.

    Args:
        data_file: of the derivatives.
        layout: of the file.

    Raises:
        InputError: one of the two files is a link; they are written in place, so in an untrusted project a link could
            overwrite any file.

    Attributes:
        checksums: checksum of each finished shard, by its offset.
    """

    def __init__(self, data_file: Path, layout: JacobianLayout) -> None:
        self._path = data_file.with_name(f"{data_file.name}.done")
        for path in (data_file, self._path):
            if path.is_symlink():
                raise InputError("refusing to write through a symbolic link", file=str(path))
        self.checksums: dict[int, int] = {}
        if not data_file.exists():
            self.remove()
        if not self._path.exists():
            return
        known = {shard.offset for shard in layout.shards}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            # the last line may be truncated; the final dot marks a complete line
            cells = line.split()
            whole = len(cells) == 3 and cells[2] == "." and cells[0].isdigit() and cells[1].isdigit()
            if whole and int(cells[0]) in known:
                self.checksums[int(cells[0])] = int(cells[1])

    def append(self, shard: JacobianShard, checksum: int) -> None:
        """Record a finished shard."""
        with naming(self._path), self._path.open("a", encoding="utf-8") as handle:
            # begin a new line, in case a full disk truncated the last one
            handle.write(f"\n{shard.offset} {checksum} .\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.checksums[shard.offset] = checksum

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def byte_span(shard: JacobianShard) -> range:
    """Where the bytes of a shard lie in the file."""
    return range(_BYTES * shard.offset, _BYTES * (shard.offset + shard.n_values))


def write_jacobian_shard(path: Path, shard: JacobianShard, jacobians: Iterable[Float32Array]) -> int:
    """Write the derivatives of a shard to their place in the file.

    Args:
        path: of the file.
        shard: gives the place.
        jacobians: (n, n_features, n, 3) float32 of each structure with forces, in order.

    Returns:
        The checksum of the bytes.

    Raises:
        OSError: for example, the disk is full.
    """
    span = byte_span(shard)
    checksum, place = 0, span.start
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        for jacobian in jacobians:
            data = np.ascontiguousarray(jacobian, dtype="<f4").reshape(-1).view(np.uint8).data
            checksum = zlib.crc32(data, checksum)
            with naming(path):
                while len(data):
                    written = os.pwrite(descriptor, data, place)
                    data, place = data[written:], place + written
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if place != span.stop:
        raise ValueError(f"{path}: expected {shard.n_values} values, got another number")
    return checksum


def open_jacobian(directory: Path, layout: JacobianLayout) -> Float32Array:
    """All derivatives of a project as one flat memory-mapped array.

    Raises:
        InputError: the file is missing or has another size.
    """
    path = directory / layout.file
    advice = f'run "{command_for(path, layout.command)}" again'
    try:
        size = path.stat().st_size
    except OSError:
        raise InputError(f"expected derivatives, got no file; {advice}", file=str(path)) from None
    if size != layout.n_bytes:
        raise InputError(f"expected {layout.n_bytes} bytes, got {size}; {advice}", file=str(path))
    return np.memmap(path, dtype="<f4", mode="r", shape=(layout.n_values,))


def damaged_shards(directory: Path, layout: JacobianLayout) -> Iterator[JacobianShard]:
    """Shards whose checksum is wrong."""
    with (directory / layout.file).open("rb") as handle:
        for shard in layout.shards:
            handle.seek(_BYTES * shard.offset)
            if checksum_of(handle, _BYTES * shard.n_values) != shard.checksum:
                yield shard


def size_on_disk(directory: Path) -> int:
    """Bytes that all files of derivatives take there, stale and incomplete ones included."""
    # files may be sparse, as shards are written in any order
    stems = (JacobianLayout.stem, StrainLayout.stem)
    files = itertools.chain.from_iterable(directory.glob(f"{stem}-*") for stem in stems)
    return sum(512 * path.lstat().st_blocks for path in files)


def other_jacobians(directory: Path, layout: JacobianLayout, plan: Path | None = None) -> list[Path]:
    """Files of earlier inputs; `plan` is the record of the present choice."""
    return [
        path
        for path in directory.glob(f"{layout.stem}-*")
        if not path.name.startswith(layout.file) and path != plan
    ]
