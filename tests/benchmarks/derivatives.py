"""CPU time of the derivatives of the symmetry functions beside that of their values.

SOURCE is a structure file, a folder or an archive; FILE lists names of structures, one a line, to take of them. All run
in turn in this process; compilation and reading of files are not counted. Lists in this folder may serve: the first
500 lines of train-6028.txt are a fair sample of the TiO2 set. Other load on the processor makes the ratios worse.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time of one core, not of threads that wait

import numpy as np
from benchmarks.chosen_structures import add_choice, chosen
from benchmarks.record import Row
from benchmarks.statistics_of_rows import median, together
from numpy.typing import NDArray

from tio2nn.descriptors.batches import batches
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import preset
from tio2nn.structures.structure import Structure

Weights = list[NDArray[np.float64]]


def compute_values(calculator: SymmetryCalculator, structures: Sequence[Structure]) -> None:
    for _ in calculator.map(structures):
        pass


def compute_jacobians(calculator: SymmetryCalculator, structures: Sequence[Structure]) -> None:
    """In single precision, as `featurize --forces` writes them."""
    for structure in structures:
        calculator.jacobian(structure, np.float32)


def compute_gradients(
    calculator: SymmetryCalculator, structures: Sequence[Structure], weights: Weights
) -> None:
    """Values and gradient, as `predict --forces` needs them."""
    for batch, own in zip(batches(structures), weights, strict=True):
        calculator.describe(batch).gradient(own)


def cpu_seconds(compute: Callable[[], None]) -> float:
    begin = time.process_time()
    compute()
    return time.process_time() - begin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_choice(parser, repeats=5)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    structures = chosen(arguments.sources, arguments.names)
    parameters = preset(arguments.preset, sorted({e for s in structures for e in s.elements}, reverse=True))
    calculator = SymmetryCalculator(parameters)
    rng = np.random.default_rng(0)
    weights = [
        rng.normal(size=(sum(s.n_atoms for s in batch), parameters.n_features))
        for batch in batches(structures)
    ]
    # compiles
    calculator.jacobian(structures[0], np.float32)
    description = calculator.describe(structures[:1])
    description.gradient(np.ones_like(description.features))

    n_atoms = sum(s.n_atoms for s in structures)
    about: Row = {"structures": len(structures), "atoms": n_atoms, "functions": parameters.n_features}
    for repeat in range(arguments.repeats):
        values = cpu_seconds(lambda: compute_values(calculator, structures))
        jacobians = cpu_seconds(lambda: compute_jacobians(calculator, structures))
        gradients = cpu_seconds(lambda: compute_gradients(calculator, structures, weights))
        for computed, seconds in (
            ("values", values),
            ("values and Jacobian", values + jacobians),
            ("values and gradient", gradients),
        ):
            yield about | {
                "repeat": repeat,
                "computed": computed,
                "cpu_seconds": seconds,
                "us_per_atom": 1e6 * seconds / n_atoms,
                "times_values": seconds / values,
            }


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Medians of the repeats."""
    table = []
    about = ("structures", "atoms", "functions", "computed")
    for own in together(rows, *about):
        row: Row = {name: own[0][name] for name in about} | {"repeats": len(own)}
        table.append(
            row | {name: median(own, name) for name in ("cpu_seconds", "us_per_atom", "times_values")}
        )
    return table
