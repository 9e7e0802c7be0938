"""Terminal output: progress, tables and messages on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from tio2nn.errors import naming
from tio2nn.parallel.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

SHOWN = 10  # rejected files, warnings or trials to show; the rest are only counted
_SHORTEST_SECONDS = 0.05  # shorter times would be shown as 0.0 s
_SHOWN_LEFT_SECONDS = 10.0  # do not show shorter times


@cache
def stderr() -> Console:
    """The rich console for messages; rich is imported late, so that `--help` does not wait for it."""
    from rich.console import Console

    class Messages(Console):
        def on_broken_pipe(self) -> None:
            # the reader, such as head, has gone; the work and its result on stdout go on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    return Messages(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line of information."""
    _print(message)


def warn(message: str) -> None:
    """Print a one-line warning."""
    _print(f"warning: {message}", "yellow")


def error(message: str) -> None:
    """Print a one-line error."""
    _print(message, "red")


def _print(line: str, style: str = "") -> None:
    from rich.text import Text

    stderr().print(Text(line, style=style))


def rejected(errors: Sequence[Exception]) -> None:
    """Print why files or structures were rejected: the first few, and how many more there are."""
    for rejection in errors[:SHOWN]:
        error(str(rejection))
    if len(errors) > SHOWN:
        error(f"... and {len(errors) - SHOWN} more")


@contextmanager
def track(description: str, total: int) -> Iterator[Advance]:
    """Show a progress bar with rate and time left if stderr is a terminal."""
    if not stderr().is_terminal:
        yield lambda _steps: None
        return
    from rich import progress as bars

    columns = (
        [
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}"),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
        ]
        if total == 0
        else [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(compact=True),
        ]
    )
    with bars.Progress(*columns, console=stderr(), transient=True) as progress:
        task = progress.add_task(description, total=total or None, rate="")

        def advance(steps: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, advance=steps, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance


@contextmanager
def compile_notice(what: str) -> Iterator[None]:
    """Say so before kernels are compiled; print nothing if all of them come from Numba's cache.

    Args:
        what: computed by the kernels.
    """
    from tio2nn.descriptors.compile_notice import before_compiling

    with before_compiling(lambda: say(f"compiling {what} ...")):
        yield


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hide what C++ libraries write to stderr as they start, such as notes on missing GPUs."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns; a line that is no terminal's stays one line."""
    if not stderr().is_terminal:
        lines = list(rows)
        width = max((len(name) for name, _ in lines), default=0)
        for name, value in lines:
            say(f"{name.ljust(width)}  {value}".rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in rows:
        shown.add_row(Text(name), Text(value))
    stderr().print(shown)


@contextmanager
def epochs(total: int) -> Iterator[Callable[[int, int, str], None]]:
    """Show the training errors in a live line, or, if stderr is not a terminal, in one line per tenth of the epochs.

    Yields:
        show(member, epoch, errors), with the errors as text.
    """
    if not stderr().is_terminal:
        lines = max(1, total // 10)
        begun: dict[int, tuple[int, float]] = {}

        def log(member: int, epoch: int, errors: str) -> None:
            # a member resumed from a checkpoint does not begin at epoch 1
            first, begin = begun.setdefault(member, (epoch, time.monotonic()))
            if epoch % lines == 0 or epoch == total:
                left = (total - epoch) * (time.monotonic() - begin) / max(1, epoch - first)
                rest = f"; about {duration(left)} left" if left >= _SHOWN_LEFT_SECONDS else ""
                say(f"member {member}, epoch {epoch}/{total}: {errors}{rest}")

        yield log
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[errors]}"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(*columns, console=stderr()) as progress:
        tasks: dict[int, TaskID] = {}

        def show(member: int, epoch: int, errors: str) -> None:
            if member not in tasks:
                tasks[member] = progress.add_task(f"member {member}", total=total, errors="")
            progress.update(tasks[member], completed=epoch, errors=errors)

        yield show


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = True
) -> None:
    """Print a small table; with `numbers`, all columns but the first are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        shown.add_column(column, justify="right" if numbers and k > 0 else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    stderr().print(shown)


def print_line(text: str) -> None:
    """Print one line of a result on stdout, neither wrapped nor colored."""
    with naming("stdout"):
        print(text)  # noqa: T201


def print_json(value: object) -> None:
    """Print a result on stdout as JSON."""
    import json

    with naming("stdout"):
        print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a result on stdout as a table with space-padded columns."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def estimated(seconds: float) -> str:
    """An estimated duration: "about 3.2 s", "less than 0.1 s"."""
    return "less than 0.1 s" if seconds < _SHORTEST_SECONDS else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """A duration in a readable form: 0.4 s, 1 min 12 s, 2 h 5 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
