"""The code for LLVM and the plain loop: the same sums."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tio2nn.descriptors.kernels import lane_sums
from tio2nn.descriptors.kernels.compiling import compiled

FloatArray = NDArray[np.float64]

_in_lanes, _plainly = lane_sums.sum_products_in_lanes, lane_sums.sum_products_plainly


@compiled
def in_lanes(left, partners, factors, powers, rows, span, out):  # type: ignore[no-untyped-def]
    _in_lanes(left, partners, factors, powers, rows, span[0], span[1], out)


@compiled
def plainly(left, partners, factors, powers, rows, span, out):  # type: ignore[no-untyped-def]
    _plainly(left, partners, factors, powers, rows, span[0], span[1], out)


@pytest.mark.parametrize("n_eta", range(1, 8))
def test_lanes_and_plain_loops_give_the_same_bits(n_eta: int) -> None:
    """For each shape of a tile, alone and behind whole ones; both fuse products with sums, neither reorders sums."""
    rng = np.random.default_rng(n_eta)
    size, n_power, n_partners = 40, 16, 12
    partners = rng.integers(0, n_partners, size).astype(np.uint32)
    left = rng.normal(size=(n_partners, n_eta, 4))
    factors, powers = rng.normal(size=(n_eta, size)), rng.normal(size=(n_power, size))
    for n_rows in range(n_power):
        rows = np.sort(rng.choice(n_power, n_rows, replace=False))
        for span in ((3, 31), (5, 6), (7, 7)):
            found = [np.full((n_eta, n_power, 4), np.nan) for _ in range(2)]
            for compute, out in zip((in_lanes, plainly), found, strict=True):
                compute(left, partners, factors, powers, rows, span, out)
            np.testing.assert_array_equal(*found)
            own = slice(*span)
            terms = (left[partners[own]], factors[:, own], powers[:, own][rows])
            expected = np.einsum("mel,em,rm->erl", *terms)
            np.testing.assert_allclose(found[0][:, rows], expected, rtol=1e-12, atol=1e-12)
            # rows that are not wanted stay
            assert np.isnan(np.delete(found[0], rows, axis=1)).all()


_COMPUTE = """
import sys
import numpy as np
from tio2nn.descriptors.kernels import lane_sums
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

positions = np.array([[0.0, 0.0, 0.0], [1.7, 0.1, 0.0], [-0.4, 1.6, 0.3], [0.2, -0.3, 1.9]])
molecule = Structure("molecule", ("Ti", "O", "O", "O"), positions, np.zeros((3, 3)), (False,) * 3)
calculator = SymmetryCalculator(preset("extended"))
description = calculator.describe([molecule])
gradient, strain = description.gradient(np.ones_like(description.features))
np.savez(
    sys.argv[1],
    features=description.features,
    jacobian=calculator.jacobian(molecule),
    gradient=gradient,
    strain=strain,
)
print(lane_sums.sum_products.__name__)
"""


@pytest.mark.slow
def test_loops_that_are_left_to_python_compute_the_same_numbers(tmp_path: Path) -> None:
    """With NUMBA_DISABLE_JIT=1, so that a debugger can go through them; sums then have another order."""
    found: list[dict[str, FloatArray]] = []
    for setting, function in (("1", "sum_products_plainly"), ("0", "sum_products_in_lanes")):
        file = tmp_path / f"{setting}.npz"
        ended = subprocess.run(
            [sys.executable, "-c", _COMPUTE, str(file)],
            env={**os.environ, "NUMBA_DISABLE_JIT": setting},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip() == function
        with np.load(file) as arrays:
            found.append(dict(arrays))
    assert len(found[0]) == 4
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-11, atol=1e-13)
