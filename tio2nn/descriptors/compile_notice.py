"""A notice before kernels are compiled, which takes half a minute on a slow machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event


class _First(event.Listener):  # type: ignore[misc]
    """Calls a function when the first compilation starts."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce: Callable[[], None] | None = announce

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        announce, self._announce = self._announce, None
        if announce is not None:
            announce()

    def on_end(self, event: Any) -> None:
        """Nothing to do."""


@contextmanager
def before_compiling(announce: Callable[[], None]) -> Iterator[None]:
    """Call `announce` once, before the first kernel is compiled in this block.

    It is not called if all kernels come from Numba's cache. Worker processes are not observed.
    """
    with event.install_listener("numba:compile", _First(announce)):
        yield
