"""What labels are worth that `tio2nn select` chooses, against labels at random: errors on a part kept apart.

FILE names the structures of ARCHIVE that take part: its test part judges all fits and is no part of the pool. For each
seed, the first structures are drawn at random; then `select` adds others with the potential of the round before, or
they are drawn at random. Fits are on energies and forces, with the functions artrith-urban-2016, by `--members 2` and
the recipe, which takes as many steps for few labels as for many, and a twentieth of the labels validates, as always.
CPU time is that of choosing and fitting; features and derivatives of all structures are computed once before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not pay for matrices of a hundred rows
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from benchmarks.program import write_split
from benchmarks.record import Row

from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.parameters.presets import preset
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore, read_store
from tio2nn.structures.split import read_parts
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.featurize import featurize
from tio2nn.workflow.select import MEASURES, SelectSettings, select
from tio2nn.workflow.settings import training_parameters
from tio2nn.workflow.train import train

RANDOM = "random"
ERRORS = ("energy_mae_meV_per_atom", "energy_rmse_meV_per_atom", "force_mae_eV_per_A", "force_rmse_eV_per_A")
THIRD = 3  # the goal: the error of so many times as many labels at random


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", metavar="ARCHIVE")
    parser.add_argument("--split", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--labels", default="100,400,1200", metavar="LIST", help="in each round")
    parser.add_argument("--by", action="append", choices=[*MEASURES, RANDOM], help="may be given again")
    parser.add_argument("--epochs", type=int, metavar="N", help="of each fit; default: the recipe's")


class Study(NamedTuple):
    """What all fits have in common.

    Attributes:
        project: with features and derivatives of all structures.
        store: its structures.
        pool: names of those that may be chosen.
        judge: names of those kept apart.
        folder: for what is written in between.
        epochs: of each fit; None for those of its recipe.
    """

    project: Project
    store: StructureStore
    pool: list[str]
    judge: list[str]
    folder: Path
    epochs: int | None

    def fit(self, labels: Sequence[str]) -> Row:
        """The errors of a fit to structures, which is the potential of the project from then on."""
        split = self.folder / "split.csv"
        write_split({**dict.fromkeys(labels, "train"), **dict.fromkeys(self.judge, "test")}, split)
        settings = {"members": 2} if self.epochs is None else {"members": 2, "epochs": self.epochs}
        parameters = training_parameters(self.project, training=settings, forces=True)
        train(self.project, parameters, split=split)
        metrics = evaluate(self.project).metrics
        of = {"energy": "meV_per_atom", "force": "eV_per_A"}
        sections = {"energy": metrics["energy"], "force": metrics["forces"]}
        return {
            f"{what}_{error}_{unit}": sections[what][f"{error}_{unit}"]
            for what, unit in of.items()
            for error in ("mae", "rmse")
        }

    def more(self, labels: Sequence[str], count: int, by: str, random: np.random.Generator) -> list[str]:
        """So many structures, chosen by the potential of the project or at random, which are not among these."""
        left = sorted(set(self.pool) - set(labels))
        if by == RANDOM:
            return [left[k] for k in random.permutation(len(left))[:count]]
        # the project has labels of all structures, but these alone are to be known
        pool, known = self.folder / "pool.xyz", self.folder / "known.xyz"
        for file, names in ((pool, left), (known, labels)):
            with file.open("w", encoding="utf-8") as handle:
                handle.writelines(exact_extxyz(self.store[name], {}) for name in names)
        settings = SelectSettings(count, by, known=[known])  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory(dir=self.folder) as chosen:
            made = select(None, pool, chosen, settings, potential_file=self.project.potential_file)
        return [left[int(row["source"].rpartition("#")[2]) - 1] for row in made.rows]


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    rounds = [int(number) for number in arguments.labels.split(",")]
    measures = arguments.by or [RANDOM, "coverage", "distance", "both"]
    with tempfile.TemporaryDirectory() as name:
        study = prepared(arguments, Path(name))
        for seed in range(arguments.seeds):
            random = np.random.default_rng(seed)
            begin = time.process_time()
            first = study.more([], rounds[0], RANDOM, random)
            errors = study.fit(first)
            cpu = round(time.process_time() - begin, 1)
            # all choices that begin with this potential, before it is replaced
            added, spent = {}, {}
            for by in measures:
                begin = time.process_time()
                added[by] = study.more(first, rounds[1] - rounds[0], by, random)
                spent[by] = time.process_time() - begin
                yield {"by": by, "labels": rounds[0], "seed": seed, **errors, "cpu_seconds": cpu}
            for by in measures:
                yield from _rounds(study, rounds, seed, by, [*first, *added[by]], spent[by])


def _rounds(
    study: Study, rounds: Sequence[int], seed: int, by: str, labels: list[str], spent: float
) -> Iterator[Row]:
    """The rounds from the second on, the first choice of which is made."""
    random = np.random.default_rng([seed, 1])
    for k, n_labels in enumerate(rounds[1:], start=1):
        begin = time.process_time()
        if k > 1:
            labels = [*labels, *study.more(labels, n_labels - len(labels), by, random)]
        errors = study.fit(labels)
        spent += time.process_time() - begin
        yield {"by": by, "labels": len(labels), "seed": seed, **errors, "cpu_seconds": round(spent, 1)}
        spent = 0.0


def prepared(arguments: argparse.Namespace, folder: Path) -> Study:
    """A project with all structures that take part, their features and derivatives."""
    parts = read_parts(arguments.split)
    project = Project.create(folder / "project", preset("artrith-urban-2016", elements=("Ti", "O")))
    extract(project, arguments.archive)
    featurize(project)
    store = read_store(project.structures_file)
    judge = [name for name in store.names if parts.get(name) == "test"]
    pool = [name for name in store.names if parts.get(name) in ("train", "validation")]
    return Study(project, store, pool, judge, folder, arguments.epochs)


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Means over the seeds; beside each the errors of three times as many labels at random, where they are known."""
    seen = dict.fromkeys((row["by"], row["labels"]) for row in rows)
    means = {key: _means([row for row in rows if (row["by"], row["labels"]) == key]) for key in seen}
    return [
        {"by": by, "labels": labels, **found, **_against(found, means.get((RANDOM, THIRD * labels)))}
        for (by, labels), found in means.items()
    ]


def _means(rows: Sequence[Row]) -> Row:
    return {"seeds": len(rows), **{name: statistics.fmean(row[name] for row in rows) for name in ERRORS}}


def _against(found: Row, at_random: Row | None) -> Row:
    """Each error divided by that of three times as many labels at random."""
    return {f"ratio_{name}": None if at_random is None else found[name] / at_random[name] for name in ERRORS}
