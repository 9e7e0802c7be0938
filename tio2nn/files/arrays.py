"""Named arrays in one `.npz` file: written atomically, and never read from a pickle, which could run code."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tio2nn.files.atomic import atomic_write
from tio2nn.files.paths import AnyPath


def write_arrays(path: AnyPath, arrays: Mapping[str, Any]) -> None:
    """Write arrays of numbers or text under their names."""
    save: Callable[..., None] = np.savez  # its type hints take array names for options
    with atomic_write(path, "wb") as handle:
        save(handle, **arrays)


@contextmanager
def opened_arrays(path: AnyPath) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file; each is read, and its checksum verified, on access.

    Raises:
        OSError: no such file.
        Exception: a damaged file; zipfile and NumPy raise errors of many kinds.
    """
    # np.load leaves a file that it opened itself open if the content is damaged
    with Path(path).open("rb") as handle:
        if not zipfile.is_zipfile(handle):
            # NumPy would advise to unpickle it
            raise ValueError("another kind of file")
        handle.seek(0)
        with np.load(handle, allow_pickle=False) as arrays:
            _check_stored(arrays)
            yield arrays


def _check_stored(arrays: Any) -> None:
    if any(member.compress_type != zipfile.ZIP_STORED for member in arrays.zip.infolist()):
        # our files are not compressed, and a few compressed bytes could fill the memory
        raise ValueError("compressed arrays")
