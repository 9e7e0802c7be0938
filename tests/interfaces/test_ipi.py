"""i-PI itself, with the calculator behind ASE's socket client."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.calculators.socketio import SocketClient
from potentials import POTENTIAL
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.potential.repulsion import Repulsion

REPELLING = replace(POTENTIAL, repulsion=Repulsion(PARAMETERS.elements, np.full((2, 2), 1.5)))
INPUT = """
<simulation verbosity="quiet">
  <output prefix="run">
    <properties filename="out">
      [step, potential, conserved{{electronvolt}}, kinetic_md{{electronvolt}}]
    </properties>
  </output>
  <total_steps>40</total_steps>
  <ffsocket name="tio2nn" mode="unix" pbc="false"><address>{address}</address></ffsocket>
  <system>
    <initialize nbeads="1">
      <file mode="ase">start.extxyz</file>
      <velocities mode="thermal" units="kelvin">600</velocities>
    </initialize>
    <forces><force forcefield="tio2nn"/></forces>
    <ensemble><temperature units="kelvin">600</temperature></ensemble>
    <motion mode="dynamics">
      <dynamics mode="nve"><timestep units="femtosecond">0.5</timestep></dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.mark.skipif(
    find_spec("ipi") is None or shutil.which("i-pi") is None, reason="i-PI (ipi) is not installed"
)
def test_dynamics_in_i_pi_have_our_energy_and_conserve_it(tmp_path: Path) -> None:
    address = f"tio2nn-{os.getpid()}"
    (tmp_path / "input.xml").write_text(INPUT.format(address=address), encoding="utf-8")
    atoms = crystals()[1].to_ase()
    atoms.calc = None
    atoms.write(tmp_path / "start.extxyz")
    atoms.calc = BehlerParrinello(REPELLING, warn=False)
    expected = REPELLING.energy(crystals()[1])
    program = str(shutil.which("i-pi"))
    server = subprocess.Popen(
        [program, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    try:
        deadline = time.monotonic() + 120.0
        while not Path(f"/tmp/ipi_{address}").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.1)  # from the name of the socket to its opening
        SocketClient(unixsocket=address).run(atoms, use_stress=True)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()
        Path(f"/tmp/ipi_{address}").unlink(missing_ok=True)
    _, potential, conserved, kinetic = np.loadtxt(tmp_path / "run.out").T
    assert len(potential) == 41
    # in Hartree, as the client sends it: the units of i-PI and ASE differ in the eighth digit
    assert potential[0] * units.Hartree == pytest.approx(expected, abs=1e-4)
    # the thermal start differs from run to run
    assert np.ptp(kinetic) > 0.002
    assert np.ptp(conserved) < 0.02 * np.ptp(kinetic)
