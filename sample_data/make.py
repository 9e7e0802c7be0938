"""Make the structures of this directory and label them with GFN1-xTB energies and forces.

    pip install '.[sample-data]'
    python sample_data/make.py --jobs 2

Four phases of TiO2, built from published crystallography, are compressed, stretched, sheared, displaced, repeated
and stripped of an oxygen atom, then labelled with tblite. README.md says what the result is good for.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.calculator import CalculationFailed
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SEED = 2016
DECIMALS = 8
# Å; the shortest bond of the four crystals is 1.86, below 1.5 the tight-binding overlap becomes nearly singular
MIN_DISTANCE = 1.5
# eV/Å; beyond it a structure is an accident, not a vibration
MAX_FORCE = 60.0
# eV/Å; copies of an atom must feel the same force, else the charges have broken the symmetry of the repetition
MAX_COPY_DEVIATION = 0.01
# tblite's accuracy: against its default of 1 it moves energies by less than 1e-6 eV/atom, forces by 2e-4 eV/Å, and
# takes two thirds of the time
ACCURACY = 10.0
MAX_DRAWS = 10_000


@dataclass(frozen=True)
class Phase:
    """One crystal, and the cell sizes (atoms) in which it appears.

    Attributes:
        small, large: cells that are written.
        labelled: the supercell in which *every* structure of the phase is computed. tblite samples only the Γ point;
            one fixed supercell per phase keeps energies per atom comparable between cells of different size.
    """

    name: str
    spacegroup: int
    cell: tuple[float, float, float]
    sites: tuple[tuple[str, float, float, float], ...]
    small: tuple[int, ...]
    large: tuple[int, ...]
    labelled: int

    def atoms(self) -> Atoms:
        """The primitive cell."""
        return crystal(
            [element for element, *_ in self.sites],
            [xyz for _, *xyz in self.sites],
            spacegroup=self.spacegroup,
            cellpar=[*self.cell, 90, 90, 90],
            primitive_cell=True,
        )


PHASES = (
    # S. C. Abrahams, J. L. Bernstein, J. Chem. Phys. 55 (1971) 3206: P4_2/mnm, 298 K
    Phase(
        "rutile",
        136,
        (4.593659, 4.593659, 2.958682),
        (("Ti", 0, 0, 0), ("O", 0.30479, 0.30479, 0)),
        small=(6, 12),
        large=(24, 48),
        labelled=48,
    ),
    # C. J. Howard, T. M. Sabine, F. Dickson, Acta Cryst. B 47 (1991) 462: I4_1/amd, origin on Ti
    Phase(
        "anatase",
        141,
        (3.785, 3.785, 9.514),
        (("Ti", 0, 0, 0), ("O", 0, 0, 0.20806)),
        small=(6, 12),
        large=(24, 36),
        labelled=72,
    ),
    # E. P. Meagher, G. A. Lager, Can. Mineral. 17 (1979) 77: Pbca, 25 °C
    Phase(
        "brookite",
        61,
        (9.174, 5.449, 5.138),
        (("Ti", 0.1289, 0.0972, 0.8628), ("O", 0.0095, 0.1491, 0.1835), ("O", 0.2314, 0.1110, 0.5366)),
        small=(24,),
        large=(48,),
        labelled=48,
    ),
    # TiO2-II, the high-pressure phase of the α-PbO2 (columbite) type. P. Y. Simons, F. Dachille, Acta Cryst. 23
    # (1967) 334: Pbcn, at ambient pressure
    Phase(
        "columbite",
        60,
        (4.515, 5.497, 4.939),
        (("Ti", 0, 0.171, 0.25), ("O", 0.286, 0.376, 0.412)),
        small=(12,),
        large=(24, 36),
        labelled=72,
    ),
)

# how many of each kind are made of every phase
COUNTS = {"volume": 10, "strain": 15, "thermal": 25, "supercell": 13, "vacancy": 12}
# first and last factor on the cell's edges in a volume scan
SCALES = (0.95, 1.07)
# standard deviation of each component of the strain tensor, and of each component of an atom's displacement in Å
# (about 0.08 in rutile at room temperature; the larger ones are hotter than any crystal survives)
SHEAR = 0.03
AMPLITUDES = (0.03, 0.06, 0.09, 0.12, 0.15)


@dataclass(frozen=True)
class Candidate:
    """A structure as it will be written, and what is needed to label it.

    Attributes:
        repeat: (3, 3) rows of the labelled supercell, in units of the structure's cell vectors.
    """

    phase: str
    kind: str
    amplitude: float
    atoms: Atoms
    repeat: IntArray
    energy: float = np.nan
    forces: FloatArray | None = None
    rejected: str = ""


def shortest_vector(cell: FloatArray) -> float:
    """Length of the shortest lattice vector: the distance between an atom and its nearest image, Å."""
    reduced, _ = minkowski_reduce(cell)
    return float(np.linalg.norm(reduced, axis=1).min())


def compact_sublattice(cell: FloatArray, index: int, containing: IntArray | None = None) -> IntArray:
    """The sublattice of `index` cells that keeps images farthest apart.

    Args:
        containing: a sublattice all of whose points the result must contain.

    Returns:
        rows: (3, 3) its vectors in units of the rows of `cell`, reduced to the shortest possible.
    """
    best: tuple[float, IntArray] | None = None
    for rows in _hermite_forms(index):
        if containing is not None:
            multiples = containing @ np.linalg.inv(rows)
            if not np.allclose(multiples, np.rint(multiples)):
                continue
        # rounded, so that of equally good ones the first is taken on every machine
        length = round(shortest_vector(rows @ cell), 6)
        if best is None or length > best[0]:
            best = (length, rows)
    if best is None:
        raise ValueError(f"expected a sublattice of {index} cells around the labelled one, got none")
    edges = best[1] @ cell
    reduced, operation = minkowski_reduce(edges)
    # reduction also reorders: a cell that it cannot shorten keeps its customary axes
    shorter = np.linalg.norm(reduced, axis=1).sum() < np.linalg.norm(edges, axis=1).sum() - 1e-6
    return np.asarray(operation @ best[1], dtype=np.int64) if shorter else best[1]


def _hermite_forms(index: int) -> Iterator[IntArray]:
    """Every sublattice of `index` cells once, in Hermite normal form."""
    for a in range(1, index + 1):
        for b in range(1, index // a + 1):
            if index % (a * b) == 0:
                c = index // (a * b)
                for d, e, f in np.ndindex(b, c, c):
                    yield np.array([[a, d, e], [0, b, f], [0, 0, c]], dtype=np.int64)


@lru_cache
def template(phase: Phase, n_atoms: int) -> tuple[Atoms, IntArray]:
    """The undistorted crystal in a cell of `n_atoms`, titanium first, and its repetition to the labelled supercell."""
    primitive = phase.atoms()
    cell = primitive.cell[:]
    labelled = compact_sublattice(cell, phase.labelled // len(primitive))
    rows = compact_sublattice(cell, n_atoms // len(primitive), containing=labelled)
    atoms = make_supercell(primitive, rows)
    order = np.argsort([symbol != "Ti" for symbol in atoms.get_chemical_symbols()], kind="stable")
    return atoms[order], np.rint(labelled @ np.linalg.inv(rows)).astype(np.int64)


def candidates(seed: int) -> Iterator[Candidate]:
    """Every structure, unlabelled, in the order in which they are numbered."""
    for p, phase in enumerate(PHASES):
        for k, (kind, count) in enumerate(COUNTS.items()):
            for i in range(count):
                yield _candidate(phase, kind, i, np.random.default_rng([seed, p, k, i]))


def _candidate(phase: Phase, kind: str, i: int, rng: np.random.Generator) -> Candidate:
    sizes = phase.large if kind in ("supercell", "vacancy") else phase.small
    crystal_atoms, repeat = template(phase, phase.small[0] if kind == "volume" else sizes[i % len(sizes)])
    if kind == "volume":
        atoms = _deformed(crystal_atoms, (np.linspace(*SCALES, COUNTS[kind])[i] - 1.0) * np.eye(3))
        return Candidate(phase.name, kind, 0.0, atoms, repeat)
    amplitude = AMPLITUDES[0] if kind == "strain" else AMPLITUDES[i // len(sizes) % len(AMPLITUDES)]
    for _ in range(MAX_DRAWS):
        if kind == "strain":
            strain = rng.normal(0.0, SHEAR, (3, 3))
        else:
            strain = rng.uniform(-0.02, 0.04) * np.eye(3) + rng.normal(0.0, 0.005, (3, 3))
        # the antisymmetric part of a strain would only rotate the crystal
        atoms = _deformed(crystal_atoms, (strain + strain.T) / 2.0)
        atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
        if kind == "vacancy":
            oxygens = [atom.index for atom in atoms if atom.symbol == "O"]
            del atoms[rng.choice(oxygens)]
        atoms = _rounded(atoms)
        if min_distance(atoms) > MIN_DISTANCE:
            return Candidate(phase.name, kind, amplitude, atoms, repeat)
    raise RuntimeError(
        f"{phase.name} {kind}: expected distances above {MIN_DISTANCE} Å, got none in {MAX_DRAWS} draws"
    )


def _deformed(atoms: Atoms, strain: FloatArray) -> Atoms:
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
    return _rounded(deformed)


def _rounded(atoms: Atoms) -> Atoms:
    """The structure as its file will hold it, so that what is labelled is what is written; + 0.0 turns -0 into 0."""
    atoms.set_cell(np.round(atoms.cell[:], DECIMALS) + 0.0)
    atoms.positions = np.round(atoms.positions, DECIMALS) + 0.0
    return atoms


def min_distance(atoms: Atoms) -> float:
    """Shortest distance between two atoms, images included, Å (inf above 3)."""
    return float(min(neighbor_list("d", atoms, 3.0), default=np.inf))


def label(candidate: Candidate) -> Candidate:
    """Energy (eV) and forces (eV/Å) of a candidate, computed in the labelled supercell of its phase."""
    if min_distance(candidate.atoms) <= MIN_DISTANCE:
        return replace(candidate, rejected=f"atoms closer than {MIN_DISTANCE} Å")
    supercell = make_supercell(candidate.atoms, candidate.repeat)
    n_copies = len(supercell) // len(candidate.atoms)
    try:
        energy, all_forces = gfn1_xtb(supercell)
    except CalculationFailed as error:
        return replace(candidate, rejected=f"no self-consistent solution: {' '.join(str(error).split())}")
    copies = all_forces.reshape(n_copies, -1, 3)
    forces = copies.mean(axis=0)
    if np.abs(copies - forces).max() > MAX_COPY_DEVIATION:
        return replace(candidate, rejected="copies of one atom feel different forces")
    if np.linalg.norm(forces, axis=1).max() > MAX_FORCE:
        return replace(candidate, rejected=f"a force above {MAX_FORCE} eV/Å")
    return replace(candidate, energy=energy / n_copies, forces=forces)


def gfn1_xtb(atoms: Atoms) -> tuple[float, FloatArray]:
    """Total energy (eV) and forces (n_atoms, 3) (eV/Å) of the neutral closed-shell cell at the Γ point.

    Raises:
        CalculationFailed: the charges did not converge.
    """
    # here, because the thread count is read when the library is loaded
    from tblite.ase import TBLite

    labelled = atoms.copy()
    labelled.calc = TBLite(method="GFN1-xTB", accuracy=ACCURACY, verbosity=0)
    return float(labelled.get_potential_energy()), np.asarray(labelled.get_forces())


def xsf(candidate: Candidate) -> str:
    """The text of the structure's file, column for column as in the aenet TiO2 set."""
    atoms = candidate.atoms
    lines = [f"# total energy = {candidate.energy:.8f} eV", "", "CRYSTAL", "PRIMVEC"]
    lines += [f"{x:18.8f}{y:15.8f}{z:15.8f}" for x, y, z in atoms.cell[:]]
    lines += ["PRIMCOORD", f"{len(atoms)} 1"]
    forces = np.round(candidate.forces, DECIMALS) + 0.0
    for element, position, force in zip(atoms.get_chemical_symbols(), atoms.positions, forces, strict=True):
        numbers = [*position, *force]
        lines.append(f"{element:<2}{numbers[0]:16.8f}" + "".join(f"{number:15.8f}" for number in numbers[1:]))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes, one thread each (default: 1)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the random numbers (default: {SEED})")
    arguments = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"
    print(", ".join(f"{package} {version(package)}" for package in ("tblite", "ase", "numpy")))
    begin = time.perf_counter()
    planned = list(candidates(arguments.seed))
    accepted: list[Candidate] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for number, candidate in enumerate(pool.map(label, planned), start=1):
            if candidate.rejected:
                print(
                    f"left out: {candidate.phase} {candidate.kind} {candidate.atoms.symbols}: {candidate.rejected}"
                )
            else:
                accepted.append(candidate)
            if number % 25 == 0:
                print(f"{number} of {len(planned)}, {time.perf_counter() - begin:.0f} s", flush=True)

    arguments.output.mkdir(parents=True, exist_ok=True)
    for old in arguments.output.glob("structure[0-9]*.xsf"):
        old.unlink()
    with (arguments.output / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("structure", "phase", "kind", "n_atoms", "n_atoms_labelled", "displacement_A"))
        for number, candidate in enumerate(accepted, start=1):
            name = f"structure{number:04d}"
            (arguments.output / f"{name}.xsf").write_text(xsf(candidate), encoding="utf-8")
            n_atoms = len(candidate.atoms)
            n_labelled = n_atoms * round(abs(np.linalg.det(candidate.repeat)))
            table.writerow((name, candidate.phase, candidate.kind, n_atoms, n_labelled, candidate.amplitude))
    print(f"{len(accepted)} structures, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
