"""Short names of contents: equal contents have equal digests, and others have others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def digest(data: bytes) -> str:
    """Hexadecimal digest of some bytes, of 24 digits."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def digest_of(parts: Sequence[str]) -> str:
    """Digest of a sequence of texts, each of one line."""
    return digest("\n".join(parts).encode())


def digest_of_file(path: Path) -> str:
    """Digest of the content of a file.

    Raises:
        OSError: the file cannot be read.
    """
    return digest(path.read_bytes())
