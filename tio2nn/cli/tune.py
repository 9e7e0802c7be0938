"""tio2nn tune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    EpochsOption,
    ForcesOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    ProjectOption,
    RecipeOption,
    SchedulerOption,
    SplitFileOption,
    TlsOption,
    WaitOption,
)
from tio2nn.cli.pools import Pool, pool
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.data import TrainingData
    from tio2nn.tuning.trials import Trial


@command
def tune(
    project: ProjectOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    recipe: RecipeOption = None,
    forces: ForcesOption = None,
    split: SplitFileOption = None,
    strategy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--strategy", metavar="NAME", help="grid, random, bayesian or hyperband."),
    ] = None,
    max_trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--max-trials", min=1, metavar="N", help="Maximum number of trials."),
    ] = None,
    epochs: EpochsOption = None,
    structures: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--structures", min=2, metavar="N", help="Search with N structures drawn at random."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search for network size, learning rate and dropout; resumes an interrupted search."""
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.settings import training_parameters, with_flags

    found = Project.find(project)
    snapshot = Snapshot(found)
    parameters = training_parameters(snapshot, recipe, forces=forces)
    flags = {"strategy": strategy, "max_trials": max_trials, "epochs": epochs, "structures": structures}
    with found.locked("tune"), pool(jobs, scheduler, tls, insecure, wait) as workers:
        best = perform(snapshot, with_flags(parameters, "tuning", flags), workers, split)
    if json:
        console.print_json(best)


def perform(
    snapshot: Snapshot, parameters: ParameterSet, workers: Pool, split_file: Path | None
) -> dict[str, Any]:
    """Search, show the ranking and return the best trial."""
    from tio2nn.cli.plans import warn_of_split
    from tio2nn.parallel.workers import worker_count
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split_file)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.tune import tune

    jobs = worker_count(workers.jobs)

    def on_data(data: TrainingData) -> None:
        console.say(
            f"{parameters.tuning.strategy} search: each trial trains on {counted(len(data.train.counts), 'structure')}"
            f"{'' if data.train_forces is None else ', energies and forces,'} and validates on "
            f"{len(data.validation.counts)}; {counted(jobs, 'trial')} at a time"
        )
        warn_of_split(data.split)

    def on_trial(trial: Trial) -> None:
        console.say(f"trial {trial.describe()}")

    with console.compile_notice("the forces"):
        summary = tune(
            snapshot,
            parameters,
            jobs=jobs,
            make_executor=workers.trials(snapshot.project),
            split_file=split_file,
            on_data=on_data,
            on_trial=on_trial,
            command=sys.argv,
        )
    console.say(
        f"searched for {console.duration(summary.seconds)}; "
        f"{summary.n_known} of {counted(len(summary.ranked), 'trial')} from an earlier run"
    )
    columns = ["rank", "layers", "nodes", "learning rate", "dropout", "epochs", "RMSE meV/atom", "status"]
    rows = [
        [rank, t.layers, t.nodes, t.learning_rate, t.dropout, t.epochs, t.shown_rmse, t.status]
        for rank, t in enumerate(summary.ranked, start=1)
    ]
    if any(trial.validation_force_rmse_eV_per_A is not None for trial in summary.ranked):
        columns.insert(-1, "eV/Å")
        for row, trial in zip(rows, summary.ranked, strict=True):
            row.insert(-1, trial.shown_force_rmse)
    console.table(f"{counted(len(summary.ranked), 'trial')}, best first", columns, rows[: console.SHOWN])
    if len(rows) > console.SHOWN:
        console.say(f"... all trials are in {snapshot.project.trials_file}")
    console.say(
        f"wrote the best settings to {snapshot.project.best_trial_file}; "
        f"next: tio2nn train{snapshot.project.as_option()} --tuned"
    )
    return summary.best
