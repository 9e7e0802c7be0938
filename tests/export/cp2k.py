"""CP2K, where it is installed: energy and forces of a structure by an exported folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from tio2nn.structures.structure import Structure

PROGRAM = next((path for name in ("cp2k", "cp2k.psmp", "cp2k.ssmp") if (path := shutil.which(name))), None)

needs_cp2k = pytest.mark.skipif(
    PROGRAM is None, reason="CP2K is not installed (Debian: apt-get install cp2k)"
)

# as CP2K has them
BOHR, HARTREE = 0.52917720859, 27.21138386  # Å, eV

_INPUT = """\
&GLOBAL
  PROJECT structure
  RUN_TYPE {run_type}
&END GLOBAL
{motion}
&FORCE_EVAL
  STRESS_TENSOR ANALYTICAL
  {method}
  &PRINT
    &FORCES
      NDIGITS 15
    &END FORCES
    &STRESS_TENSOR
    &END STRESS_TENSOR
  &END PRINT
  &SUBSYS
    &CELL
{cell}
    &END CELL
    &COORD
{atoms}
    &END COORD
  &END SUBSYS
&END FORCE_EVAL
"""

_MOTION = """\
&MOTION
  &MD
    ENSEMBLE NVE
    STEPS {steps}
    TIMESTEP 0.1
  &END MD
&END MOTION
"""


class Result(NamedTuple):
    """What CP2K says.

    Attributes:
        energy: eV.
        forces: (n_atoms, 3) eV/Å.
    """

    energy: float
    forces: NDArray[np.float64]


def lines_for_cp2k(readme: Path) -> list[str]:
    """Those that the README of an exported folder has for CP2K."""
    section = readme.read_text(encoding="utf-8").partition("## CP2K")[2]
    block = re.search(r"```text\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def cp2k_input(method: Sequence[str], structure: Structure, steps: int | None = None) -> str:
    """An input for energy and forces of a structure, or for some steps of molecular dynamics from it."""
    rows = zip("ABC", structure.cell.tolist(), strict=True)
    cell = [" ".join([f"      {name}", *map(repr, row)]) for name, row in rows]
    atoms = [
        " ".join([f"      {element}", *map(repr, position)])
        for element, position in zip(structure.elements, structure.positions.tolist(), strict=True)
    ]
    run_type, motion = "ENERGY_FORCE", ""
    if steps is not None:
        run_type, motion = "MD", _MOTION.format(steps=steps)
    return _INPUT.format(
        run_type=run_type,
        motion=motion,
        method="\n  ".join(method),
        cell="\n".join(cell),
        atoms="\n".join(atoms),
    )


def run_cp2k(here: Path, method: Sequence[str], structure: Structure) -> Result:
    """Run CP2K in a folder with the lines that the README has for it."""
    (here / "input.inp").write_text(cp2k_input(method, structure), encoding="utf-8")
    said = start_cp2k(here, "input.inp")
    block = said.partition("ATOMIC FORCES in [a.u.]")[2].partition("SUM OF ATOMIC FORCES")[0]
    forces = [line.split()[3:6] for line in block.splitlines() if re.match(r"\s+\d+\s+\d+\s+[A-Z]", line)]
    assert len(forces) == structure.n_atoms, said[-3000:]
    return Result(energy_in(said), np.array(forces, dtype=float) * HARTREE / BOHR)


def start_cp2k(here: Path, file: str) -> str:
    """What CP2K says of an input."""
    assert PROGRAM is not None
    # Open MPI refuses root unless it is told twice
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    ended = subprocess.run(
        [PROGRAM, "-i", file], cwd=here, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    return ended.stdout


def energy_in(said: str) -> float:
    """The energy in what CP2K says, eV."""
    energy = re.search(r"Total FORCE_EVAL \( NNP \) energy \[.*\]:?\s+(\S+)", said)
    assert energy is not None, said[-3000:]
    return float(energy[1]) * HARTREE
