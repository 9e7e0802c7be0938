"""A structure of 100,000 atoms fits into the memory of a small computer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from export.exported import potential_for
from places import ROOT

from tio2nn.io.read import read_structures
from tio2nn.parameters.presets import preset

STATUS = Path("/proc/self/status")
GB = 10**9

# VmHWM and not `resource.getrusage`, which counts what the parent took before, too
PREDICT = """
import sys
from pathlib import Path
import numpy as np
from tio2nn import Potential, Structure, read_structures

potential_file, structure_file, status = sys.argv[1:]
(crystal,) = read_structures(structure_file)
repeats = int(np.ceil((1e5 / crystal.n_atoms) ** (1 / 3)))
large = Structure.from_ase(crystal.to_ase().repeat(repeats))
(prediction,) = Potential.load(potential_file).predict([large], forces=True, threads=2)
assert np.isfinite(prediction.forces).all() and np.isfinite(prediction.energy)
(kilobytes,) = [line.split()[1] for line in Path(status).read_text().splitlines() if line.startswith("VmHWM")]
print(large.n_atoms, 1024 * int(kilobytes))
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say how much memory a process took")
def test_energy_and_forces_of_100_000_atoms_take_less_than_2_gb(tmp_path: Path) -> None:
    file = ROOT / "sample_data/structure0001.xsf"
    structures = tuple(read_structures(file))
    parameters = preset("artrith-urban-2016", ("Ti", "O"))
    potential = potential_for(parameters, structures, "silu", members=2, hidden=(48, 48))
    potential.save(tmp_path / "potential.npz")
    words = [sys.executable, "-c", PREDICT, tmp_path / "potential.npz", file, STATUS]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    n_atoms, n_bytes = map(int, ended.stdout.split())
    assert n_atoms >= 100_000
    assert n_bytes < 2 * GB, f"{n_bytes / GB:.2f} GB"
