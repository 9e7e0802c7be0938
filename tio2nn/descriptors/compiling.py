"""How the loops are compiled: once for all processes where the machine code can be kept, else once for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba


def compiled_once(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit`, its machine code kept beside the module, else in the user's own cache directory.

    Nothing depends on it: an installation and a home that cannot be written, or a disk that is full, cost time alone.

    Args:
        options: of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        except RuntimeError:
            # neither place can be written; numba says so in this way
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        cache = dispatcher._cache
        save = cache.save_overload

        def save_if_possible(*args: Any) -> None:
            with suppress(OSError):
                save(*args)

        cache.save_overload = save_if_possible
        return dispatcher  # type: ignore[no-any-return]

    return decorate
