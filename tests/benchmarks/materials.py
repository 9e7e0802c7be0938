"""Errors of what `tio2nn run` makes of data sets by default, on structures that it never saw.

Each DATA is a data set. Each split holds out about a fifth of the structures for the test, at random or by whole groups
of related structures. With `--by config` each holds out one configuration type (`config_type` of extended XYZ), one
after the other, except those of more than half of the structures. With `--by energy` training has the half with the
lowest energies, the test set the tenth with the highest. Another program may be an earlier version in another
environment: the splits are the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.program import ERRORS, add_program, fit_errors, write_split
from benchmarks.record import Row
from benchmarks.statistics_of_rows import deviation, mean, together, worst

from tio2nn.io.read import read_structures
from tio2nn.structures.groups import find_groups
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

TEST_FRACTION = 0.2
HELD_OUT = {"random": "random fifth", "grouped": "fifth, whole groups", "energy": "tenth of highest energy"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--by", choices=("random", "config", "grouped", "energy"), default="random")
    parser.add_argument("--splits", type=int, default=5, metavar="N", help="of each data set; default: 5")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first split; default: 0")
    parser.add_argument("--types", nargs="+", metavar="TYPE", help="with --by config: no others")
    parser.add_argument("--options", default="", help="of tio2nn run, in one word")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    for data in arguments.data:
        structures = sorted_by_name(
            s for s in read_structures(data, errors="yield") if isinstance(s, Structure)
        )
        for split, held_out, parts in splits(structures, arguments):
            yield {
                "data": Path(data).name,
                "elements": " ".join(sorted({e for s in structures for e in s.elements})),
                "structures": len(structures),
                "held_out": held_out,
                "split": split,
                "options": arguments.options,
                **errors([data], structures, parts, arguments.program, arguments.options),
            }


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Over the splits of a data set: mean, standard deviation and the worst."""
    table = []
    about = ("data", "elements", "structures", "held_out", "options")
    for own in together(rows, *about):
        row: Row = {name: own[0][name] for name in about} | {"splits": len(own)}
        for name in ERRORS:
            row[name] = mean(own, name)
            row[f"{name}_deviation"] = deviation(own, name)
            row[f"{name}_worst"] = worst(own, name)
        table.append(row | {"cpu_seconds": mean(own, "cpu_seconds")})
    return table


def splits(
    structures: Sequence[Structure], arguments: argparse.Namespace
) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Number, what is held out, and the part of each structure."""
    numbers = range(arguments.seed, arguments.seed + arguments.splits)
    if arguments.by != "config":
        for number in numbers:
            yield number, HELD_OUT[arguments.by], tested_structures(structures, arguments.by, number)
        return
    kinds = kinds_to_leave_out(structures)
    for number in numbers[: max(0, len(kinds) - arguments.seed)]:
        if arguments.types is None or kinds[number] in arguments.types:
            yield number, kinds[number], tested_structures(structures, "config", number)


def kinds_to_leave_out(structures: Sequence[Structure]) -> list[str]:
    """Configuration types that leave at least half of the structures for training."""
    kinds = [_kind(structure) for structure in structures]
    return [kind for kind in sorted(set(kinds)) if 2 * kinds.count(kind) <= len(kinds)]


def tested_structures(structures: Sequence[Structure], by: str, number: int) -> dict[str, str]:
    """The part of each structure: `train`, `test`, or nothing."""
    n = len(structures)
    if by == "energy":
        order = np.argsort([(s.energy or 0.0) / s.n_atoms for s in structures])
        low, high = order[: n // 2].tolist(), order[-(n // 10) :].tolist()
        return {structures[k].name: "train" for k in low} | {structures[k].name: "test" for k in high}
    if by == "config":
        left_out = kinds_to_leave_out(structures)[number]
        return {s.name: "test" if _kind(s) == left_out else "train" for s in structures}
    random = np.random.default_rng([number, 0xD1])
    groups = [str(k) for k in (range(n) if by == "random" else find_groups(structures).group)]
    wanted, chosen = round(TEST_FRACTION * n), set[str]()
    for group in random.permutation(sorted(set(groups))).tolist():
        # a group larger than what is still wanted trains
        if groups.count(group) <= wanted:
            chosen.add(group)
            wanted -= groups.count(group)
    parts = ["test" if group in chosen else "train" for group in groups]
    return {structure.name: part for structure, part in zip(structures, parts, strict=True)}


def _kind(structure: Structure) -> str:
    return str(structure.extras.info.get("config_type", ""))


def errors(
    data: Sequence[str | Path],
    structures: Sequence[Structure],
    parts: dict[str, str],
    program: str | None,
    options: str,
) -> Row:
    """Of a run that trains on some structures and is tested on others."""
    with tempfile.TemporaryDirectory() as directory:
        split = Path(directory) / "split.csv"
        write_split(parts, split)
        found = fit_errors(data, split, program, options)
    return found | {"by_config_type": _by_config_type(structures, found.pop("residuals"))}


def _by_config_type(structures: Sequence[Structure], residuals: Sequence[dict[str, str]]) -> Row:
    """Number and energy MAE, meV/atom, of each configuration type in the test set."""
    kinds = {s.name: (_kind(s), s.n_atoms) for s in structures}
    found: dict[str, list[float]] = {}
    for row in residuals:
        kind, n_atoms = kinds[row["structure"]]
        residual = float(row["predicted_eV"]) - float(row["energy_eV"])
        found.setdefault(kind, []).append(1000.0 * abs(residual) / n_atoms)
    return {kind: [len(values), round(statistics.mean(values), 3)] for kind, values in sorted(found.items())}
