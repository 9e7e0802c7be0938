"""Searches over a small grid, whose trials run in this process or have invented outcomes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from projects import PARAMETERS, small_project

from tio2nn.project.project import Project
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import Outcome
from tio2nn.workflow.tune import PartSummary, TuneSummary, tune, tune_part

GRID: dict[str, Any] = {
    "layers": [1, 2],
    "nodes": [3, 4],
    "learning_rate": [0.01],
    "dropout": [0.0],
    "epochs": 2,
    "batch_size": 20,
}
# 36 settings
SPACE: dict[str, Any] = {"layers": [1, 2, 3], "nodes": [2, 3, 4, 5], "learning_rate": [0.1, 0.01, 0.001]}
GUIDED: dict[str, dict[str, Any]] = {
    "bayesian": {"strategy": "bayesian", "max_trials": 15, **SPACE},
    "hyperband": {"strategy": "hyperband", "epochs": 4, **SPACE},
}


class Here(Executor):
    """Runs trials at once, in this process.

    Attributes:
        tasks: what was run.
    """

    def __init__(self, run: Callable[[TrialTask], Outcome] = run_trial) -> None:
        self.tasks: list[TrialTask] = []
        self._run = run

    def submit(self, _function: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tasks.append(args[0])
        try:
            future.set_result(self._run(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


def project_to_search(root: Path) -> Path:
    """The directory of 24 structures with features, and a grid of our own."""
    return small_project(root, PARAMETERS.with_overrides(tuning=GRID)).root


def copied(root: Path, to: Path) -> Project:
    """The same project once more, to be changed."""
    return Project(Path(shutil.copytree(root, to)))


def invented(task: TrialTask) -> Outcome:
    """An outcome without a fit: the larger the network, and the nearer the learning rate to 0.01, the better."""
    layers, rate = task.network.hidden_layers, task.training.learning_rate
    rmse = 100.0 / sum(layers) + abs(rate - 0.01) / task.training.epochs
    return Outcome(
        status="completed",
        validation_rmse_meV_per_atom=rmse,
        validation_mae_meV_per_atom=0.8 * rmse,
        best_epoch=task.training.epochs,
        n_parameters=sum(layers),
        seconds=1.0,
    )


def search(
    project: Project, run: Callable[[TrialTask], Outcome] = invented, jobs: int = 1, **changes: Any
) -> tuple[TuneSummary, list[TrialTask]]:
    """A search over `GRID` with changes, and the trials that it computed."""
    here = Here(run)
    parameters = PARAMETERS.with_overrides(tuning={**GRID, **changes})
    return tune(project, parameters, jobs=jobs, make_executor=lambda _: here), here.tasks


def table(path: Path, *without: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [{name: cell for name, cell in row.items() if name not in without} for row in rows]


class Killed(BaseException):
    """The end of a worker in the middle of a trial."""


def search_part(
    project: Project,
    part: tuple[int, int],
    run: Callable[[TrialTask], Outcome] = invented,
    jobs: int = 1,
    **changes: Any,
) -> tuple[PartSummary, list[TrialTask]]:
    """One part of a search over `GRID` with changes, and the trials that it computed."""
    here = Here(run)
    parameters = PARAMETERS.with_overrides(tuning={**GRID, **changes})
    return tune_part(project, part, parameters, jobs=jobs, make_executor=lambda _: here), here.tasks


def killed_at(n: int) -> Callable[[TrialTask], Outcome]:
    """Runs `n` trials, and is killed in the next."""
    count = iter(range(n))

    def run(task: TrialTask) -> Outcome:
        if next(count, None) is None:
            raise Killed
        return invented(task)

    return run
