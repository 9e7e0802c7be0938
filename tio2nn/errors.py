"""The errors that a user can cause, each with the exit code of the command that it ends.

Tio2nnError
├── UsageError            a flag or argument that cannot be meant (exit code 2)
└── InputError            a file that cannot be trusted, with file and line (exit code 3)
    ├── ParameterError    params.json, all its problems at once
    ├── MissingInputError something that another command makes
    └── StaleError        something made from other inputs than today's
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Tio2nnError(Exception):
    """Base of all errors with a message for the user: one line, no traceback; only its children are raised."""

    exit_code = 1  # a bug


class UsageError(Tio2nnError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class InputError(Tio2nnError):
    """A file says something that cannot be used.

    Attributes:
        reason: the message without the place, "expected ..., got ...".
        file: the file as the user named it (`archive.tar:member` inside an archive), or None.
        line: 1-based line in that file, or None.
    """

    exit_code = 3

    def __init__(self, reason: str, *, file: str | None = None, line: int | None = None) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + reason)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep all attributes when a worker process sends the error home."""
        return (_rebuild, (type(self), str(self), self.__dict__))


def _rebuild(kind: type[InputError], message: str, attributes: dict[str, object]) -> InputError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class ParameterError(InputError):
    """A parameter set with problems; each one reads `path: expected ..., got ...`."""

    def __init__(self, problems: Sequence[str], *, file: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems), file=file)


class MissingInputError(InputError):
    """A project lacks something; the message names the command that makes it."""


class StaleError(InputError):
    """A part of a project was made from other inputs than the present ones."""


def one_line(error: Exception) -> str:
    """What an error of a library says, without its line breaks; if it says nothing, its kind."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Tell which file could not be written: of a full disk the system says no more than that it is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
