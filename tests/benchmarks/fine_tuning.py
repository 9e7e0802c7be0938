"""What `tio2nn train --from` makes of a few structures of a new family.

The family is Ti4O7 of the TiO2 set. A potential is trained without any of it; then `--added` structures are learnt

- from nothing: a fit to them alone;
- from the potential: `train --from`, on them alone;
- from the potential, with as many of its own training structures beside them;
- all at once: a fit from nothing to everything.

Each is judged on 300 other structures of the family, and on 300 others, which tell what is forgotten. All are drawn
with the seed from the structures that the command line names; none of them is in two parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.chosen_structures import chosen
from benchmarks.program import add_program, called, run
from benchmarks.record import Row

from tio2nn.io.xsf.file import write_xsf
from tio2nn.structures.structure import Structure

FAMILY = {"Ti": 4, "O": 7}
JUDGES = 300
VALIDATING = 0.05  # beside the training structures
FIT = "--forces --preset artrith-urban-2016"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--names", type=Path, metavar="FILE", help="of the structures to draw from")
    parser.add_argument("--known", type=int, default=600, metavar="N", help="structures of the potential")
    parser.add_argument("--added", type=int, default=100, metavar="N")
    parser.add_argument("--members", type=int, default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    add_program(parser)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    structures = chosen(arguments.sources, arguments.names)
    random = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        draw(here, "old", [s for s in structures if not is_of_family(s)], arguments.known, random)
        draw(here, "new", [s for s in structures if is_of_family(s)], arguments.added, random)
        old, new = sorted((here / "old").iterdir()), sorted((here / "new").iterdir())
        some = old[:: max(1, len(old) // len(new))][: len(new)]
        base = here / "before"
        origin = f"--from {base / 'model/potential.npz'} --forces"
        fits = {
            "before": (old, f"{FIT} --members {arguments.members}", base),
            "from nothing": (new, f"{FIT} --members {arguments.members}", here / "nothing"),
            "--from": (new, origin, here / "tuned"),
            "--from, with old ones": ([*new, *some], origin, here / "mixed"),
            "all at once": ([*new, *old], f"{FIT} --members {arguments.members}", here / "all"),
        }
        for name, (files, options, project) in fits.items():
            words = [*called(arguments.program), "run", *map(str, files), "-C", str(project)]
            write_split(files, here / "split.csv")
            cost, _ = run([*words, "--split", str(here / "split.csv"), *shlex.split(options)])
            for judges in ("new", "old"):
                _, output = run(
                    [
                        *called(arguments.program),
                        "evaluate",
                        "-C",
                        str(project),
                        str(here / f"{judges}-judges"),
                        "--json",
                    ]
                )
                found = json.loads(output)
                yield {
                    "fit": name,
                    "structures": len(files),
                    "judged_on": "Ti4O7" if judges == "new" else "others",
                    "energy_mae_meV_per_atom": found["energy"]["mae_meV_per_atom"],
                    "energy_rmse_meV_per_atom": found["energy"]["rmse_meV_per_atom"],
                    "force_mae_eV_per_A": found["forces"]["mae_eV_per_A"],
                    "force_rmse_eV_per_A": found["forces"]["rmse_eV_per_A"],
                    "cpu_seconds": round(cost.cpu, 1),
                }


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Both judgements of a fit in one row."""
    table = []
    for name in dict.fromkeys(row["fit"] for row in rows):
        by = {row["judged_on"]: row for row in rows if row["fit"] == name}
        row: Row = {key: next(iter(by.values()))[key] for key in ("fit", "structures", "cpu_seconds")}
        for judges, own in by.items():
            row |= {f"{judges}_{key}": value for key, value in own.items() if "_per_" in key}
        table.append(row)
    return table


def is_of_family(structure: Structure) -> bool:
    n = structure.composition
    return n.keys() == FAMILY.keys() and n["Ti"] * FAMILY["O"] == n["O"] * FAMILY["Ti"]


def draw(
    here: Path, name: str, structures: Sequence[Structure], number: int, random: np.random.Generator
) -> None:
    """Write so many structures, drawn at random, to a folder, and others, to judge, to one beside it."""
    if len(structures) < number + JUDGES:
        raise SystemExit(f"expected {number + JUDGES} structures to draw from, got {len(structures)}")
    order = random.permutation(len(structures))[: number + JUDGES].tolist()
    for folder, own in ((name, order[:number]), (f"{name}-judges", order[number:])):
        (here / folder).mkdir()
        for k in own:
            file = here / folder / f"{structures[k].name}.xsf"
            file.write_text(write_xsf(structures[k], decimals=8), encoding="utf-8")


def write_split(files: Sequence[Path], file: Path) -> None:
    """Every so many validates, all others train."""
    step = round(1 / VALIDATING)
    with file.open("w", encoding="utf-8", newline="") as handle:
        rows = [[path.stem, "train" if k % step else "validation"] for k, path in enumerate(files)]
        csv.writer(handle).writerows([["structure", "part"], *rows])
