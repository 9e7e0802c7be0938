"""What training on the stress buys: two fits of each data set, with and without, and the elasticity of both.

Each DATA is a data set of a cubic crystal in extended XYZ with stresses, in which the strained copies of one cell have
`config_type=Elastic`. A fifth of the structures is kept apart, at random, and both fits are judged on it. Elastic
constants and lattice constant come from the stresses of the strained copies, those of the data and those that each
potential predicts for the same cells: second Piola-Kirchhoff stress against Green-Lagrange strain, one component of
strain at a time, fitted by a cubic polynomial. The lattice constant is where the pressure would vanish.
C44 comes a second time from energies: shear stresses of a few thousandths of an eV/Å³ may be noise, as those of Li are.

The public sets of Si and Ge hold yz and xz of the stress exchanged, except in their strained cells: `tio2nn extract`
finds it in their slabs, whose forces imply the shear stress, `tio2nn evaluate` in the other kinds. Here they are put
back first.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmarks.materials import tested_structures
from benchmarks.program import add_program, called, run, write_split
from benchmarks.record import Row
from numpy.typing import NDArray

from tio2nn.io.read import read_structures
from tio2nn.potential.potential import Potential
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.stress import GPA, to_voigt
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

ARMS = {"with stress": "", "without": "--no-stress"}
_EXCHANGED = {"Si": ("AIMD-NVT", "Vacancy", "Surface"), "Ge": ("AIMD-NVT", "Vacancy", "Surface")}
_LARGEST_STRAIN = 0.05  # beyond it no cubic polynomial fits
_NOTHING = 1e-5  # strain that is rounding


class Elasticity(NamedTuple):
    """Of a cubic crystal.

    Attributes:
        lattice: constant, Å, of the cell that was strained.
        c11, c12, c44, bulk: moduli, GPa.
        c44_by_energy: from energies under shear, GPa.
    """

    lattice: float
    c11: float
    c12: float
    c44: float
    bulk: float
    c44_by_energy: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is kept apart; default: 0")
    parser.add_argument("--options", default="", help="of tio2nn run, in one word")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        for data in arguments.data:
            yield from _of_data(put_back(Path(data), Path(directory)), arguments)


def put_back(data: Path, directory: Path) -> Path:
    """A copy of the data in which yz and xz of the stress are those of the cell."""
    content = gzip.decompress(data.read_bytes()) if data.suffix == ".gz" else data.read_bytes()
    lines = content.decode().splitlines(keepends=True)
    kinds = _EXCHANGED.get(lines[2].split()[0], ())
    copy = directory / data.name.removesuffix(".gz")
    copy.write_text("".join(_line_put_back(line, kinds) for line in lines), encoding="utf-8")
    return copy


def _line_put_back(line: str, kinds: Sequence[str]) -> str:
    kind, stress = re.search(r"config_type=(\S+)", line), re.search(r'stress="([^"]*)"', line)
    if stress is None or kind is None or kind.group(1) not in kinds:
        return line
    numbers = stress.group(1).split()
    for first, second in ((2, 5), (6, 7)):
        numbers[first], numbers[second] = numbers[second], numbers[first]
    return line.replace(stress.group(1), " ".join(numbers))


def _of_data(data: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """The rows of one data set."""
    structures = sorted_by_name(s for s in read_structures(data) if isinstance(s, Structure))
    strained = [s for s in structures if s.extras.info.get("config_type") == "Elastic"]
    parts = tested_structures(structures, "random", arguments.seed)
    kept = [s for s in structures if parts[s.name] == "test"]
    about = {
        "data": data.name,
        "structures": len(structures),
        "kept_apart": len(kept),
        "options": arguments.options,
    }
    labels = [s.stress for s in strained if s.stress is not None]
    energies = [s.energy for s in strained if s.energy is not None]
    yield about | {"fit": "data"} | _row(elasticity(strained, np.array(labels), np.array(energies)))
    for arm, option in ARMS.items():
        options = shlex.split(f"{arguments.options} {option}")
        potential, cost = _fitted(data, parts, arguments.program, options)
        found = list(potential.predict(strained, forces=True))
        stresses, energies = ([getattr(one, name) for one in found] for name in ("stress", "energy"))
        yield (
            about
            | {"fit": arm}
            | errors(potential, kept)
            | _row(elasticity(strained, np.array(stresses), np.array(energies)))
            | {"cpu_seconds": cost}
        )


def _row(found: Elasticity) -> Row:
    names = ("lattice_A", "c11_GPa", "c12_GPa", "c44_GPa", "bulk_GPa", "c44_by_energy_GPa")
    return {name: round(value, 4) for name, value in zip(names, found, strict=True)}


def _fitted(
    data: Path, parts: dict[str, str], program: str | None, options: Sequence[str]
) -> tuple[Potential, float]:
    """The potential that `tio2nn run` makes of data, and its CPU time, s."""
    with tempfile.TemporaryDirectory() as directory:
        split = Path(directory) / "split.csv"
        write_split(parts, split)
        return fitted(data, ["--split", str(split), *options], program)


def fitted(data: Path, options: Sequence[str], program: str | None) -> tuple[Potential, float]:
    """The potential that `tio2nn run` makes of data with these options, and its CPU time, s."""
    with tempfile.TemporaryDirectory() as directory:
        cost, _ = run([*called(program), "run", str(data), "-C", directory, *options])
        return Potential.load(Path(directory) / "model/potential.npz"), round(cost.cpu, 1)


def errors(potential: Potential, structures: Sequence[Structure]) -> Row:
    """Of energies per atom, components of forces, and the six components of the stress."""
    of_energies, of_forces, of_stress = [], [], []
    for structure, found in zip(structures, potential.predict(structures, forces=True), strict=True):
        if structure.energy is not None:
            of_energies.append((found.energy - structure.energy) / structure.n_atoms)
        if structure.forces is not None and found.forces is not None:
            of_forces.append(np.ravel(found.forces - structure.forces))
        if structure.stress is not None and found.stress is not None:
            of_stress.append(to_voigt(found.stress - structure.stress))
    row: Row = {}
    for name, values, unit, scale in (
        ("energy", np.array(of_energies), "meV_per_atom", 1000.0),
        ("force", np.concatenate(of_forces), "eV_per_A", 1.0),
        ("stress", np.ravel(of_stress), "meV_per_A3", 1000.0),
    ):
        row[f"{name}_mae_{unit}"] = round(scale * float(np.mean(np.abs(values))), 5)
        row[f"{name}_rmse_{unit}"] = round(scale * float(np.sqrt(np.mean(values**2))), 5)
    return row


def elasticity(strained: Sequence[Structure], stresses: FloatArray, energies: FloatArray) -> Elasticity:
    """Lattice and elastic constants from stresses and energies of strained copies of one cubic cell.

    Args:
        strained: copies with axes along x, y and z when unstrained; with one component of strain each, most of them.
        stresses: (n, 3, 3) eV/Å³.
        energies: (n,) eV.
    """
    edge = _unstrained_edge(strained)
    deformations = np.array([s.cell for s in strained]) / edge  # x' = x F, rows
    strains = to_voigt(0.5 * (deformations @ deformations.transpose(0, 2, 1) - np.eye(3)))
    inverse = np.linalg.inv(deformations)
    # σ = F S Fᵀ / det F, with columns
    second = to_voigt(
        np.linalg.det(deformations)[:, None, None] * (inverse.transpose(0, 2, 1) @ stresses @ inverse)
    )
    along: dict[str, list[tuple[float, float]]] = {"c11": [], "c12": [], "c44": []}
    sheared: list[tuple[float, float]] = []
    for strain, stress, energy in zip(strains, second, energies, strict=True):
        (places,) = np.nonzero(np.abs(strain) > _NOTHING)
        if len(places) != 1 or abs(strain[places[0]]) > _LARGEST_STRAIN:
            continue
        k = int(places[0])
        if k < 3:
            along["c11"].append((strain[k], stress[k]))
            along["c12"] += [(strain[k], stress[other]) for other in range(3) if other != k]
        else:
            along["c44"].append((2.0 * strain[k], stress[k]))
            sheared.append((4.0 * strain[k] ** 2, energy / edge**3))
    (rest, c11), (_, c12), (_, c44) = (_fit(np.array(points)) for points in along.values())
    bulk = (c11 + 2.0 * c12) / 3.0
    # of a strain that is the same along all axes
    stretch = np.sqrt(1.0 - 2.0 * rest / (3.0 * bulk))
    n_cells = round((strained[0].n_atoms / _atoms_of_cell(strained[0])) ** (1.0 / 3.0))
    c44_by_energy = 2.0 * _fit(np.array(sheared), order=2)[1]
    return Elasticity(
        float(edge / n_cells * stretch), *(GPA * c for c in (c11, c12, c44, bulk, c44_by_energy))
    )


def _fit(points: FloatArray, order: int = 3) -> tuple[float, float]:
    """Value and slope at zero, by a polynomial, or a straight line through few points."""
    order = order if len(np.unique(np.round(points[:, 0], 4))) > order + 1 else 1
    found = np.polynomial.polynomial.polyfit(points[:, 0], points[:, 1], order)
    return float(found[0]), float(found[1])


def _unstrained_edge(strained: Sequence[Structure]) -> float:
    """The most frequent length of a cell vector, Å: most are not strained."""
    lengths = np.round(np.linalg.norm([s.cell for s in strained], axis=2).ravel(), 3)
    values, counts = np.unique(lengths, return_counts=True)
    edge = values[np.argmax(counts)]
    exact = np.linalg.norm([s.cell for s in strained], axis=2).ravel()
    return float(np.median(exact[np.abs(exact - edge) < 1e-3]))


def _atoms_of_cell(structure: Structure) -> int:
    """Atoms of a conventional cubic cell: a number whose ratio to those of the copy is that of a cube."""
    for n in (1, 2, 4, 8):
        ratio = round((structure.n_atoms / n) ** (1.0 / 3.0))
        if n * ratio**3 == structure.n_atoms and n > 1:
            return n
    raise SystemExit(f"{structure.name}: expected a cubic cell, got {structure.n_atoms} atoms")
