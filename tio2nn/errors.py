"""Errors that a user can cause, each with the exit code of the command that it ends.

Tio2nnError
├── UsageError            invalid or conflicting arguments (exit code 2)
└── InputError            unusable input, with file and line (exit code 3)
    ├── ParameterError    invalid parameters, with all problems at once
    ├── MissingInputError a part of the project that does not exist yet
    └── StaleError        a part of the project that is out of date
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Tio2nnError(Exception):
    """Base class of errors shown to the user as one line without a traceback; only subclasses are raised."""

    exit_code = 1  # a bug


class UsageError(Tio2nnError):
    """Arguments that are unknown, invalid or in conflict with each other."""

    exit_code = 2


class InputError(Tio2nnError):
    """Input that cannot be used.

    Attributes:
        reason: the message without the file and line, "expected ..., got ...".
        file: the file as the user named it (`archive.tar:member` inside an archive), or None.
        line: line number in that file, from 1, or None.
        frame: number of the frame in that file, from 1, or None.
    """

    exit_code = 3

    def __init__(
        self, reason: str, *, file: str | None = None, line: int | None = None, frame: int | None = None
    ) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        self.frame = frame
        place = "" if file is None else f"{self.source}: " if line is None else f"{self.source}:{line}: "
        super().__init__(place + reason)

    @property
    def source(self) -> str:
        """The file, followed by `#n` for frame n; "" for none."""
        return (self.file or "") + ("" if self.frame is None else f"#{self.frame}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep all attributes when a worker process sends the error to its parent."""
        return (_rebuild, (type(self), str(self), self.__dict__))


def _rebuild(kind: type[InputError], message: str, attributes: dict[str, object]) -> InputError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class ParameterError(InputError):
    """An invalid parameter set; each problem reads `path: expected ..., got ...`."""

    def __init__(self, problems: Sequence[str], *, file: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems), file=file)


class MissingInputError(InputError):
    """A missing part of a project; the message names the command that makes it."""


class StaleError(InputError):
    """A part of a project that was made from inputs that have changed since."""


def one_line(error: Exception) -> str:
    """The message of an error without line breaks, or the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def unreadable(error: OSError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"cannot read the file: {error.strerror or one_line(error)}"


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Add the file name to an OSError that lacks one, as those raised for a full disk do."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
