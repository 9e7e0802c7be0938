"""Expands compressed files and archives, within limits of memory and total size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from tio2nn.errors import InputError
from tio2nn.structures.names import compression

# an XSF file of this size has 3 million atoms, and parsing takes 20 times its size in memory
LARGEST_FILE = 256 * 2**20
# structure files compress to a tenth, rarely to less than a hundredth
_LARGEST_EXPANSION = 200
_ALWAYS_ALLOWED = 2**30  # bytes; any archive may expand to this size
TAR_BLOCK = 512

_EXPANDERS: dict[str, Callable[[BinaryIO], io.BufferedIOBase]] = {
    ".gz": lambda compressed: gzip.GzipFile(fileobj=compressed),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
SUFFIX_OF_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
"""How compressed files begin: their names are not always right."""
_LONGEST_MAGIC = 6
# bytes; expanding 8 KB at a time between other work takes 7,146 structures 1 s longer
_EXPANDED_AT_ONCE = 2**20


def expanded(stream: BinaryIO, name: str) -> BinaryIO:
    """The content of an open file, uncompressed if its name ends in `.gz`, `.bz2` or `.xz`, within limits."""
    suffix = compression(name)
    if not suffix:
        return stream
    return io.BufferedReader(_BoundedFile(stream, suffix), _EXPANDED_AT_ONCE)


def too_large(file: str) -> InputError:
    return InputError(f"expected at most {LARGEST_FILE // 2**20} MB, got a larger file", file=file)


class BoundedReader(io.RawIOBase):
    """Reads an archive forwards, uncompressed, and limits memory and total size."""

    def __init__(self, compressed: BinaryIO, archive: str) -> None:
        self._archive = archive
        self._stream: io.BufferedReader | BinaryIO = compressed
        magic = compressed.read(_LONGEST_MAGIC)
        compressed.seek(0)
        for beginning, suffix in SUFFIX_OF_MAGIC.items():
            if magic.startswith(beginning):
                self._stream = io.BufferedReader(_EXPANDERS[suffix](compressed), _EXPANDED_AT_ONCE)
        size = os.fstat(compressed.fileno()).st_size
        self._limit = max(_ALWAYS_ALLOWED, _LARGEST_EXPANSION * size)
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_FILE:
            raise too_large(self._archive)
        data = self._stream.read(size)
        if size == TAR_BLOCK:
            self.last_block = data
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position > self._limit:
            raise InputError(
                f"expected an archive of at most {self._limit // 2**20} MB when unpacked, got a larger one",
                file=self._archive,
            )
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _BoundedFile(io.RawIOBase):
    """A compressed file that is read forwards, whose total size is limited."""

    def __init__(self, compressed: BinaryIO, suffix: str) -> None:
        self._stream = _EXPANDERS[suffix](compressed)
        compressed.seek(0, os.SEEK_END)
        self._left = max(2 * LARGEST_FILE, _LARGEST_EXPANSION * compressed.tell())
        compressed.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except MemoryError:
            # of xz, whose dictionary takes what the file says, up to 4 GB
            raise OSError("expanding it takes more memory than there is") from None
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it expands to more than {_LARGEST_EXPANSION} times its size")
        buffer[: len(data)] = data
        return len(data)
