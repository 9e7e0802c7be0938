"""Errors of what `tio2nn run` makes of a data set by default, on structures that it never saw.

    python tests/benchmarks/materials.py DATA [--by random|config|grouped|energy] [--divisions 5] [--seed 0]
        [--program "tio2nn"] [--options "..."] [--output FILE]

Each division keeps about a fifth of the structures for the test, at random or by whole groups of related structures.
With `config` each keeps one configuration type (`config_type` of extended XYZ), one after the other, those of more than
half of the structures left out: there are as many divisions as such types. With `energy` it trains on the half with the
lowest energies and tests on the tenth with the highest. A line of JSON for each division goes to FILE; the table to
stdout. Another program, `--program`, may be an earlier version in another environment: the divisions are the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import numpy as np

from tio2nn.io.read import read_structures
from tio2nn.structures.groups import find_groups
from tio2nn.structures.names import sorted_by_name
from tio2nn.structures.structure import Structure

TEST_FRACTION = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--by", choices=("random", "config", "grouped", "energy"), default="random")
    parser.add_argument("--divisions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", default="tio2nn")
    parser.add_argument("--options", default="")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    structures = sorted_by_name(
        s for s in read_structures(arguments.data, errors="yield") if isinstance(s, Structure)
    )
    found = []
    divisions = range(arguments.seed, arguments.seed + arguments.divisions)
    if arguments.by == "config":
        divisions = divisions[: max(0, len(kinds_to_leave_out(structures)) - arguments.seed)]
    for number in divisions:
        tested = tested_structures(structures, arguments.by, number)
        result = {
            "data": arguments.data,
            "by": arguments.by,
            "division": number,
            "program": arguments.program,
        }
        result |= errors(arguments.data, structures, tested, arguments.program, arguments.options)
        found.append(result)
        if arguments.output is not None:
            with arguments.output.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(result) + "\n")
        print(json.dumps(result), file=sys.stderr)
    for key in (
        "energy_mae_meV_per_atom",
        "energy_rmse_meV_per_atom",
        "force_mae_eV_per_A",
        "force_rmse_eV_per_A",
    ):
        if values := [result[key] for result in found if result[key] is not None]:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"{key}: mean {statistics.mean(values):.4g}, standard deviation {spread:.2g}, all {values}")


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
    data: Sequence[str], structures: Sequence[Structure], parts: dict[str, str], program: str, options: str
) -> dict[str, Any]:
    """Of a run that trains on some structures and is tested on others."""
    with tempfile.TemporaryDirectory() as directory:
        split, project = Path(directory) / "split.csv", Path(directory) / "project"
        with split.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([["structure", "part"], *parts.items()])
        words = [*shlex.split(program), "run", *data, "-C", str(project), "--split", str(split), "--json"]
        begin, used = time.perf_counter(), _cpu_seconds()
        done = subprocess.run([*words, *shlex.split(options)], check=True, capture_output=True, text=True)
        metrics = json.loads(done.stdout)
        residuals = list(csv.DictReader((project / "evaluation/residuals.csv").open(encoding="utf-8")))
    forces = metrics.get("forces") or {}
    return {
        "energy_mae_meV_per_atom": metrics["energy"]["mae_meV_per_atom"],
        "energy_rmse_meV_per_atom": metrics["energy"]["rmse_meV_per_atom"],
        "force_mae_eV_per_A": forces.get("mae_eV_per_A"),
        "force_rmse_eV_per_A": forces.get("rmse_eV_per_A"),
        "spread_meV_per_atom": (metrics.get("baseline") or {}).get("reference_rmse_meV_per_atom"),
        "by_config_type": _by_config_type(structures, residuals),
        "cpu_seconds": round(_cpu_seconds() - used, 1),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _by_config_type(structures: Sequence[Structure], residuals: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Number and energy MAE, meV/atom, of each configuration type in the test part."""
    kinds = {s.name: (_kind(s), s.n_atoms) for s in structures}
    found: dict[str, list[float]] = {}
    for row in residuals:
        kind, n_atoms = kinds[row["structure"]]
        residual = float(row["predicted_eV"]) - float(row["energy_eV"])
        found.setdefault(kind, []).append(1000.0 * abs(residual) / n_atoms)
    return {kind: [len(values), round(statistics.mean(values), 3)] for kind, values in sorted(found.items())}


def _cpu_seconds() -> float:
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
