"""Entry point of `python -m tio2nn` and of the console script `tio2nn`."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import NoReturn, TextIO

from tio2nn.cli.interrupt import EXIT_CODE, MESSAGE, end_soon_after_ctrl_c, leave, say_once
from tio2nn.errors import InputError

# Objects created by imports live until the end. Collecting garbage after every 700 new objects, Python's default, takes
# a sixth of the run time of `tio2nn predict`.
_NEW_OBJECTS_BEFORE_COLLECTION = 50_000


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_NEW_OBJECTS_BEFORE_COLLECTION)
    end_soon_after_ctrl_c()
    for stream in (sys.stdout, sys.stderr):
        # output contains Å and file names: write UTF-8 in any locale
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
        # the work is done; ignore Ctrl-C while the libraries shut down
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _flush()
        raise
    except OSError as error:
        # raised by a help text; commands report their own write errors
        _end_without_stdout(error)


def _end_interrupted() -> NoReturn:
    """End after Ctrl-C; report it unless a command has done so, as none had started yet."""
    if say_once():
        sys.stderr.write(f"{MESSAGE}\n")
    leave()


def _flush() -> None:
    """Flush both streams before Python does: on a full disk, Python would end with exit code 120."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        _end_without_stdout(error)


def _drop(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that Python can flush it at exit without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end_without_stdout(error: OSError) -> NoReturn:
    _drop(sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)
    sys.stderr.write(f"stdout: {error.strerror}\n")
    sys.exit(InputError.exit_code)


if __name__ == "__main__":
    main()
