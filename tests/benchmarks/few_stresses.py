"""What training on the stress costs energies and forces where structures are few: pairs of fits, with and without.

Each set of alloys holds cells of eight displaced atoms (`alloys`), all of the same volume; each training set has others
of them, and 200 more judge all. Of a data set, each split keeps a fifth apart, at random or by whole groups of related
structures, and trains on so many of the others, or on all. Exchanged stresses are put back as in `stress`.

The summary has ratios of errors, with the stress over without: their geometric means over the splits, and the largest
of energies.
"""

from __future__ import annotations

import argparse
import math
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.io import write
from benchmarks.alloys import ELEMENTS, alloys
from benchmarks.materials import tested_structures
from benchmarks.program import add_program, write_split
from benchmarks.record import Row
from benchmarks.statistics_of_rows import together
from benchmarks.stress import ARMS, errors, fitted, put_back

from tio2nn.io.read import read_structures
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

_JUDGES = 200
RATIOS = (
    "energy_mae_meV_per_atom",
    "energy_rmse_meV_per_atom",
    "force_rmse_eV_per_A",
    "stress_rmse_meV_per_A3",
)


class _Set(NamedTuple):
    """One training set, the options that choose it from its file, and what judges it."""

    name: str
    split: int
    n_structures: int
    file: Path
    options: tuple[str, ...]
    judges: list[Structure]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="*", metavar="DATA", help="extended XYZ with stresses")
    parser.add_argument("--kinds", type=int, nargs="*", choices=sorted(ELEMENTS), default=[])
    parser.add_argument(
        "--structures", type=int, metavar="N", help="in training; default: 60 of alloys, all of DATA"
    )
    parser.add_argument("--by", choices=("random", "grouped"), default="random")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--options", default="", help="of tio2nn run, in one word")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        for own in _sets(arguments, Path(directory)):
            for arm, option in ARMS.items():
                options = [*own.options, *shlex.split(f"{arguments.options} {option}")]
                potential, cost = fitted(own.file, options, arguments.program)
                about: Row = {"data": own.name, "structures": own.n_structures, "held_out": arguments.by}
                about |= {"options": arguments.options, "split": own.split, "fit": arm}
                yield about | errors(potential, own.judges) | {"cpu_seconds": cost}


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Ratios over the splits of each set."""
    table = []
    about = ("data", "structures", "held_out", "options")
    for own in together(rows, *about):
        pairs = [pair for pair in together(own, "split") if len(pair) == len(ARMS)]
        if not pairs:  # rows come one by one
            continue
        row: Row = {name: own[0][name] for name in about} | {"splits": len(pairs)}
        for name in RATIOS:
            ratios = [_ratio(pair, name) for pair in pairs]
            row[f"{name}_ratio"] = round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 3)
        row["energy_rmse_meV_per_atom_ratio_worst"] = round(max(_ratio(pair, RATIOS[1]) for pair in pairs), 3)
        table.append(row)
    return table


def _ratio(pair: Sequence[Row], name: str) -> float:
    of_fit = {row["fit"]: float(row[name]) for row in pair}
    with_stress, without = (of_fit[arm] for arm in ARMS)
    return with_stress / without


def _sets(arguments: argparse.Namespace, directory: Path) -> Iterator[_Set]:
    for kinds in arguments.kinds:
        n = arguments.structures or 60
        made = alloys(kinds, n * arguments.splits + _JUDGES, stress=True)
        for split in range(arguments.splits):
            name = f"alloys of {kinds}"
            train, apart = (directory / f"{kinds}-{split}-{part}.xyz" for part in ("train", "apart"))
            write(train, made[split * n : (split + 1) * n], format="extxyz")
            write(apart, made[-_JUDGES:], format="extxyz")
            yield _Set(name, split, n, train, ("--no-test",), _read(apart))
    for data in arguments.data:
        file = put_back(Path(data), directory)
        structures = _read(file)
        for split in range(arguments.splits):
            parts = tested_structures(structures, arguments.by, split)
            names = [name for name, part in parts.items() if part == "train"]
            if arguments.structures is not None:
                names = np.random.default_rng(split).permutation(names)[: arguments.structures].tolist()
            judges = [s for s in structures if parts[s.name] == "test"]
            listed = directory / "split.csv"
            write_split({s.name: "test" for s in judges} | dict.fromkeys(names, "train"), listed)
            yield _Set(file.name, split, len(names), file, ("--split", str(listed)), judges)


def _read(file: Path) -> list[Structure]:
    return sorted_by_name(s for s in read_structures(file) if isinstance(s, Structure))
