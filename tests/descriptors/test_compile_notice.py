"""Whoever waits for the compiler is told so, once; whoever does not is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba

from tio2nn.descriptors.compile_notice import before_compiling

LOOP = """
from tio2nn.descriptors.compile_notice import before_compiling
from tio2nn.descriptors.kernels.compiling import compiled_once

@compiled_once()
def twice(x):
    return 2 * x

with before_compiling(lambda: print("compiling")):
    print(twice(21), twice(0.5))
"""


def test_the_notice_comes_once_and_only_before_something_is_compiled() -> None:
    said: list[str] = []

    def announce() -> None:
        said.append("compiling")

    @numba.njit
    def twice(x: float) -> float:
        return 2 * x

    with before_compiling(announce):
        assert not said
        assert (twice(21), twice(0.5)) == (42, 1.0)
    assert said == ["compiling"]
    with before_compiling(announce):
        twice(3)
    twice(1j)
    assert said == ["compiling"]


def test_there_is_no_notice_if_the_machine_code_is_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP, encoding="utf-8")
    # the interpreter may have been told not to look into the current directory
    places = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(places),
    }
    said = [
        subprocess.run(
            [sys.executable, "-c", "import loop"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["compiling", "42", "1.0"], ["42", "1.0"]]
