"""How much memory something takes at its peak."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def peak_bytes(work: Callable[[], object]) -> int:
    """Of Python objects and NumPy arrays, beyond what was there before; what the work returns counts."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
