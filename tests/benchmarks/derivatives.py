"""CPU time of the derivatives of the symmetry functions beside that of their values.

    python tests/benchmarks/derivatives.py SOURCE... [--names FILE] [--repeats N]

SOURCE is a structure file, a folder or an archive; FILE lists names of structures, one a line, to take of them. All run
in turn in this process; compilation and reading of files are not counted. Lists in this folder may serve: the first
500 lines of train-6028.txt are a fair sample of the TiO2 set. Other load on the processor makes the ratios worse.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time of one core, not of threads that wait

import numpy as np
from chosen_structures import chosen
from numpy.typing import NDArray

from tio2nn.descriptors.batches import batches
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.parameters.presets import PRESETS, preset
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--names", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--preset", default="artrith-urban-2016", choices=[*PRESETS])
    arguments = parser.parse_args()

    structures = chosen(arguments.sources, arguments.names)
    if not structures:
        parser.error("expected structures, got none")
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

    times: dict[str, list[float]] = {"values": [], "values + Jacobian": [], "values + gradient": []}
    for _ in range(arguments.repeats):
        values = cpu_seconds(lambda: compute_values(calculator, structures))
        jacobians = cpu_seconds(lambda: compute_jacobians(calculator, structures))
        gradients = cpu_seconds(lambda: compute_gradients(calculator, structures, weights))
        for name, seconds in zip(times, (values, values + jacobians, gradients), strict=True):
            times[name].append(seconds)

    n_atoms = sum(s.n_atoms for s in structures)
    print(f"{len(structures)} structures, {n_atoms} atoms, {parameters.n_features} functions")
    for name, seconds_of in times.items():
        middle = statistics.median(seconds_of)
        ratio = statistics.median(a / b for a, b in zip(seconds_of, times["values"], strict=True))
        each = " ".join(f"{seconds:.2f}" for seconds in seconds_of)
        print(
            f"{name:18} {middle:7.3f} s CPU, {1e6 * middle / n_atoms:6.1f} µs an atom, "
            f"{ratio:5.2f} × the values  (runs: {each})"
        )


if __name__ == "__main__":
    main()
