"""Parts of a job array as processes of their own, with shards so small that a small project has many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COMMAND = """
import sys
import tio2nn.project.feature_store as store
from tio2nn.__main__ import main

store.ATOMS_PER_SHARD = 8
if __name__ == "__main__":
    main()
"""


def start_part(here: Path, *arguments: object) -> subprocess.Popen[str]:
    """A command as a process of its own, in this folder."""
    script = here / "with_small_shards.py"
    script.write_text(_COMMAND, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        text=True,
        cwd=here,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
