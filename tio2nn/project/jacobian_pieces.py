"""Derivatives that several machines compute at once: each shard in a file of its own, a piece.

Machines that write into one mapped file over a network damage each other's pages. So the parts of a job array write
pieces, and one command at the end moves them to their places in the file, one after the other: all of it never takes
more disk than the file and one piece. A piece ends with the checksum of what stands before.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Container, Iterable
from pathlib import Path

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.errors import naming
from tio2nn.files.atomic import atomic_write
from tio2nn.project.jacobian_store import JacobianLayout, JacobianShard, ShardLedger, byte_span

_CHECKSUM_BYTES = 4
_CHUNK = 1 << 20


def piece_file(data_file: Path, shard: JacobianShard) -> Path:
    """The piece of a shard: beside the file, whose name contains a digest of everything that it depends on."""
    return data_file.with_name(f"{data_file.name}.{shard.offset}.piece")


def write_piece(data_file: Path, shard: JacobianShard, jacobians: Iterable[Float32Array]) -> None:
    """Write the derivatives of a shard to its piece, atomically.

    Args:
        data_file: that the piece will be moved to.
        shard: what the piece holds.
        jacobians: (n, n_features, n, 3) float32 of each structure with forces, in order.

    Raises:
        OSError: for example, the disk is full.
    """
    checksum, n_bytes = 0, 0
    with atomic_write(piece_file(data_file, shard), "wb") as handle:
        for jacobian in jacobians:
            data = np.ascontiguousarray(jacobian, dtype="<f4").reshape(-1).view(np.uint8).data
            checksum, n_bytes = zlib.crc32(data, checksum), n_bytes + len(data)
            handle.write(data)
        if n_bytes != len(byte_span(shard)):
            raise ValueError(f"{data_file}: expected {shard.n_values} values, got another number")
        handle.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def collect_pieces(
    data_file: Path, layout: JacobianLayout, ledger: ShardLedger, advance: Callable[[int], None]
) -> None:
    """Move all pieces to their places in the file; damaged ones are removed, and their shards remain to be computed.

    Args:
        data_file: of the derivatives; may not exist yet.
        layout: of the file.
        ledger: of the file; receives the shards.
        advance: called with the bytes of each piece.
    """
    for shard in layout.shards:
        piece = piece_file(data_file, shard)
        if not piece.is_file():
            continue
        if (
            shard.offset not in ledger.checksums
            and (checksum := _copied(piece, data_file, shard)) is not None
        ):
            ledger.append(shard, checksum)
        piece.unlink()
        advance(len(byte_span(shard)))


def _copied(piece: Path, data_file: Path, shard: JacobianShard) -> int | None:
    """Copy a piece to its place; return its checksum, or None if it is damaged."""
    span = byte_span(shard)
    if piece.stat().st_size != len(span) + _CHECKSUM_BYTES:
        return None
    checksum, place = 0, span.start
    descriptor = os.open(data_file, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        with piece.open("rb") as handle, naming(data_file):
            while place < span.stop:
                left = memoryview(handle.read(min(_CHUNK, span.stop - place)))
                if not left:
                    return None
                checksum = zlib.crc32(left, checksum)
                while left:
                    written = os.pwrite(descriptor, left, place)
                    left, place = left[written:], place + written
            recorded = int.from_bytes(handle.read(_CHECKSUM_BYTES), "little")
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return checksum if checksum == recorded else None


def missing_shards(data_file: Path, layout: JacobianLayout, finished: Container[int]) -> list[int]:
    """Places in the layout of the shards that are neither finished, given by their offsets, nor in a piece."""
    return [
        place
        for place, shard in enumerate(layout.shards)
        if shard.offset not in finished and not piece_file(data_file, shard).is_file()
    ]


def pieces_there(data_file: Path, layout: JacobianLayout) -> list[JacobianShard]:
    """The shards that have a piece."""
    return [shard for shard in layout.shards if piece_file(data_file, shard).is_file()]
