"""Ctrl-C ends a command promptly, even inside a long call into a library.

Python delivers a signal to the main thread only between two bytecode instructions. A training epoch, a neighbor search
or an import runs within one instruction and can take seconds. A second thread therefore watches for the signal, gives
the main thread time to end in order, and then ends the process. This is safe: files are written atomically, and worker
processes end with their parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

EXIT_CODE = 130
MESSAGE = "interrupted; finished work is kept"

# A user should wait 2 s at most; on a busy machine, receiving the signal and exiting took up to 0.8 s of them.
PATIENCE_SECONDS = 1.0

_said = threading.Event()


def say_once() -> bool:
    """True for the first caller only, who then reports the interruption."""
    if _said.is_set():
        return False
    _said.set()
    return True


def is_cause_of(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: compiled code in which it arrives may fail in another way."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


def end_soon_after_ctrl_c() -> None:
    """Start to watch for Ctrl-C; call it once, in the main thread of a command."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # the signal is ignored, as for background jobs of a script
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="ctrl-c", daemon=True).start()


def leave() -> NoReturn:
    """End the process at once; shutting TensorFlow down takes 1.3 s after training on many forces."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)


def _watch(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    threading.Event().wait(PATIENCE_SECONDS)
    if say_once():
        # not through rich: the main thread may hold its locks
        os.write(sys.stderr.fileno(), f"{MESSAGE}\n".encode())
    os._exit(EXIT_CODE)
