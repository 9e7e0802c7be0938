"""The structures that a benchmark runs on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tio2nn.io.read import read_structures
from tio2nn.structures.names import stem
from tio2nn.structures.structure import Structure


def chosen(sources: Sequence[str], names: Path | None) -> list[Structure]:
    """The structures of all sources, or those of them that the list names."""
    wanted = None if names is None else {stem(name) for name in names.read_text("utf-8").split()}
    found = [item for item in read_structures(sources, errors="yield") if isinstance(item, Structure)]
    return [s for s in found if wanted is None or s.name in wanted]
