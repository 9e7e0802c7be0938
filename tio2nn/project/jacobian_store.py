"""Derivatives of the symmetry functions on disk: one file of float32 that is mapped into memory, never read whole.

The derivatives of a structure of n atoms are (n, n_features, n, 3), one structure behind the other, those without
reference forces left out, and those that were not chosen where all would not fit. Shards are written to their places in
the file in any order; a ledger beside it has one line for each that is done, so a computation that was killed goes on
with the others. The file's name carries the digest of all that its content depends on. `jacobian.json`, written last,
says that it is whole.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError, naming
from tio2nn.files.tables import document, write_json
from tio2nn.project.feature_store import checksum_of, digest_of, shard_spans
from tio2nn.project.project import command_for

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BOUNDS = {
    "memory": "half of the memory",
    "disk": "nine tenths of the free disk",
    "limit": "derivatives_limit in params.json",
}
"""What bounds the size of the derivatives, and how people call it."""

_BYTES = 4
_PATTERN = "jacobian-*"


@dataclass(frozen=True)
class JacobianShard:
    """Derivatives of consecutive structures.

    Attributes:
        first, last: the structures first:last of the store.
        offset: where they begin in the file, in numbers.
        n_values: how many numbers they are.
        checksum: CRC-32 of their bytes; None before they are written.
    """

    first: int
    last: int
    offset: int
    n_values: int
    checksum: int | None = None


@dataclass(frozen=True)
class Selection:
    """Which of the structures with forces have derivatives, where those of all would not fit.

    Attributes:
        structures: one bit for each structure of the store, the first one in the highest bit, as hexadecimal digits.
        bound: what they were to fit into, one of `BOUNDS`.
        budget_bytes: its size.
        limit: `training.derivatives_limit` under which it was made, GB.
    """

    structures: str
    bound: str
    budget_bytes: int
    limit: float | None = None

    @classmethod
    def of(cls, chosen: BoolArray, bound: str, budget_bytes: int, limit: float | None) -> Selection:
        """Of the structures with true bits in `chosen`, (n_structures,)."""
        return cls(np.packbits(chosen).tobytes().hex(), bound, budget_bytes, limit)

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> Selection | None:
        """What `asdict` made of a selection, or of none.

        Raises:
            ValueError, TypeError, KeyError: something else.
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
        """What the derivatives of all structures would not fit into."""
        return f"{BOUNDS[self.bound]}, {self.budget_bytes / 1e9:.3g} GB"


def with_derivatives(has_forces: BoolArray, selection: Selection | None) -> BoolArray:
    """(n_structures,) which structures with forces have derivatives: those of the selection, where there is one."""
    return has_forces if selection is None else has_forces & selection.mask(len(has_forces))


@dataclass(frozen=True)
class JacobianLayout:
    """Where the derivatives of each shard lie: the content of `jacobian.json`.

    Those of a structure lie behind those of the ones before it in its shard, `jacobian_sizes` numbers each.

    Attributes:
        fingerprint: of the parameter set.
        structures: digest of all geometries.
        n_features: symmetry functions.
        file: name in the features directory.
        shards: in the order of the structures.
        selection: which structures with forces have derivatives; None for all.
    """

    fingerprint: str
    structures: str
    n_features: int
    file: str
    shards: tuple[JacobianShard, ...]
    unit: str = "1/Å"
    selection: Selection | None = None

    @classmethod
    def plan(
        cls,
        fingerprint: str,
        geometry_hashes: Sequence[str],
        n_features: int,
        n_atoms: IntArray,
        has_forces: BoolArray,
        selection: Selection | None = None,
    ) -> JacobianLayout:
        """Lay out the structures of a store.

        Args:
            fingerprint: of the parameter set.
            geometry_hashes: `Structure.geometry_hash` of each structure.
            n_features: symmetry functions.
            n_atoms, has_forces: (n_structures,)
            selection: structures with forces that have derivatives; None for all.
        """
        if selection is not None:
            has_forces = has_forces & selection.mask(len(has_forces))
        sizes = jacobian_sizes(n_atoms, n_features, has_forces)
        shards: list[JacobianShard] = []
        offset = 0
        for first, last, n_labelled in shard_spans((n_atoms * has_forces).tolist()):
            if n_labelled:
                n_values = int(sizes[first:last].sum())
                shards.append(JacobianShard(first, last, offset, n_values))
                offset += n_values
        structures = digest_of(geometry_hashes)
        labelled = hashlib.blake2b(np.packbits(has_forces).tobytes(), digest_size=12).hexdigest()
        digest = digest_of([fingerprint, structures, labelled])
        file = f"jacobian-{digest}.f32"
        return cls(fingerprint, structures, n_features, file, tuple(shards), selection=selection)

    def has_derivatives(self, has_forces: BoolArray) -> BoolArray:
        """(n_structures,) which structures have derivatives, of which have forces."""
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
    def read(cls, path: Path) -> JacobianLayout:
        """Read `jacobian.json`.

        Raises:
            InputError: it is no such file.
        """
        advice = f'run "{command_for(path, "featurize --forces")}" again'
        with document(path, "a table of derivatives", advice) as content:
            shards = tuple(JacobianShard(**shard) for shard in content.pop("shards"))
            selection = Selection.from_json(content.pop("selection", None))
            return cls(**content, shards=shards, selection=selection)


def jacobian_sizes(n_atoms: IntArray, n_features: int, has_derivatives: BoolArray) -> IntArray:
    """(n_structures,) numbers that the derivatives of each structure are; 0 for those without."""
    return np.asarray(3 * n_features * n_atoms**2 * has_derivatives)


class ShardLedger:
    """Which shards of a file are done: one line for each, appended when its bytes are on disk.

    It lies beside the file. Where the file is gone, so is what the ledger knew of it.

    Args:
        data_file: of the derivatives.
        layout: of the file.

    Raises:
        InputError: one of the two files is a link; they are written where they lie, so in a project of a stranger it
            could lead to any file.

    Attributes:
        checksums: of each shard that is done, by its offset.
    """

    def __init__(self, data_file: Path, layout: JacobianLayout) -> None:
        self._path = data_file.with_name(f"{data_file.name}.done")
        for path in (data_file, self._path):
            if path.is_symlink():
                raise InputError("expected a file of tio2nn, got a link", file=str(path))
        self.checksums: dict[int, int] = {}
        if not data_file.exists():
            self.remove()
        if not self._path.exists():
            return
        known = {shard.offset for shard in layout.shards}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            # the last line may have been cut off, and its end stands for its being whole
            cells = line.split()
            whole = len(cells) == 3 and cells[2] == "." and cells[0].isdigit() and cells[1].isdigit()
            if whole and int(cells[0]) in known:
                self.checksums[int(cells[0])] = int(cells[1])

    def append(self, shard: JacobianShard, checksum: int) -> None:
        """Write down that a shard is done."""
        with naming(self._path), self._path.open("a", encoding="utf-8") as handle:
            # on a line of its own, also behind one that a full disk cut off
            handle.write(f"\n{shard.offset} {checksum} .\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.checksums[shard.offset] = checksum

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def write_jacobian_shard(path: Path, shard: JacobianShard, jacobians: Iterable[Float32Array]) -> int:
    """Write derivatives to their place in the file.

    Args:
        path: of the file.
        shard: where.
        jacobians: (n, n_features, n, 3) float32 of each structure with forces, in order.

    Returns:
        The checksum of the bytes.

    Raises:
        OSError: the disk is full, say.
    """
    checksum, place = 0, _BYTES * shard.offset
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
    if place != _BYTES * (shard.offset + shard.n_values):
        raise ValueError(f"{path}: expected {shard.n_values} numbers, got another count")
    return checksum


def open_jacobian(directory: Path, layout: JacobianLayout) -> Float32Array:
    """All derivatives of a project as one flat array that the system reads from disk when they are used.

    Raises:
        InputError: missing, or of another size.
    """
    path = directory / layout.file
    advice = f'run "{command_for(path, "featurize --forces")}" again'
    try:
        size = path.stat().st_size
    except OSError:
        raise InputError(f"expected derivatives, got no file; {advice}", file=str(path)) from None
    if size != layout.n_bytes:
        raise InputError(f"expected {layout.n_bytes} bytes, got {size}; {advice}", file=str(path))
    return np.memmap(path, dtype="<f4", mode="r", shape=(layout.n_values,))


def damaged_shards(directory: Path, layout: JacobianLayout) -> Iterator[JacobianShard]:
    """Shards whose bytes are not those that were written."""
    with (directory / layout.file).open("rb") as handle:
        for shard in layout.shards:
            handle.seek(_BYTES * shard.offset)
            if checksum_of(handle, _BYTES * shard.n_values) != shard.checksum:
                yield shard


def size_on_disk(directory: Path) -> int:
    """Bytes that derivatives take there now, of whatever inputs and however complete."""
    # shards are written in any order: a file may take less than its size
    return sum(512 * path.lstat().st_blocks for path in directory.glob(_PATTERN))


def remove_other_jacobians(directory: Path, layout: JacobianLayout) -> None:
    """Delete files that belong to earlier inputs."""
    for path in directory.glob(_PATTERN):
        if not path.name.startswith(layout.file):
            path.unlink()
