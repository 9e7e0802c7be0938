"""Named arrays in one `.npz` file: written whole, and never read from a pickle, which could run code."""

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
    save: Callable[..., None] = np.savez  # its own type takes the names of arrays for options
    with atomic_write(path, "wb") as handle:
        save(handle, **arrays)


@contextmanager
def opened_arrays(path: AnyPath) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file, each read, and checked against its checksum, when it is asked for.

    Raises:
        OSError: no such file.
        Exception: damage, which zipfile and NumPy meet with errors of many kinds.
    """
    # an open file, for np.load leaves one that it opened itself open if the content is damaged
    with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
        if any(member.compress_type != zipfile.ZIP_STORED for member in arrays.zip.infolist()):
            # we compress nothing, and a few bytes of somebody else's could fill the memory
            raise ValueError("compressed arrays")
        yield arrays
