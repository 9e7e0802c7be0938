"""What a potential says of three phases of TiO2: lattices, energies, equations of state, and a path of constant energy.

POTENTIAL is a file `potential.npz` for titanium and oxygen. Rutile, anatase and brookite start from experiment and are
relaxed, cell and atoms. DIR receives two PNGs. Two runs on one machine give the same, but for the time taken.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not pay for matrices of a hundred rows
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.spacegroup import crystal
from benchmarks.record import Row
from numpy.typing import NDArray

from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.interfaces.watch import ExtrapolationWarning
from tio2nn.potential.potential import Potential

FloatArray = NDArray[np.float64]

FMAX = 0.01  # eV/Å, largest force at rest
MOST_STEPS = 500  # of a relaxation; the three phases take at most 31
SCAN = np.linspace(0.94, 1.06, 13)  # volumes, relative to the relaxed one
TEMPERATURE = 300.0  # K
STEP = 1.0  # fs; the fastest vibration of TiO2, 25 THz, takes 40 steps
THERMOSTAT = 500  # steps before the run of constant energy
FRICTION = 0.02  # 1/fs: memory of 50 fs, a tenth of the time with the thermostat
SEED = 0
STYLE = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@dataclass(frozen=True)
class Phase:
    """A crystal as measured.

    Attributes:
        name: of the mineral.
        spacegroup: its number.
        setting: of the space group, as ASE counts.
        cell: a, b, c, Å; all angles are right.
        basis: fractional coordinates of Ti, then of O.
        bulk_modulus: GPa.
        data: of the energy above rutile in the public TiO2 set, meV/TiO2.
        color: in the figure; of the palette of M. Okabe and K. Ito.
        marker: in the figure.
    """

    name: str
    spacegroup: int
    setting: int
    cell: tuple[float, float, float]
    basis: tuple[tuple[float, float, float], ...]
    bulk_modulus: float
    data: float
    color: str
    marker: str

    def atoms(self) -> Atoms:
        """The conventional cell."""
        symbols = ["Ti", *["O"] * (len(self.basis) - 1)]
        return crystal(
            symbols,
            self.basis,
            spacegroup=self.spacegroup,
            setting=self.setting,
            cellpar=[*self.cell, 90, 90, 90],
        )


# Structures at room temperature: rutile and anatase from J. K. Burdett et al., J. Am. Chem. Soc. 109 (1987) 3639,
# brookite from E. P. Meagher and G. A. Lager, Can. Mineral. 17 (1979) 77. Bulk moduli: rutile (nanocrystals) from
# J. S. Olsen et al., High Press. Res. 22 (2002) 385, 211(7) GPa; anatase from T. Arlt et al., Phys. Rev. B 61 (2000)
# 14414, 179(2) GPa; brookite from W. Luo et al., Solid State Commun. 133 (2005) 49. Energies: structures 1061
# (rutile), 6350 (anatase) and 2946 (brookite), low ones of the set of N. Artrith and A. Urban, Comput. Mater. Sci.
# 114 (2016) 135, whose density functional puts anatase below rutile, unlike experiment.
PHASES = (
    Phase(
        "rutile",
        136,
        1,
        (4.59365, 4.59365, 2.95874),
        ((0.0, 0.0, 0.0), (0.30478, 0.30478, 0.0)),
        211.0,
        0.0,
        "#D55E00",
        "o",
    ),
    Phase(
        "anatase",
        141,
        2,
        (3.78479, 3.78479, 9.51237),
        ((0.0, 0.25, 0.375), (0.0, 0.25, 0.16686)),
        179.0,
        -100.0,
        "#0072B2",
        "s",
    ),
    Phase(
        "brookite",
        61,
        1,
        (9.174, 5.449, 5.138),
        ((0.1289, 0.0972, 0.8628), (0.0095, 0.1491, 0.1835), (0.2314, 0.1110, 0.5366)),
        255.0,
        -53.0,
        "#009E73",
        "^",
    ),
)


@dataclass(frozen=True)
class Relaxed:
    """A phase at rest, and around it.

    Attributes:
        phase: as measured.
        atoms: relaxed.
        steps: that the relaxation took.
        volumes: (n,) of the scan, Å³ per TiO2.
        energies: (n,) eV per TiO2.
        fit: of Birch and Murnaghan, per TiO2.
        minimum: volume and energy of the fit, per TiO2.
        bulk_modulus: of the fit, GPa.
    """

    phase: Phase
    atoms: Atoms
    steps: int
    volumes: FloatArray
    energies: FloatArray
    fit: EquationOfState
    minimum: tuple[float, float]
    bulk_modulus: float


def n_units(atoms: Atoms) -> int:
    """Number of TiO2 in a cell."""
    return int(np.count_nonzero(atoms.symbols == "Ti"))


def relax(atoms: Atoms, *, constant_volume: bool = False) -> int:
    """Let cell and atoms go to rest; the number of steps."""
    optimizer = BFGS(FrechetCellFilter(atoms, constant_volume=constant_volume), logfile=None)
    if not optimizer.run(fmax=FMAX, steps=MOST_STEPS):
        raise SystemExit(
            f"expected {atoms.get_chemical_formula()} at rest after {MOST_STEPS} steps, got it moving"
        )
    return int(optimizer.nsteps)


def study(phase: Phase, calculator: BehlerParrinello) -> Relaxed:
    """Relax a phase, then again at volumes around that of rest."""
    atoms = phase.atoms()
    atoms.calc = calculator
    steps = relax(atoms)
    volumes, energies = [], []
    for factor in SCAN:
        scaled = atoms.copy()
        scaled.calc = calculator
        scaled.set_cell(atoms.cell.array * factor ** (1.0 / 3.0), scale_atoms=True)
        relax(scaled, constant_volume=True)
        volumes.append(scaled.get_volume() / n_units(scaled))
        energies.append(scaled.get_potential_energy() / n_units(scaled))
    fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
    volume, energy, modulus = fit.fit(warn=False)
    return Relaxed(
        phase,
        atoms,
        steps,
        np.array(volumes),
        np.array(energies),
        fit,
        (float(volume), float(energy)),
        float(modulus / units.GPa),
    )


def phase_row(found: Relaxed, reference: Relaxed) -> Row:
    """Lattice beside experiment, energy above the reference, equation of state."""
    lengths = [*found.atoms.cell.lengths(), found.atoms.get_volume() / n_units(found.atoms)]
    measured = [*found.phase.cell, float(np.prod(found.phase.cell)) / n_units(found.atoms)]
    row: Row = {"of": "phases", "phase": found.phase.name}
    for name, ours, theirs in zip(("a_A", "b_A", "c_A", "volume_A3"), lengths, measured, strict=True):
        row |= {name: float(ours), f"{name}_measured": theirs, f"{name}_percent": 100 * (ours / theirs - 1)}
    residuals = found.energies - curve(found, found.volumes)
    return row | {
        "steps": found.steps,
        "energy_meV": 1e3 * (energy(found) - energy(reference)),
        "energy_in_data_meV": found.phase.data,
        "volume_of_fit_A3": found.minimum[0],
        "bulk_modulus_GPa": found.bulk_modulus,
        "bulk_modulus_measured_GPa": found.phase.bulk_modulus,
        "fit_rms_meV": 1e3 * float(np.sqrt(np.mean(residuals**2))),
    }


def energy(found: Relaxed) -> float:
    """At rest, eV per TiO2."""
    return float(found.atoms.get_potential_energy()) / n_units(found.atoms)


def curve(found: Relaxed, volumes: FloatArray) -> FloatArray:
    """The fitted equation of state, eV per TiO2."""
    return np.asarray(found.fit.func(volumes, *found.fit.eos_parameters))


@dataclass(frozen=True)
class Trajectory:
    """A run at constant energy.

    Attributes:
        times: (n,) ps.
        total, potential: (n,) eV/atom.
        temperatures: (n,) K.
        seconds: per step.
        outside: number of steps with atoms outside the training range.
    """

    times: FloatArray
    total: FloatArray
    potential: FloatArray
    temperatures: FloatArray
    seconds: float
    outside: int


def constant_energy(atoms: Atoms, steps: int) -> Trajectory:
    """Bring atoms to the temperature, then leave them alone."""
    rng = np.random.RandomState(SEED)
    widths = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * widths[:, None])
    Langevin(
        atoms, STEP * units.fs, temperature_K=TEMPERATURE, friction=FRICTION / units.fs, fixcm=False, rng=rng
    ).run(THERMOSTAT)
    Stationary(atoms, preserve_temperature=False)
    rows: list[tuple[float, float, float]] = []
    outside = 0

    def record() -> None:
        nonlocal outside
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        rows.append((potential, kinetic, atoms.get_temperature()))
        outside += bool(atoms.calc.prediction.extrapolations)

    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    dynamics.attach(record)
    begin = time.perf_counter()
    dynamics.run(steps)
    seconds = (time.perf_counter() - begin) / steps
    potential, kinetic, temperatures = np.array(rows).T
    n = len(atoms)
    times = 1e-3 * STEP * np.arange(len(rows))
    return Trajectory(times, (potential + kinetic) / n, potential / n, temperatures, seconds, outside)


def path_row(path: Trajectory, n_atoms: int) -> Row:
    """Drift, fluctuation around the line through all steps, temperature, time."""
    drift, _ = np.polyfit(path.times, path.total, 1)
    around = path.total - np.polyval(np.polyfit(path.times, path.total, 1), path.times)
    return {
        "of": "constant energy",
        "atoms": n_atoms,
        "steps": len(path.times) - 1,
        "step_fs": STEP,
        "drift_meV_per_atom_ps": 1e3 * float(drift),
        "fluctuation_meV_per_atom": 1e3 * float(around.std()),
        "fluctuation_of_potential_meV_per_atom": 1e3 * float(path.potential.std()),
        "mean_temperature_K": float(path.temperatures.mean()),
        "steps_outside_training": path.outside,
        "ms_per_step": 1e3 * path.seconds,
        "us_per_step_and_atom": 1e6 * path.seconds / n_atoms,
    }


def draw_phases(phases: Sequence[Relaxed], figure: Path) -> None:
    """Energy against volume: points of the scans, fitted curves."""
    page, axes = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    zero = phases[0].minimum[1]
    for found in phases:
        grid = np.linspace(found.volumes.min(), found.volumes.max(), 200)
        axes.plot(grid, curve(found, grid) - zero, color=found.phase.color, linewidth=1.0)
        axes.plot(
            found.volumes,
            found.energies - zero,
            found.phase.marker,
            color=found.phase.color,
            markersize=4,
            label=f"{found.phase.name}, $B_0$ = {found.bulk_modulus:.0f} GPa",
        )
    axes.set_xlabel("volume (Å³ per TiO$_2$)")
    axes.set_ylabel("energy above rutile (eV per TiO$_2$)")
    axes.legend()
    page.savefig(figure, metadata={"Software": None})
    plt.close(page)


def draw_path(path: Trajectory, figure: Path) -> None:
    """Potential and total energy against time, and below the total energy alone, enlarged."""
    page, (upper, lower) = plt.subplots(
        2, 1, figsize=(4.8, 4.2), sharex=True, layout="constrained", height_ratios=(2.0, 1.0)
    )
    start = path.total[0]
    upper.plot(
        path.times, 1e3 * (path.potential - start), color="#0072B2", linewidth=0.5, label="potential energy"
    )
    upper.plot(path.times, 1e3 * (path.total - start), color="#D55E00", linewidth=1.2, label="total energy")
    upper.set_ylabel("energy (meV/atom)")
    upper.legend(loc="center right")
    lower.plot(path.times, 1e6 * (path.total - start), color="#D55E00", linewidth=0.4)
    lower.set_ylabel("total (µeV/atom)")
    lower.set_xlabel("time (ps)")
    page.savefig(figure, metadata={"Software": None})
    plt.close(page)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("potential", type=Path, metavar="POTENTIAL")
    parser.add_argument("--figures", type=Path, metavar="DIR")
    parser.add_argument(
        "--steps", type=int, default=5000, metavar="N", help="at constant energy; default: 5000"
    )


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """The three phases, then the path of constant energy."""
    warnings.simplefilter("always", ExtrapolationWarning)
    potential = Potential.load(arguments.potential)
    phases: list[Relaxed] = []
    for phase in PHASES:
        phases.append(study(phase, BehlerParrinello(potential)))
        yield phase_row(phases[-1], phases[0])
    supercell = phases[0].atoms.repeat((2, 2, 2))
    supercell.calc = BehlerParrinello(potential)
    path = constant_energy(supercell, arguments.steps)
    yield path_row(path, len(supercell))
    if arguments.figures is not None:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            draw_phases(phases, arguments.figures / "equation-of-state.png")
            draw_path(path, arguments.figures / "constant-energy.png")
