"""OpenMM itself, with a potential as its PythonForce."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from potentials import POTENTIAL, make_potential, nothing
from projects import PARAMETERS

from tio2nn.errors import InputError
from tio2nn.interfaces.openmm import openmm_force
from tio2nn.interfaces.watch import Watch
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

needs_openmm = pytest.mark.skipif(find_spec("openmm") is None, reason="OpenMM (openmm) is not installed")
MASSES = {"Ti": 47.867, "O": 15.999}
KILOJOULE = 96.48533212331002  # kJ/mol per eV
# a box as OpenMM wants it: lower triangular, and no vector leans farther than half of another one
BOX = Structure(
    "box",
    ("Ti", "O", "O", "Ti", "O"),
    np.array([[0.1, 0.2, 0.0], [2.0, 0.3, 0.4], [0.4, 2.2, 0.9], [2.9, 2.4, 2.8], [1.0, 1.7, 2.9]]),
    np.array([[4.4, 0.0, 0.0], [1.9, 4.1, 0.0], [-1.2, 1.6, 4.4]]),
)
REPELLING = replace(POTENTIAL, repulsion=Repulsion(PARAMETERS.elements, np.full((2, 2), 1.5)))


@contextmanager
def context(
    structure: Structure, potential: Potential, elements: Sequence[str] | None = None, **options: Any
) -> Iterator[Any]:
    import openmm

    system = openmm.System()
    for element in structure.elements:
        system.addParticle(MASSES[element])
    periodic = all(structure.periodic)
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(structure.cell / 10.0))
    system.addForce(openmm_force(potential, elements or structure.elements, periodic=periodic, **options))
    integrator = openmm.VerletIntegrator(2e-4)
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(structure.positions / 10.0)
    yield made
    del made, integrator


def energies(made: Any) -> tuple[float, float]:
    """Potential and kinetic energy, eV."""
    from openmm import unit

    state = made.getState(getEnergy=True)
    found = (state.getPotentialEnergy(), state.getKineticEnergy())
    potential, kinetic = (energy.value_in_unit(unit.kilojoules_per_mole) / KILOJOULE for energy in found)
    return potential, kinetic


@needs_openmm
@pytest.mark.parametrize("periodic", [True, False])
def test_energy_and_forces_are_ours(periodic: bool) -> None:
    from openmm import unit

    structure = BOX if periodic else replace(BOX, cell=np.zeros((3, 3)), periodic=(False,) * 3)
    (expected,) = POTENTIAL.predict([structure], forces=True)
    with context(structure, POTENTIAL) as made:
        state = made.getState(getForces=True)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoules_per_mole / unit.nanometer)
        assert energies(made)[0] == pytest.approx(expected.energy, rel=1e-12)
        np.testing.assert_allclose(forces / (10.0 * KILOJOULE), expected.forces, rtol=1e-9, atol=1e-10)


@needs_openmm
def test_dynamics_conserve_energy() -> None:
    totals, kinetic = [], []
    with context(BOX, REPELLING) as made:
        made.setVelocitiesToTemperature(600.0, 1)
        for _ in range(20):
            made.getIntegrator().step(5)
            found = energies(made)
            totals.append(sum(found))
            kinetic.append(found[1])
    assert np.ptp(kinetic) > 0.03
    assert np.ptp(totals) < 0.02 * np.ptp(kinetic)


@needs_openmm
@pytest.mark.parametrize(
    ("watch", "reason"),
    [
        (Watch(stop_at=2.0), r"atom \d \(\w+\) is at "),
        (Watch(stop_at=1e-9, by="spread"), "the committee disagrees by "),
    ],
)
def test_a_run_stops_beyond_a_limit_with_a_line_that_says_why(watch: Watch, reason: str) -> None:
    from openmm import OpenMMException

    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    with context(BOX, far, watch=watch) as made:
        with pytest.raises(OpenMMException, match=f"^time 0 ps: stopped: {reason}") as caught:
            made.getIntegrator().step(10)
        assert "\n" not in str(caught.value)


@needs_openmm
def test_an_interrupt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from openmm import OpenMMException

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with context(BOX, POTENTIAL) as made:
        monkeypatch.setattr(Potential, "predict", interrupted)
        with pytest.raises(OpenMMException, match=r"^time 0 ps: interrupted$"):
            made.getIntegrator().step(10)


@needs_openmm
@pytest.mark.parametrize("n_elements", [4, 6])
def test_a_wrong_number_of_elements_is_called_so(n_elements: int) -> None:
    from openmm import OpenMMException

    elements = (*BOX.elements, "O")[:n_elements]
    reason = f"^elements: expected 5 for the particles of the system, got {n_elements}$"
    with context(BOX, POTENTIAL, elements=elements) as made, pytest.raises(OpenMMException, match=reason):
        made.getIntegrator().step(1)


@needs_openmm
def test_what_the_potential_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"^elements: expected Ti, O, .* got N for particle 2$"):
        openmm_force(POTENTIAL, ["Ti", "N"], periodic=True)
    with pytest.raises(InputError, match="expected a committee for the spread"):
        openmm_force(make_potential(members=1), ["Ti"], periodic=True, watch=Watch(stop_at=1.0, by="spread"))


def test_without_openmm_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(InputError, match=r"^cannot find OpenMM .*; pip install 'tio2nn\[openmm\]'$"):
        openmm_force(POTENTIAL, ["Ti"], periodic=True)
