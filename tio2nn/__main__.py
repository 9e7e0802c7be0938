"""`python -m tio2nn`, and the console script of the same name."""

from __future__ import annotations

import gc
import sys

from tio2nn.interrupt import EXIT_CODE, MESSAGE, end_soon_after_ctrl_c, leave, say_once

# Objects that an import makes stay to the end. Looking for garbage among them after every 700 new ones costs a
# sixth of the time of `tio2nn predict`.
_NEW_OBJECTS_BEFORE_COLLECTION = 50_000


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_NEW_OBJECTS_BEFORE_COLLECTION)
    end_soon_after_ctrl_c()
    try:
        from tio2nn.cli import app

        app()
    except KeyboardInterrupt:
        # before a command began; it would have said so itself
        if say_once():
            sys.stderr.write(f"{MESSAGE}\n")
        leave()
    except SystemExit as end:
        if end.code == EXIT_CODE:
            leave()
        raise


if __name__ == "__main__":
    main()
