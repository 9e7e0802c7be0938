"""Parts of a data set whose labels may have other units or signs than the rest: its sources and its kinds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tio2nn.structures.structure import Structure

_FEWEST = 5  # structures of a part
_MOST_PARTS = 100  # the largest; each takes some 20 ms
_HERE = "."  # the folder of files that are named without one


def by_kind(structures: Sequence[Structure]) -> dict[str, list[Structure]]:
    """Structures of each `config_type`, the largest parts that have enough of them, by what messages call them."""
    return largest(
        [f"the kind {s.config_type}" if s.config_type else "no kind" for s in structures], structures
    )


def by_source(structures: Sequence[Structure]) -> dict[str, list[Structure]]:
    """Structures of each file, as `by_kind`; those of files of few by their folder, or the next one with enough."""
    sources = [structure.file for structure in structures]
    while True:
        counts = Counter(sources)
        few = {source for source, n in counts.items() if n < _FEWEST and source != _HERE}
        if not few:
            return largest(sources, structures)
        sources = [source.rpartition("/")[0] or _HERE if source in few else source for source in sources]


def largest(names: Sequence[str], structures: Sequence[Structure]) -> dict[str, list[Structure]]:
    """The largest parts that have enough structures, by name.

    Args:
        names: of the part of each structure.
        structures: as many.
    """
    parts: dict[str, list[Structure]] = defaultdict(list)
    for name, structure in zip(names, structures, strict=True):
        parts[name].append(structure)
    chosen = {name for name, _ in Counter(names).most_common(_MOST_PARTS) if len(parts[name]) >= _FEWEST}
    return {name: own for name, own in parts.items() if name in chosen}
