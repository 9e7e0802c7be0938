"""Time of an epoch of `tio2nn train --rank`, by several processes of one thread each, and what it is spent on.

PROJECT has features, and derivatives for forces; it is prepared and trained again. Epochs after the first count, which
traces the graph. `waiting` is what a rank spends in sending, receiving and waiting for others; `sums` is what the sums
of an epoch take between processes that do nothing else. Where fewer cores are free than there are ranks, wall times say
little; `free_cores` is then the time that the ranks would take on cores of their own: the CPU time of the slowest one,
and the sums.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.program import called, run
from benchmarks.record import Row

from tio2nn.project.project import Project

SUMS = 200

_RANK = """
import json
import sys
import time

import numpy as np

from tio2nn.workflow import ranks

project, number, total, n_sums = sys.argv[1], *map(int, sys.argv[2:])
about, epochs, connections = {}, [], []
fit = ranks.run_in_company


def fit_and_time_sums(fits, *arguments, exchange):
    fit(fits, *arguments, exchange=exchange)
    numbers = np.ones(sum(own.state.shape[1] for own in fits), np.float32)
    exchange.sum(numbers)
    begin = time.perf_counter()
    for _ in range(n_sums):
        exchange.sum(numbers)
    of_a_sum = (time.perf_counter() - begin) / n_sums
    about.update(numbers=len(numbers), batches=fits[0].n_batches, sums=fits[0].n_batches * of_a_sum)


def on_epoch(member, epoch):
    epochs.append(
        {
            "epoch": epoch.epoch,
            "loss": epoch.loss,
            "seconds": time.perf_counter(),
            "cpu": time.process_time(),
            "waiting": connections[0].seconds,
        }
    )


ranks.run_in_company = fit_and_time_sums
ranks.fit_rank(project, (number, total), listener=ranks.RankListener(None, connections.append, on_epoch))
print(json.dumps({**about, "epochs": epochs}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT", type=Path)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], metavar="N", help="(default: 1 2)")
    parser.add_argument("--epochs", type=int, default=6, metavar="N", help="(default: 6)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument(
        "--options", default="--recipe forces --forces --members 1", help="of --prepare, in one word"
    )


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """One row for each number of ranks and rank in each repeat."""
    options = [*shlex.split(arguments.options), "--epochs", str(arguments.epochs)]
    project = Project(arguments.project)
    run([*called(None), "train", "-C", str(project.root), "--prepare", *options])
    for repeat in range(arguments.repeats):
        for n in arguments.ranks:
            for checkpoint in project.model_directory.glob("checkpoint-*.npz"):
                checkpoint.unlink()
            for number, found in enumerate(_fitted(project, n), start=1):
                # epochs of all members end together
                first, last = found["epochs"][0], found["epochs"][-1]
                epochs = last["epoch"] - first["epoch"]
                yield {
                    "ranks": n,
                    "rank": number,
                    "repeat": repeat,
                    "seconds": round((last["seconds"] - first["seconds"]) / epochs, 3),
                    "cpu_seconds": round((last["cpu"] - first["cpu"]) / epochs, 3),
                    "waiting": round((last["waiting"] - first["waiting"]) / epochs, 3),
                    "sums": round(found["sums"], 4),
                    "batches": found["batches"],
                    "numbers": found["numbers"],
                    "first_loss": first["loss"],
                    "last_loss": last["loss"],
                }


def _fitted(project: Project, n: int) -> list[Row]:
    """What each of n ranks says of a fit."""
    threads = {"TIO2NN_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(project.root), str(number), str(n), str(SUMS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | threads,
        )
        for number in range(1, n + 1)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a rank of {n} ended with an error")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Medians of the repeats, of the slowest rank of each, and how much faster they are than the fewest ranks."""
    table: list[Row] = []
    for n in sorted({row["ranks"] for row in rows}):
        own = [row for row in rows if row["ranks"] == n]
        repeats = sorted({row["repeat"] for row in own})

        def median_of_slowest(name: str, own: list[Row] = own, repeats: list[int] = repeats) -> float:
            return float(
                statistics.median(max(row[name] for row in own if row["repeat"] == k) for k in repeats)
            )

        found: Row = {"ranks": n, "batches": own[0]["batches"], "numbers": own[0]["numbers"]}
        found |= {name: median_of_slowest(name) for name in ("seconds", "cpu_seconds", "waiting", "sums")}
        found["free_cores"] = round(found["cpu_seconds"] + (found["sums"] if n > 1 else 0.0), 3)
        fewest = table[0] if table else found
        for name in ("seconds", "free_cores"):
            found[f"{name}_speedup"] = round(fewest[name] / found[name], 2)
        table.append(found)
    return table
