"""`python -m tio2nn`, and the console script of the same name."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import NoReturn, TextIO

from tio2nn.cli.interrupt import EXIT_CODE, MESSAGE, end_soon_after_ctrl_c, leave, say_once
from tio2nn.errors import InputError

# Objects that an import makes stay to the end. Looking for garbage among them after every 700 new ones costs a
# sixth of the time of `tio2nn predict`.
_NEW_OBJECTS_BEFORE_COLLECTION = 50_000


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_NEW_OBJECTS_BEFORE_COLLECTION)
    end_soon_after_ctrl_c()
    for stream in (sys.stdout, sys.stderr):
        # what is shown has Å and names of files; whatever the locale says, it is UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=stream.errors)
    try:
        from tio2nn.cli.commands import app

        app()
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if end.code == EXIT_CODE:
            _end_interrupted()
        # what was asked for is done; taking libraries apart lasts a moment more
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _flush()
        raise
    except OSError as error:
        # a help text; commands that cannot write say so themselves
        _end_without_stdout(error)


def _end_interrupted() -> NoReturn:
    """Commands have said so themselves; before one began, libraries were loaded or Typer read the command line."""
    if say_once():
        sys.stderr.write(f"{MESSAGE}\n")
    leave()


def _flush() -> None:
    """As Python does when it exits, but that would end in exit code 120 where a disk is full."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        _end_without_stdout(error)


def _drop(stream: TextIO) -> None:
    """Let Python flush what it still holds into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end_without_stdout(error: OSError) -> NoReturn:
    _drop(sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)
    sys.stderr.write(f"stdout: {error.strerror}\n")
    sys.exit(InputError.exit_code)


if __name__ == "__main__":
    main()
