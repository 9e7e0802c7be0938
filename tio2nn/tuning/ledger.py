"""The ledgers of a project: every trial that was ever finished, a line each.

KerasTuner's own files lose trials when a search is killed and restarted. Here each finished trial is a line with a
digest of everything that it depends on. A search looks up the ledgers before it computes, so it resumes after a kill,
and reuses trials of searches over other grids.

Lines are appended, each in one go. Every process writes a ledger of its own and reads those of all: `ledger.csv` is
that of the command that works alone, `ledger-3-of-20.csv` that of part 3 of 20. A last line that is cut off was being
written when its process was killed, and does not count.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError, naming, unreadable
from tio2nn.files.atomic import write_once
from tio2nn.files.tables import write_csv
from tio2nn.job_part import JobPart
from tio2nn.tuning.trials import FAILED, STARTED, TRIAL_COLUMNS, Candidate, Trial, cells_of, trial_from

_HEADER = ("settings", "search", "event", *TRIAL_COLUMNS)
# ledgers of earlier versions: without stress; without searches that several workers share; those of 0.1.0 without
# forces
_WITHOUT_STRESS = tuple(name for name in _HEADER if name != "validation_stress_rmse_meV_per_A3")
_WITHOUT_SEARCHES = tuple(name for name in _WITHOUT_STRESS if name not in ("search", "event"))
_WITHOUT_FORCES = tuple(name for name in _WITHOUT_SEARCHES if name != "validation_force_rmse_eV_per_A")


class Line(NamedTuple):
    """One line of a ledger.

    Attributes:
        settings: digest of everything but the candidate that the outcome depends on.
        trial: the trial; `STARTED` without an outcome.
        search: digest of the search that several workers share; "" for others.
        event: the place of the line in that search, from 1; 0 for others.
        ledger: the file that it stands in.
    """

    settings: str
    trial: Trial
    search: str = ""
    event: int = 0
    ledger: Path = Path()


def of_part(path: Path, part: JobPart) -> Path:
    """The file of one part, beside that of the command that works alone: "ledger-3-of-20.csv" for "ledger.csv"."""
    return path.with_name(f"{path.stem}-{part.number}-of-{part.total}{path.suffix}")


class Ledger:
    """The ledger of one process, and those that others write beside it.

    Args:
        path: the own file, which need not exist.
        command: the command that makes it, for messages.

    Attributes:
        path: the own file.
        lines: all lines of searches that several workers share.

    Raises:
        InputError: a file is no ledger.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._command = command
        self._own = _File(path, command)
        self._files = {path: self._own}
        self._trials: dict[tuple[str, Candidate], tuple[tuple[bool, tuple[int, ...]], Trial]] = {}
        self.refresh()

    def expect(self, path: Path) -> None:
        """Read another ledger from now on, even if the folder does not list it yet, as may happen over a network.

        An empty one is written if there is none, so that every machine that looks for it by its name finds it.
        """
        write_once(path, _text_of(_HEADER).decode())
        self._files.setdefault(path, _File(path, self._command))

    def refresh(self) -> None:
        """Read what has been appended since the last call.

        Raises:
            InputError: a file is no ledger.
        """
        for path in self.path.parent.glob("ledger*.csv"):
            self._files.setdefault(path, _File(path, self._command))
        for path in sorted(self._files, key=_rank):
            for line in self._files[path].read():
                self._take(line)

    def find(self, settings: str, candidate: Candidate, number: int) -> Trial | None:
        """The finished trial of a candidate with these settings, renumbered; failed trials do not count.

        Args:
            settings: digest of everything but the candidate that its outcome depends on.
            candidate: the candidate.
            number: of the trial in the present search.
        """
        found = self._trials.get((settings, candidate))
        return None if found is None or found[1].status == FAILED else replace(found[1], trial=number)

    def add(self, settings: str, trial: Trial, search: str = "", event: int = 0) -> None:
        """Append a line.

        Raises:
            InputError: the own file is a link; it is written in place, so that a link could lead to any file.
            OSError: for example, the disk is full; what was written of the line is taken back.
        """
        line = Line(settings, trial, search, event, self.path)
        self._own.append(line)
        self._take(line)

    def _take(self, line: Line) -> None:
        if line.event:
            self.lines.append(line)
        if line.trial.status == STARTED:
            return
        # in whatever order files are read: what finished before what failed, then by the names of the files
        key, place = (line.settings, line.trial.candidate), (line.trial.status == FAILED, _rank(line.ledger))
        if key not in self._trials or place < self._trials[key][0]:
            self._trials[key] = place, line.trial


def _rank(path: Path) -> tuple[int, ...]:
    """The place of a file among the ledgers: `ledger.csv`, then by number of parts and part."""
    return tuple(map(int, reversed(re.findall(r"\d+", path.name))))


class _File:
    """One ledger."""

    def __init__(self, path: Path, command: str) -> None:
        self._path = path
        self._advice = f'delete it and run "{command}" again'
        self._columns: tuple[str, ...] = ()
        self._n_bytes = 0  # read so far
        self._n_lines = 0
        self._is_ready = False

    def read(self) -> list[Line]:
        """The whole lines that have been appended since the last call."""
        try:
            with self._path.open("rb") as handle:
                handle.seek(self._n_bytes)
                data = handle.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"{unreadable(error)}; {self._advice}", file=str(self._path)) from None
        whole = data[: data.rfind(b"\n") + 1]
        if not self._n_bytes and not whole and not _text_of(_HEADER).startswith(data):
            raise self._refusal("columns", "others", 1)
        found = [line for text in whole.split(b"\n")[:-1] if (line := self._parsed(text)) is not None]
        self._n_bytes += len(whole)
        return found

    def append(self, line: Line) -> None:
        """Write a line at the end, and let the disk confirm it."""
        self.make_ready()
        text = _text_of(_cells_of(line))
        with naming(self._path), self._path.open("ab", buffering=0) as handle:
            try:
                left = memoryview(text)
                while left:
                    left = left[handle.write(left) :]
                os.fsync(handle.fileno())
            except OSError:
                with suppress(OSError):
                    handle.truncate(self._n_bytes)
                raise
        self._n_bytes += len(text)
        self._n_lines += 1

    def make_ready(self) -> None:
        """Let the file end with a whole line, and have the present columns."""
        if self._is_ready:
            return
        if self._path.is_symlink():
            raise InputError("refusing to write through a symbolic link", file=str(self._path))
        if self._columns == _HEADER:
            os.truncate(self._path, self._n_bytes)
        else:
            self._n_bytes = self._n_lines = 0
            write_csv(self._path, _HEADER, [_cells_of(line) for line in self.read()])
            self._columns, self._n_bytes = _HEADER, self._path.stat().st_size
        self._is_ready = True

    def _parsed(self, text: bytes) -> Line | None:
        """A line; None for the header."""
        self._n_lines += 1
        try:
            (cells,) = csv.reader([text.decode("utf-8").removesuffix("\r")], strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError) as error:
            raise self._refusal("a table of trials", str(error), self._n_lines) from None
        if self._n_lines == 1:
            self._columns = tuple(cells)
            if self._columns not in (_HEADER, _WITHOUT_STRESS, _WITHOUT_SEARCHES, _WITHOUT_FORCES):
                raise self._refusal(f"the columns {', '.join(_HEADER)}", "others", 1)
            return None
        try:
            values = dict(zip(self._columns, cells, strict=True))
            settings, search, event = (values.pop(name, "") for name in _HEADER[:3])
            return Line(settings, trial_from(values), search, int(event or 0), self._path)
        except ValueError as error:
            raise self._refusal("a trial", str(error), self._n_lines) from None

    def _refusal(self, expected: str, got: str, line: int) -> InputError:
        return InputError(f"expected {expected}, got: {got}; {self._advice}", file=str(self._path), line=line)


def _cells_of(line: Line) -> list[object]:
    return [line.settings, line.search, line.event or "", *cells_of(line.trial)]


def _text_of(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
