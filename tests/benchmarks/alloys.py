"""Errors of `tio2nn run` on few small structures of many elements, as parts of what their energies spread by.

    python tests/benchmarks/alloys.py [--kinds 3 5 7 11] [--structures 60] [--divisions 5] [--program "tio2nn"]
        [--output FILE]

Each set holds eight displaced atoms of an fcc crystal, of elements drawn at random: three, five or all seven metals
that ASE's EMT knows, or all of its eleven elements. A fifth is kept for the test, at random. With more than one number
of structures the table is a learning curve. A line of JSON for each division goes to FILE; the table to stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from materials import errors, tested_structures

from tio2nn.io.read import read_structures
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

ELEMENTS = {
    3: ("Cu", "Ag", "Au"),
    5: ("Al", "Cu", "Ag", "Au", "Ni"),
    7: ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"),
    11: ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt", "C", "H", "N", "O"),
}
LATTICE_CONSTANT = 4.0  # Å
DISPLACEMENT = 0.1  # Å, standard deviation of each component


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", type=int, nargs="+", choices=sorted(ELEMENTS), default=sorted(ELEMENTS))
    parser.add_argument("--structures", type=int, nargs="+", default=[60])
    parser.add_argument("--divisions", type=int, default=5)
    parser.add_argument("--program", default="tio2nn")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    for kinds in arguments.kinds:
        for number in arguments.structures:
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / f"alloy{kinds}.xyz"
                write(file, alloys(kinds, number), format="extxyz")
                _judge(file, kinds, arguments.divisions, arguments.program, arguments.output)


def alloys(kinds: int, number: int) -> list[Atoms]:
    """So many structures, of so many elements, with energies and forces."""
    random = np.random.default_rng([kinds, 0xE7])
    made = []
    for _ in range(number):
        atoms = bulk("Cu", "fcc", a=LATTICE_CONSTANT, cubic=True) * (2, 1, 1)
        atoms.set_chemical_symbols([str(element) for element in random.choice(ELEMENTS[kinds], len(atoms))])
        atoms.positions += random.normal(0.0, DISPLACEMENT, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        made.append(atoms)
    return made


def _judge(file: Path, kinds: int, divisions: int, program: str, output: Path | None) -> None:
    """Run the program on each division, with forces and on energies alone, and print how it did."""
    structures = sorted_by_name(s for s in read_structures(file, errors="yield") if isinstance(s, Structure))
    for options in ("--forces", "--energies-only"):
        ratios, force_errors = [], []
        for division in range(divisions):
            tested = tested_structures(structures, "random", division)
            found = errors([str(file)], structures, tested, program, options)
            about = {"elements": kinds, "structures": len(structures), "options": options}
            line = json.dumps({**about, "division": division, **found})
            if output is not None:
                with output.open("a", encoding="utf-8") as handle:
                    handle.write(line + "\n")
            print(line, file=sys.stderr)
            ratios.append(found["energy_rmse_meV_per_atom"] / found["spread_meV_per_atom"])
            if found["force_rmse_eV_per_A"] is not None:
                force_errors.append(found["force_mae_eV_per_A"])
        forces = f", force MAE {statistics.mean(force_errors):.3f} eV/Å" if force_errors else ""
        print(
            f"{kinds} elements, {len(structures)} structures, {options}: energy RMSE over spread: "
            f"mean {statistics.mean(ratios):.2f}, worst {max(ratios):.2f}{forces}",
            flush=True,
        )


if __name__ == "__main__":
    main()
