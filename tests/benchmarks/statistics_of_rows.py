"""Means and the like over rows that belong together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from benchmarks.record import Row


def together(rows: Sequence[Row], *names: str) -> Iterator[list[Row]]:
    """Rows with the same values under these names, in the order of the first of each."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.values()


def mean(rows: Sequence[Row], name: str) -> float | None:
    return _of(rows, name, statistics.mean)


def median(rows: Sequence[Row], name: str) -> float | None:
    return _of(rows, name, statistics.median)


def worst(rows: Sequence[Row], name: str) -> float | None:
    return _of(rows, name, max)


def deviation(rows: Sequence[Row], name: str) -> float | None:
    """Standard deviation; nothing for a single row."""
    return _of(rows, name, statistics.stdev) if len(rows) > 1 else None


def _of(rows: Sequence[Row], name: str, reduce: Callable[[list[float]], float]) -> float | None:
    """Rounded to what is worth printing; nothing where a row has nothing."""
    values = [row[name] for row in rows]
    return None if None in values else float(f"{reduce(values):.5g}")
