"""A call as it travels to another machine: paths inside a folder become names, which that machine makes paths again.

Where machines share the folder, a name leads to the same file. Elsewhere it leads into a folder that stands in for it,
with the files that the call names: those that exist are brought there, those that it writes are brought back.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One call for a worker of a cluster.

    Attributes:
        call: from `packed`.
        names: of the files that the call names, relative to the folder.
        folder: the folder as workers see it; None where they do not, and files travel.
        command: identifies the command that asks; files that traveled are kept as long as it runs.
        pool: identifies the pool; processes are never used by two of them.
        calls_per_process: calls after which a process is replaced by a new one.
        topic: messages of the call are sent there; None to drop them.
        brought: content of small files that exist, by name.
        expected: size and time of change, s, of large files that exist, which have been brought before, by name.
        software: what the worker must have, from `tio2nn.parallel.hosting.software`.
    """

    call: bytes
    names: tuple[str, ...]
    folder: str | None
    command: str
    pool: str
    calls_per_process: int
    topic: str | None
    brought: dict[str, bytes] = field(default_factory=dict)
    expected: dict[str, tuple[int, int]] = field(default_factory=dict)
    software: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What comes back.

    Attributes:
        result: of the call.
        files: content of the files that it wrote, by name, if files travel.
        seen: names of the files that are there, otherwise.
    """

    result: Any
    files: dict[str, bytes]
    seen: tuple[str, ...]


class _Packer(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, folder: Path | None) -> None:
        super().__init__(buffer, protocol=5)
        self._folder = folder
        self.names: set[str] = set()

    def persistent_id(self, thing: object) -> str | None:
        if self._folder is None or not isinstance(thing, Path):
            return None
        path = Path(os.path.abspath(thing))  # noqa: PTH100 -- links stay what they are
        if not path.is_relative_to(self._folder):
            return None
        name = path.relative_to(self._folder).as_posix()
        self.names.add(name)
        return name


class _Unpacker(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, folder: Path) -> None:
        super().__init__(buffer)
        self._folder = folder

    def persistent_load(self, name: str) -> Path:
        return self._folder / name


def packed(
    folder: Path | None, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bytes, tuple[str, ...]]:
    """A call as bytes, and the names of the files in the folder that its arguments name, in order."""
    buffer = io.BytesIO()
    packer = _Packer(buffer, folder)
    packer.dump((function, args, kwargs))
    return buffer.getvalue(), tuple(sorted(packer.names))


def sealed(message: object) -> bytes:
    """A message as bytes."""
    return pickle.dumps(message, protocol=5)


def opened(message: bytes) -> Any:
    """The message in these bytes, from a process that was asked to send one."""
    return pickle.loads(message)


def perform(call: bytes, folder: Path) -> Any:
    """Carry out a call, with its files in this folder; runs in a process of the worker."""
    function, args, kwargs = _Unpacker(io.BytesIO(call), folder).load()
    return function(*args, **kwargs)
