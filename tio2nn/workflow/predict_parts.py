"""The verb predict in parts of a job array: each writes its share beside the file that one command joins in the end.

Files of structures, in their order, are divided into consecutive shares; where there are fewer files than parts, as for
one long trajectory, their structures are. So the joined shares are what one command writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write, remove_unfinished
from tio2nn.files.digests import digest_of
from tio2nn.io.labels import ReadOptions
from tio2nn.io.read import structures_and_errors
from tio2nn.io.sources import Listing, iter_source_files, list_source_files
from tio2nn.job_part import JobPart, told_undone
from tio2nn.structures.structure import Structure
from tio2nn.workflow.predict import Format

_CHUNK = 1 << 20  # bytes
_LAST_LINE = 1024  # bytes, more than it has


class Outcome(NamedTuple):
    """How a prediction of many structures went.

    Attributes:
        n_predicted, n_rejected, n_doubts: structures predicted, structures or files that could not be used, warnings.
    """

    n_predicted: int
    n_rejected: int
    n_doubts: int

    def __add__(self, other: object) -> Outcome:
        """The outcome of both."""
        if not isinstance(other, Outcome):
            return NotImplemented
        return Outcome(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True)
class SharedSources:
    """Sources of structures that parts share.

    Attributes:
        names: as for `read_structures`.
        lines: for the name "-".
        options: how to read them.
    """

    names: Sequence[str]
    lines: Sequence[str]
    options: ReadOptions

    @cached_property
    def listing(self) -> Listing:
        """The files, which are not read."""
        return list_source_files(self.names, self.lines)

    @cached_property
    def _n_items(self) -> int:
        return sum(1 for _ in self._items(None))

    def share(self, part: JobPart) -> Iterator[Structure | InputError]:
        """The structures of a part, and errors instead of those that cannot be used."""
        n_files = self.listing.n_files
        if n_files >= part.total:
            return self._items(part.span(n_files))
        places = part.span(self._n_items)
        return islice(self._items(None), places.start, places.stop)

    def _items(self, places: range | None) -> Iterator[Structure | InputError]:
        return structures_and_errors(iter_source_files(self.names, self.lines, places), self.options)


class PartWriter:
    """Writes the lines of a share.

    Attributes:
        outcome: to be set before the share is finished.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.outcome = Outcome(0, 0, 0)

    def write(self, text: str) -> None:
        self._handle.write(text.encode())


@dataclass(frozen=True)
class SharedFile:
    """A file that parts of a job array write together.

    Attributes:
        path: of the file.
        inputs: digest of everything that its content depends on.
    """

    path: Path
    inputs: str

    @classmethod
    def of(
        cls, path: Path, potential: Path, sources: SharedSources, form: Format, forces: bool
    ) -> SharedFile:
        """The file for predictions.

        Args:
            path: of the file.
            potential: file or folder of the potential.
            sources: what is predicted.
            form: output format.
            forces: whether forces are among them.
        """
        files = sorted(potential.iterdir()) if potential.is_dir() else [potential]
        digests = [hashlib.blake2b(file.read_bytes()).hexdigest() for file in files if file.is_file()]
        told = [*digests, sources.listing.digest, form, repr(forces), repr(sources.options)]
        return cls(path, digest_of(told))

    def part_file(self, part: JobPart) -> Path:
        """The share of a part, beside the file."""
        return self.path.with_name(f"{self.path.name}.part-{part.number}-of-{part.total}")

    @contextmanager
    def written_part(self, part: JobPart) -> Iterator[PartWriter]:
        """Write the share of a part, atomically."""
        with atomic_write(self.part_file(part), "wb") as handle:
            writer = PartWriter(handle)
            yield writer
            about = {"inputs": self.inputs, "outcome": writer.outcome}
            handle.write(f"{json.dumps(about)}\n".encode())

    def finished(self, part: JobPart) -> Outcome | None:
        """The outcome of a part; None if it is missing or has other inputs."""
        about, _ = self._about(self.part_file(part))
        return Outcome(*about["outcome"]) if about.get("inputs") == self.inputs else None

    def copy_part(self, part: JobPart, target: BinaryIO) -> None:
        """Append the share of a finished part to an open file."""
        _, left = self._about(self.part_file(part))
        with self.part_file(part).open("rb") as handle:
            while left and (data := handle.read(min(left, _CHUNK))):
                target.write(data)
                left -= len(data)

    def parts(self) -> list[JobPart]:
        """All parts, finished or not; only one where there is no array."""
        there = [part for part in self._parts_there() if self.finished(part) is not None]
        counts = Counter(part.total for part in there)
        total = max(counts, key=lambda n: (counts[n], n), default=1)
        return [JobPart(number, total) for number in range(1, total + 1)]

    def undone(self, parts: Sequence[JobPart]) -> str:
        """Which of the parts have to be done, and why, for messages; "" if all are finished."""
        missing = [part for part in parts if self.finished(part) is None]
        if not missing or len(parts) == 1:
            return ""
        outdated = [part.number for part in missing if self.part_file(part).exists()]
        unfinished = [part.number for part in missing if part.number not in outdated]
        return told_undone(unfinished, outdated, len(parts), "another potential, other files or options")

    def remove_parts(self, parts: Sequence[JobPart]) -> None:
        """Remove all shares, and what killed commands left of these parts."""
        for part in self._parts_there():
            self.part_file(part).unlink(missing_ok=True)
        for part in parts:
            remove_unfinished(self.part_file(part))

    def _parts_there(self) -> list[JobPart]:
        name = re.compile(re.escape(self.path.name) + r"\.part-(\d{1,6})-of-(\d{1,6})")
        matches = (name.fullmatch(path.name) for path in self.path.parent.iterdir())
        return [JobPart(int(match[1]), int(match[2])) for match in matches if match is not None]

    @staticmethod
    def _about(path: Path) -> tuple[dict[str, Any], int]:
        """What the last line of a share says, and where that line begins."""
        try:
            with path.open("rb") as handle:
                size = handle.seek(0, os.SEEK_END)
                handle.seek(max(0, size - _LAST_LINE))
                *_, line = handle.read().rstrip(b"\n").split(b"\n")
                about = json.loads(line)
        except (OSError, ValueError):
            return {}, 0
        return (about, size - len(line) - 1) if isinstance(about, dict) else ({}, 0)
