"""Ctrl-C that ends a command soon, whatever its libraries are busy with.

Python tells its main thread of a signal only between two of its own instructions. An epoch of a training, a
search for neighbors or the loading of a library is one instruction, and may last for seconds. Here a second
thread hears of the signal, too, gives the main one time to end in good order, and then ends the process.
That is safe: files are written whole or not at all, and worker processes end with their parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

EXIT_CODE = 130
MESSAGE = "interrupted; what was finished is kept"

# Two seconds is what a user waits; where a machine is busy, hearing of the signal and leaving took up to 0.8 s of them.
PATIENCE_SECONDS = 1.0

_said = threading.Event()


def say_once() -> bool:
    """Whether nobody has told the user yet; whoever asks first tells."""
    if _said.is_set():
        return False
    _said.set()
    return True


def end_soon_after_ctrl_c() -> None:
    """Watch for Ctrl-C from now on; called once, by the main thread of a process that is a command."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # it is ignored, as in the background of a script
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="ctrl-c", daemon=True).start()


def leave() -> NoReturn:
    """End the process; Python would first take TensorFlow apart, for 1.3 s after a training on many forces."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)


def _watch(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    threading.Event().wait(PATIENCE_SECONDS)
    if say_once():
        # not by rich, whose locks the main thread may hold
        os.write(sys.stderr.fileno(), f"{MESSAGE}\n".encode())
    os._exit(EXIT_CODE)
