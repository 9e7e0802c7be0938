"""Loops that this process compiled and loops that it found compiled are the same, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPUTE = """
import hashlib
import numpy as np
from tio2nn.descriptors.kernels.jacobian import jacobian_rows
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

random = np.random.default_rng(7)
grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
positions = 2.2 * grid + random.uniform(-0.3, 0.3, grid.shape)
crystal = Structure("crystal", ("Ti", "O", "O") * 9, positions, 6.6 * np.eye(3), (True,) * 3)
calculator = SymmetryCalculator(preset("artrith-urban-2016"))
description = calculator.describe([crystal])
results = (
    description.features,
    calculator.jacobian(crystal),
    calculator.jacobian(crystal, np.float32),
    *description.gradient(random.normal(size=description.features.shape)),
)
print(*(hashlib.blake2b(np.ascontiguousarray(result).tobytes()).hexdigest() for result in results))
print(sum(jacobian_rows.stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_the_process_that_compiles_computes_the_bits_of_those_that_load(tmp_path: Path) -> None:
    """Where a loop called another, each was compiled twice, and only those that load took the one in its caller."""
    found = [
        subprocess.run(
            [sys.executable, "-c", COMPUTE],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert [misses for _, misses in found] == ["2", "0"]
    assert found[0][0].split() == found[1][0].split()


_LOOP = """
import sys
from tio2nn.descriptors.kernels import compiling

compiling._SOURCES = sys.argv[1]

@compiling.compiled
def twice(x):
    return 2 * x

assert twice(21) == 42
print(sum(twice.stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_machine_code_is_made_anew_when_a_file_that_is_inlined_has_changed(tmp_path: Path) -> None:
    """Numba looks at the file of the loop alone."""
    loop = tmp_path / "loop.py"
    loop.write_text(_LOOP, encoding="utf-8")
    misses = [
        subprocess.run(
            [sys.executable, str(loop), sources],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for sources in ("before", "before", "after", "after")
    ]
    assert misses == ["1", "0", "1", "0"]


def test_each_processor_model_has_files_of_its_own(tmp_path: Path) -> None:
    """Two models that compile at once in a shared directory would otherwise give their files the same names."""
    loop = tmp_path / "loop.py"
    loop.write_text(_LOOP, encoding="utf-8")
    kept = tmp_path / "kept"
    counts = []
    for processor in ("", "generic", "", "generic"):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(kept)}
        if processor:
            environment |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
        subprocess.run([sys.executable, str(loop), "same"], env=environment, check=True, capture_output=True)
        counts.append((len(list(kept.rglob("*.nbi"))), len(list(kept.rglob("*.nbc")))))
    assert counts == [(1, 1), (2, 2), (2, 2), (2, 2)]
