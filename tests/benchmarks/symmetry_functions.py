"""CPU time of the symmetry functions against DScribe's ACSF, the same functions on the same structures.

    pip install '.[benchmark]'
    python tests/benchmarks/symmetry_functions.py SOURCE... [--names FILE] [--repeats N]

SOURCE is a structure file, a folder or an archive; FILE lists names of structures, one a line, to take of them. Both
programs run in turn in this process; compilation, reading of files and conversion of structures are not counted.
Lists in this folder may serve: the first 500 lines of train-6028.txt are a fair sample of the TiO2 set.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time of one core, not of threads that wait

import numpy as np
from acsf import acsf, columns_in_acsf
from ase import Atoms
from chosen_structures import chosen
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import PRESETS, preset

Features = list[NDArray[np.float64]]


def cpu_seconds(compute: Callable[[], Features]) -> tuple[float, Features]:
    begin = time.process_time()
    features = compute()
    return time.process_time() - begin, features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--names", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--preset", default="artrith-urban-2016", choices=[*PRESETS])
    arguments = parser.parse_args()

    structures = chosen(arguments.sources, arguments.names)
    if not structures:
        parser.error("expected structures, got none")
    parameters = preset(arguments.preset, sorted({e for s in structures for e in s.elements}, reverse=True))
    if parameters.radial_elements != "each" or parameters.angular_elements != "pairs":
        parser.error("expected a preset that tells elements apart: DScribe knows no other")
    ours, theirs = SymmetryCalculator(parameters), acsf(parameters)
    atoms = [Atoms(s.elements, s.positions, cell=s.cell, pbc=s.periodic) for s in structures]
    ours(structures[0])  # compiles
    times: dict[str, list[float]] = {"tio2nn": [], "DScribe": []}
    for _ in range(arguments.repeats):
        seconds, features = cpu_seconds(lambda: list(ours.map(structures)))
        times["tio2nn"].append(seconds)
        seconds, other = cpu_seconds(lambda: [theirs.create(a) for a in atoms])
        times["DScribe"].append(seconds)
    order = columns_in_acsf(parameters)
    difference = max(float(np.abs(a - b[:, order]).max()) for a, b in zip(features, other, strict=True))

    n_atoms = sum(s.n_atoms for s in structures)
    print(f"{len(structures)} structures, {n_atoms} atoms, {parameters.n_features} functions")
    print(f"largest difference {difference:.1e}")
    for program, seconds_of in times.items():
        middle = statistics.median(seconds_of)
        each = " ".join(f"{seconds:.2f}" for seconds in seconds_of)
        print(f"{program:8} {middle:7.3f} s CPU, {1e6 * middle / n_atoms:6.0f} µs an atom  (runs: {each})")
    ratio = statistics.median(a / b for a, b in zip(times["DScribe"], times["tio2nn"], strict=True))
    print(f"tio2nn takes 1/{ratio:.1f} of the time of DScribe")


if __name__ == "__main__":
    main()
