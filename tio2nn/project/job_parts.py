"""Notes that the parts of a job array leave in a project, so that others know how many there are and which are done.

A part writes a note when it begins. Whether it is done follows from the shards that are there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.tables import read_json, write_json
from tio2nn.job_part import JobPart, named, sharers, told_undone

_NOTE = re.compile(r"part-(\d{1,6})-of-(\d{1,6})\.json")


class PartNotes(NamedTuple):
    """The notes of the parts that make one kind of shards.

    Attributes:
        directory: of the shards.
        kind: what the shards hold: "features" or "derivatives".
        inputs: digest of what the shards are made from now.
    """

    directory: Path
    kind: str
    inputs: str

    @property
    def are_there(self) -> bool:
        return bool(self._files())

    def write(self, part: JobPart) -> None:
        """Note that a part has begun."""
        path = self.directory / f"{self.kind}-part-{part.number}-of-{part.total}.json"
        write_json(path, {"inputs": self.inputs})

    def remove(self) -> None:
        """Remove all notes, as the work is done."""
        for path in self._files():
            path.unlink(missing_ok=True)

    @property
    def begun(self) -> str:
        """The parts that have begun, whatever they were computed for, for messages; "" if there are none."""
        parts = self._read()
        totals = Counter(part.total for part in parts)
        if not totals:
            return ""
        total = max(totals, key=lambda total: (totals[total], total))
        return named(sorted(part.number for part in parts if part.total == total), total)

    def others(self, part: JobPart) -> str:
        """The other parts of this array that were computed for other inputs, for messages; "" if there are none."""
        numbers = self._outdated(part.total)
        return named(numbers, part.total) if numbers else ""

    def undone(self, missing: Iterable[int]) -> str:
        """Which parts, and why, have left shards to be computed, for messages; "" if there is no array.

        Args:
            missing: places of the missing shards.
        """
        if (total := self._total()) is None:
            return ""
        outdated = self._outdated(total)
        unfinished = [number for number in sharers(missing, total) if number not in outdated]
        return told_undone(unfinished, outdated, total, "other parameters or structures")

    def done(self, missing: Iterable[int]) -> str:
        """Which parts are done, for messages; "" if there is no array. `missing` as in `undone`."""
        if (total := self._total()) is None:
            return ""
        left = set(sharers(missing, total))
        done = [number for number in range(1, total + 1) if number not in left]
        return f"{named(done, total)} done" if done else f"none of {total} parts done"

    def _files(self) -> list[Path]:
        return list(self.directory.glob(f"{self.kind}-part-*-of-*.json"))

    def _read(self) -> dict[JobPart, object]:
        """What each part was computed from."""
        found: dict[JobPart, object] = {}
        for path in self._files():
            match = _NOTE.fullmatch(path.name.removeprefix(f"{self.kind}-"))
            if match is None:
                continue
            try:
                about = read_json(path)
            except InputError:
                continue
            inputs = about.get("inputs") if isinstance(about, dict) else None
            found[JobPart(int(match[1]), int(match[2]))] = inputs
        return found

    def _total(self) -> int | None:
        """Number of parts of the array for these inputs: that of most notes."""
        counts = Counter(part.total for part, inputs in self._read().items() if inputs == self.inputs)
        return max(counts, key=lambda total: (counts[total], total), default=None)

    def _outdated(self, total: int) -> list[int]:
        notes = self._read().items()
        return sorted(part.number for part, inputs in notes if part.total == total and inputs != self.inputs)
