"""How the loops are compiled: once for all processes where the machine code can be kept, else once for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np

from tio2nn.descriptors.processor import instruction_set

# Not so under NUMBA_DISABLE_JIT=1, which leaves the loops to Python and its debuggers.
IS_COMPILED = not numba.config.DISABLE_JIT

# Index variables of loops are unsigned: Numba then leaves out the check for negative indices, which would keep LLVM
# from vectorizing (6.6 → 3.2 ns per pair of neighbors).
U = np.uintp

# Sums may be reordered and fused, but NaN and infinity keep their meaning.
OPTIONS = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}


# Numba looks at the file of a loop alone to tell whether the machine code that it kept still fits; what is inlined
# lies in other files.
_SOURCES = sorted(
    (path.name, path.stat().st_mtime, path.stat().st_size) for path in Path(__file__).parent.glob("*.py")
)


_PROCESSOR = instruction_set()


def compiled_once(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit`, its machine code kept beside the module, else in the user's own cache directory.

    Each processor model has files of its own: processes on machines that share a directory may compile at once, and
    Numba gives the files of one model names that are free at that moment.

    Nothing depends on it: an installation and a home that cannot be written, or a disk that is full, cost time alone.

    Args:
        options: of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not IS_COMPILED:
            return function
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        except RuntimeError:
            # neither place can be written; numba says so in this way
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        cache = dispatcher._cache
        file = cache._cache_file
        file._source_stamp = (file._source_stamp, _SOURCES)
        name = f"{file._index_name.removesuffix('.nbi')}.{_PROCESSOR}"
        file._index_name, file._data_name_pattern = f"{name}.nbi", f"{name}.{{number:d}}.nbc"
        file._index_path = str(Path(file._cache_path) / file._index_name)
        save = cache.save_overload

        def save_if_possible(*args: Any) -> None:
            with suppress(OSError):
                save(*args)

        cache.save_overload = save_if_possible
        return dispatcher  # type: ignore[no-any-return]

    return decorate


# For loops that Python calls; other threads run meanwhile.
compiled = compiled_once(**OPTIONS, nogil=True)

# For loops that these call as they are, which LLVM inlines. A function that stays one of its own is there twice, in its
# own machine code and in that of its caller, with sums in another order. Which of them runs would depend on whether
# this process compiled the caller or loaded it, and so would the last bits. Give it the arrays that it needs: of a
# tuple, the references to all arrays are counted at each call (6 to 15 % of a gradient).
compiled_inline = compiled_once(**OPTIONS, forceinline=True)

# For pieces that several loops share as if each had its own copy: Numba pastes them before it infers types. LLVM then
# sees whole loops, and orders their sums by what stands around them; of pieces that it optimized by themselves before,
# it makes other bits. References are not counted as long as a piece calls nothing and takes no part of an array.
pasted: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(inline="always", **OPTIONS)
