"""Progress reports of long work, independent of who displays them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Advance: TypeAlias = Callable[[int], None]
"""Called with the number of steps completed since the last call."""

Track: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]
"""`with track("reading structures", total) as advance: advance(1)`; a total of 0 means unknown."""


@contextmanager
def silent(_description: str, _total: int) -> Iterator[Advance]:
    """A tracker that shows nothing."""
    yield lambda _steps: None
