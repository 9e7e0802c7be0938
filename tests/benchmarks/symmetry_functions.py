"""CPU time of the symmetry functions against DScribe's ACSF, the same functions on the same structures.

DScribe comes with `pip install '.[benchmark]'`. SOURCE is a structure file, a folder or an archive; FILE lists names of
structures, one a line, to take of them. Both programs run in turn in this process; compilation, reading of files and
conversion of structures are not counted.
Lists in this folder may serve: the first 500 lines of train-6028.txt are a fair sample of the TiO2 set.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time of one core, not of threads that wait

import numpy as np
from ase import Atoms
from benchmarks.chosen_structures import add_choice, chosen
from benchmarks.record import Row
from benchmarks.statistics_of_rows import median, together, worst
from numpy.typing import NDArray

from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import preset

Features = list[NDArray[np.float64]]


def cpu_seconds(compute: Callable[[], Features]) -> tuple[float, Features]:
    begin = time.process_time()
    features = compute()
    return time.process_time() - begin, features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_choice(parser, repeats=3)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    from benchmarks.acsf import acsf, columns_in_acsf

    structures = chosen(arguments.sources, arguments.names)
    parameters = preset(arguments.preset, sorted({e for s in structures for e in s.elements}, reverse=True))
    if parameters.radial_elements != "each" or parameters.angular_elements != "pairs":
        raise SystemExit("expected a preset that tells elements apart: DScribe knows no other")
    ours, theirs = SymmetryCalculator(parameters), acsf(parameters)
    order = columns_in_acsf(parameters)
    atoms = [Atoms(s.elements, s.positions, cell=s.cell, pbc=s.periodic) for s in structures]
    about: Row = {
        "structures": len(structures),
        "atoms": sum(s.n_atoms for s in structures),
        "functions": parameters.n_features,
        "dscribe_version": version("dscribe"),
    }
    ours(structures[0])  # compiles
    for repeat in range(arguments.repeats):
        seconds, features = cpu_seconds(lambda: list(ours.map(structures)))
        other_seconds, other = cpu_seconds(lambda: [theirs.create(a) for a in atoms])
        yield about | {
            "repeat": repeat,
            "cpu_seconds": seconds,
            "us_per_atom": 1e6 * seconds / about["atoms"],
            "dscribe_cpu_seconds": other_seconds,
            "dscribe_us_per_atom": 1e6 * other_seconds / about["atoms"],
            "times_faster": other_seconds / seconds,
            "largest_difference": max(
                float(np.abs(a - b[:, order]).max()) for a, b in zip(features, other, strict=True)
            ),
        }


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Medians of the repeats, and the largest difference of all."""
    table = []
    about = ("structures", "atoms", "functions", "dscribe_version")
    for own in together(rows, *about):
        row: Row = {name: own[0][name] for name in about} | {"repeats": len(own)}
        for name in (
            "cpu_seconds",
            "us_per_atom",
            "dscribe_cpu_seconds",
            "dscribe_us_per_atom",
            "times_faster",
        ):
            row[name] = median(own, name)
        table.append(row | {"largest_difference": worst(own, "largest_difference")})
    return table
