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
    PartOption,
    ProjectOption,
    RecipeOption,
    SchedulerOption,
    SplitFileOption,
    TlsOption,
    WaitOption,
)
from tio2nn.cli.pools import Pool, pool, refuse_both
from tio2nn.cli.stress_options import StressOption
from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart
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
    stress: StressOption = None,
    split: SplitFileOption = None,
    strategy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--strategy", metavar="NAME", help="grid, random, bayesian or hyperband."),
    ] = None,
    max_trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--max-trials", min=1, metavar="N", help="Maximum number of trials."),
    ] = None,
    patience: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--patience",
            min=1,
            metavar="N",
            help="Stop after N trials in a row without an improvement. Default: 30; a grid is searched in full.",
            show_default=False,
        ),
    ] = None,
    epochs: EpochsOption = None,
    structures: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--structures", min=2, metavar="N", help="Search with N structures drawn at random."),
    ] = None,
    part: PartOption = None,
    json: JsonOption = False,
) -> None:
    """Search for the best settings; resumes a search.

    Varies network size, learning rate and dropout; `tuning` in params.json says among which values and how.
    """
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.settings import training_parameters, with_flags

    own = None if part is None else JobPart.parse(part)
    if own is not None and json:
        raise UsageError(
            "--part cannot be combined with --json; the command without --part prints the result"
        )
    refuse_both(part, scheduler)
    found = Project.find(project)
    snapshot = Snapshot(found)
    parameters = training_parameters(snapshot, recipe, forces=forces, stress=stress)
    flags = {
        "strategy": strategy,
        "max_trials": max_trials,
        "patience": patience,
        "epochs": epochs,
        "structures": structures,
    }
    parameters = with_flags(parameters, "tuning", flags)
    if own is not None:
        with pool(jobs, scheduler, tls, insecure, wait) as workers:
            perform_part(snapshot, own, parameters, workers.jobs, split)
        return
    with found.locked("tune"), pool(jobs, scheduler, tls, insecure, wait) as workers:
        best = perform(snapshot, parameters, workers, split)
    if json:
        console.print_json(best)


def perform(
    snapshot: Snapshot, parameters: ParameterSet, workers: Pool, split_file: Path | None
) -> dict[str, Any]:
    """Search, show the ranking and return the best trial."""
    from tio2nn.parallel.workers import worker_count

    _start(snapshot, parameters, split_file)
    from tio2nn.workflow.tune import tune

    jobs = worker_count(workers.jobs)

    def on_data(data: TrainingData, undone: str) -> None:
        if undone:
            console.warn(f"{undone}; running here what is missing")
        _say_data(parameters, data, jobs)

    with console.compile_notice("the loops of the fit"):
        summary = tune(
            snapshot,
            parameters,
            jobs=jobs,
            make_executor=workers.trials(snapshot.project),
            split_file=split_file,
            on_data=on_data,
            on_trial=_say_trial,
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
    # "-" stands for an error that a trial does not have, for example of one that diverged
    for unit, cells in (
        ("eV/Å", [trial.shown_force_rmse for trial in summary.ranked]),
        ("meV/Å³", [trial.shown_stress_rmse for trial in summary.ranked]),
    ):
        if set(cells) != {"-"}:
            columns.insert(-1, unit)
            for row, cell in zip(rows, cells, strict=True):
                row.insert(-1, cell)
    console.table(f"{counted(len(summary.ranked), 'trial')}, best first", columns, rows[: console.SHOWN])
    if len(rows) > console.SHOWN:
        console.say(f"... all trials are in {snapshot.project.trials_file}")
    console.say(
        f"wrote the best settings to {snapshot.project.best_trial_file}; "
        f"next: tio2nn train{snapshot.project.as_option()} --tuned"
    )
    return summary.best


def perform_part(
    snapshot: Snapshot, part: JobPart, parameters: ParameterSet, jobs: int | None, split_file: Path | None
) -> None:
    """Run the trials of one part of a search, and say what comes after all parts."""
    from tio2nn.parallel.workers import trial_workers, worker_count

    _start(snapshot, parameters, split_file)
    from tio2nn.workflow.tune import tune_part

    jobs = worker_count(jobs)

    def on_data(data: TrainingData, others: str) -> None:
        if others:
            console.warn(f"{others} searched with other settings or data, or over another space")
        _say_data(parameters, data, jobs)

    with console.compile_notice("the loops of the fit"):
        summary = tune_part(
            snapshot,
            part,
            parameters,
            jobs=jobs,
            make_executor=trial_workers,
            split_file=split_file,
            on_data=on_data,
            on_trial=_say_trial,
        )
    console.say(
        f"part {part.number} of {part.total} is done, {counted(summary.n_run, 'trial')} in "
        f'{console.duration(summary.seconds)}; after all of them run "{snapshot.project.command("tune")}" '
        "with the same options"
    )


def _start(snapshot: Snapshot, parameters: ParameterSet, split_file: Path | None) -> None:
    """Load TensorFlow, once there is something to train on."""
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split_file)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        import tio2nn.workflow.tune  # noqa: F401


def _labels(data: TrainingData) -> str:
    """What the trials of a search learn beside energies."""
    forces, stress = data.train_forces is not None, data.train_stress is not None
    return {
        (False, False): "",
        (True, False): ", energies and forces,",
        (False, True): ", energies and stresses,",
        (True, True): ", energies, forces and stresses,",
    }[forces, stress]


def _say_data(parameters: ParameterSet, data: TrainingData, jobs: int) -> None:
    from tio2nn.cli.plans import warn_of_split, windows_line

    console.say(
        f"{parameters.tuning.strategy} search: each trial trains on {counted(len(data.train.counts), 'structure')}"
        f"{_labels(data)} and validates on "
        f"{len(data.validation.counts)}; {counted(jobs, 'trial')} at a time"
    )
    if data.window is not None:
        console.say(windows_line(data, data.window))
    warn_of_split(data.split)


def _say_trial(trial: Trial) -> None:
    console.say(f"trial {trial.describe()}")
