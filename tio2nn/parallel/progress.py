"""How a verb says how far it has come, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Advance: TypeAlias = Callable[[int], None]
"""Called with the number of further steps done."""

Track: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]
"""`with track("reading structures", total) as advance: advance(1)`; a total of 0 is not known."""


@contextmanager
def silent(_description: str, _total: int) -> Iterator[Advance]:
    """The listener that shows nothing."""
    yield lambda _steps: None
