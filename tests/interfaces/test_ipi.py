"""i-PI itself, with the calculator behind ASE's socket client."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.calculators.socketio import SocketClient
from pages import blocks
from places import SAMPLE_DATA
from potentials import POTENTIAL, nothing
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.interfaces.watch import ExtrapolationError, Watch
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


needs_ipi = pytest.mark.skipif(
    find_spec("ipi") is None or shutil.which("i-pi") is None, reason="i-PI (ipi) is not installed"
)


@needs_ipi
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


@needs_ipi
def test_the_documented_run_ends_i_pi_when_it_stops_and_survives_a_socket_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"tio2nn-{os.getpid()}"
    (example,) = (
        block for block in blocks("docs/how-to/simulations.md", "python") if "SocketClient" in block.text
    )
    # beside other runs on this machine
    script = example.text.replace("<address>tio2nn<", f"<address>{address}<")
    script = script.replace("ipi_tio2nn", f"ipi_{address}").replace('"tio2nn").run', f'"{address}").run')
    assert script.count(address) == 3
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    (tmp_path / "sample_data").symlink_to(SAMPLE_DATA)
    monkeypatch.chdir(tmp_path)
    path = Path(f"/tmp/ipi_{address}")
    names = {"ase": ase, "BehlerParrinello": partial(BehlerParrinello, warn=False), "potential": far}
    try:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        names["watch"] = Watch(stop_at=2.0)
        with pytest.raises(ExtrapolationError):
            exec(script, names)
        assert names["i_pi"].poll() is not None
        with socket.socket(socket.AF_UNIX) as dead:
            path.unlink(missing_ok=True)
            dead.bind(str(path))
        names["watch"] = None
        exec(script, names)
        assert names["i_pi"].poll() == 0
        assert np.loadtxt("run.out")[-1, 0] == 20
    finally:
        if "i_pi" in names:
            names["i_pi"].kill()
            names["i_pi"].wait()
        path.unlink(missing_ok=True)
