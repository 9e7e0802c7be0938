"""Errors of `tio2nn run` on few small structures of many elements, as parts of what their energies spread by.

Each set holds eight displaced atoms of an fcc crystal, of elements drawn at random: two, three, five or all seven
metals that ASE's EMT knows, or all of its eleven elements. A fifth is held out for the test, at random. With more than
one number of structures the table is a learning curve.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from benchmarks.materials import errors, tested_structures
from benchmarks.program import add_program
from benchmarks.record import Row
from benchmarks.statistics_of_rows import mean, together, worst

from tio2nn.io.read import read_structures
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

ELEMENTS = {
    2: ("Cu", "Au"),
    3: ("Cu", "Ag", "Au"),
    5: ("Al", "Cu", "Ag", "Au", "Ni"),
    7: ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"),
    11: ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt", "C", "H", "N", "O"),
}
OPTIONS = ("--forces", "--energies-only")
LATTICE_CONSTANT = 4.0  # Å
DISPLACEMENT = 0.1  # Å, standard deviation of each component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", type=int, nargs="+", choices=sorted(ELEMENTS), default=sorted(ELEMENTS))
    parser.add_argument("--structures", type=int, nargs="+", default=[60], metavar="N")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--only", choices=[word.removeprefix("--") for word in OPTIONS], help="default: both")
    parser.add_argument("--preset", metavar="NAME", help="symmetry functions; default: those that are chosen")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """With forces, and on energies alone."""
    for kinds in arguments.kinds:
        for number in arguments.structures:
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / f"alloy{kinds}.xyz"
                write(file, alloys(kinds, number), format="extxyz")
                structures = sorted_by_name(s for s in read_structures(file) if isinstance(s, Structure))
                for labels in OPTIONS:
                    if arguments.only not in (None, labels.removeprefix("--")):
                        continue
                    options = labels if arguments.preset is None else f"{labels} --preset {arguments.preset}"
                    for split in range(arguments.splits):
                        parts = tested_structures(structures, "random", split)
                        found = errors([file], structures, parts, arguments.program, options)
                        spread = found["spread_meV_per_atom"]  # of which earlier versions say nothing
                        ratio = spread and round(found["energy_rmse_meV_per_atom"] / spread, 4)
                        about: Row = {"elements": kinds, "structures": number, "options": options}
                        yield about | {"split": split, "energy_rmse_over_spread": ratio, **found}


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Over the splits of each set."""
    table = []
    about = ("elements", "structures", "options")
    for own in together(rows, *about):
        row: Row = {name: own[0][name] for name in about} | {"splits": len(own)}
        row["energy_rmse_over_spread"] = mean(own, "energy_rmse_over_spread")
        row["energy_rmse_over_spread_worst"] = worst(own, "energy_rmse_over_spread")
        row["force_mae_eV_per_A"] = (
            mean(own, "force_mae_eV_per_A") if OPTIONS[0] in own[0]["options"] else None
        )
        table.append(row | {"cpu_seconds": mean(own, "cpu_seconds")})
    return table


def alloys(kinds: int, number: int, *, stress: bool = False) -> list[Atoms]:
    """So many structures, of so many elements, with energies and forces, and stresses if asked for."""
    random = np.random.default_rng([kinds, 0xE7])
    made = []
    for _ in range(number):
        atoms = bulk("Cu", "fcc", a=LATTICE_CONSTANT, cubic=True) * (2, 1, 1)
        atoms.set_chemical_symbols([str(element) for element in random.choice(ELEMENTS[kinds], len(atoms))])
        atoms.positions += random.normal(0.0, DISPLACEMENT, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        if stress:
            atoms.get_stress()
        made.append(atoms)
    return made
