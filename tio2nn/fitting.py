"""The steps that fit a network, and what people see of them: settings, search, training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn import console
from tio2nn.errors import MissingInputError, ParameterError, UsageError
from tio2nn.parameters import ParameterSet
from tio2nn.project import Project
from tio2nn.stages import SHOWN, available_cores

if TYPE_CHECKING:
    from tio2nn.nn.history import Epoch
    from tio2nn.split import Split
    from tio2nn.training_data import TrainingData
    from tio2nn.trials import Trial

# each fit leaves some 20 MB behind in its process; a new process costs 5 s, as much as a trial
_FITS_PER_WORKER = 12


def preset_parameters(preset: str | None, elements: Sequence[str] | None) -> ParameterSet:
    """The parameter set that --preset and --elements name.

    Raises:
        UsageError: no such preset, or no chemical symbols.
    """
    from tio2nn import presets

    name = presets.DEFAULT_PRESET if preset is None else preset
    try:
        return presets.preset(name, presets.DEFAULT_ELEMENTS if elements is None else elements)
    except ParameterError as error:
        raise UsageError(str(error)) from None


def training_parameters(
    project: Project,
    recipe: str | None = None,
    tuned: bool = False,
    training: dict[str, Any] | None = None,
    forces: bool = False,
) -> ParameterSet:
    """`params.json`, changed by recipe, tuning and flags; the later, the stronger.

    With `forces`, and neither a recipe nor settings of the user's own for a training on forces, by the recipe of
    that name.
    """
    parameters = project.parameters()
    if forces:
        if recipe is None and not parameters.training.forces:
            recipe = "forces"
        training = {**(training or {}), "forces": True}
    if recipe is not None:
        from tio2nn.presets import apply_recipe

        parameters = apply_recipe(parameters, recipe)
    if tuned:
        from tio2nn.status import STALE, status
        from tio2nn.trials import read_best

        for part in status(project).parts:
            if (part.name, part.state) == ("tuning", STALE):
                console.warn(
                    f'settings of an earlier search are used: {part.what} than today; see "tio2nn tune"'
                )
        parameters = parameters.with_overrides(**read_best(project.require(project.best_trial_file)))
    return with_flags(parameters, "training", training or {})


def with_flags(parameters: ParameterSet, section: str, flags: Mapping[str, Any]) -> ParameterSet:
    """The parameters with a section's fields as the command line gives them; None for what it does not.

    Raises:
        UsageError: a value that the field does not take.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return parameters.with_overrides(**{section: given})
    except ParameterError as error:
        raise UsageError(str(error)) from None


def _require_features(project: Project, *, forces: bool = False) -> None:
    """Say what is missing before TensorFlow takes its seconds to start."""
    project.require(project.structures_file)
    project.require(project.features_manifest)
    if forces and not project.jacobian_table.exists():
        command = f"tio2nn featurize{project.as_option()} --forces"
        raise MissingInputError(f'no derivatives in {project.features_directory}; run "{command}" first')


def worker_processes(workers: int, fits_per_worker: int = _FITS_PER_WORKER) -> Executor:
    """Worker processes for fits: replaced after so many, and one of them may die."""
    from tio2nn.workers import WorkerProcesses

    return WorkerProcesses(workers, fits_per_worker)


def member_processes(workers: int) -> Executor:
    """Worker processes for the members of a committee, each a new one: a fit's data stay in its process to the end."""
    return worker_processes(workers, fits_per_worker=1)


def tune(
    project: Project, parameters: ParameterSet, jobs: int | None, split_file: Path | None
) -> dict[str, Any]:
    """Search, show the ranking, and return the best trial."""
    _require_features(project)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.tune import tune

    jobs = jobs or available_cores()

    def on_data(data: TrainingData) -> None:
        console.say(
            f"{parameters.tuning.strategy} search: each trial trains on {len(data.train.counts)} structures and is "
            f"judged by {len(data.validation.counts)} others, {jobs} at a time"
        )
        _warn_of(data.split)

    def on_trial(trial: Trial) -> None:
        console.say(f"trial {trial.describe()}")

    summary = tune(
        project,
        parameters,
        jobs=jobs,
        make_executor=worker_processes,
        split_file=split_file,
        on_data=on_data,
        on_trial=on_trial,
        command=sys.argv,
    )
    console.say(
        f"searched for {console.duration(summary.seconds)}; {summary.n_known} of {len(summary.ranked)} trials were "
        "known from before"
    )
    columns = ["rank", "layers", "nodes", "learning rate", "dropout", "epochs", "RMSE meV/atom", "status"]
    rows = [
        [rank, t.layers, t.nodes, t.learning_rate, t.dropout, t.epochs, t.shown_score, t.status]
        for rank, t in enumerate(summary.ranked, start=1)
    ]
    console.table(f"{len(summary.ranked)} trials, best first", columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        console.say(f"... all of them in {project.trials_file}")
    console.say(
        f"best settings in {project.best_trial_file}; next: tio2nn train{project.as_option()} --tuned"
    )
    return summary.best


def train(
    project: Project,
    parameters: ParameterSet,
    split_file: Path | None = None,
    new_split: bool = False,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Fit the potential and show how it went; return what `model/metrics.json` holds."""
    from tio2nn.io.tables import read_json

    _require_features(project, forces=parameters.training.forces)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.train import train

    epochs = parameters.training.epochs
    begun: set[int] = set()

    def on_data(data: TrainingData) -> None:
        console.say(
            f"training on {len(data.train.counts)} structures, validating on {len(data.validation.counts)}, "
            f"{len(data.split.indices('test'))} kept for the test; "
            + (
                ""
                if data.train_forces is None
                else f"{int(data.train_forces.has_forces.sum())} of those trained on have forces; "
            )
            + "reference energies "
            + ", ".join(f"{element} {value:.6f} eV" for element, value in data.reference.as_dict().items())
        )
        _warn_of(data.split)
        if data.selection is not None:
            console.warn(
                "structures whose derivatives were left out are trained on by their energies alone: those of all would "
                f"not fit into {data.selection.reason}"
            )
        if data.reference.underdetermined:
            console.warn(
                "the compositions do not determine the reference energies: energies of other compositions "
                "will be off"
            )
        for subnet, functions in data.constant_features.items():
            console.warn(
                f"{len(functions)} symmetry functions do not vary in the training part for {subnet} and are "
                f"ignored: {'; '.join(functions[:3])}{' ...' if len(functions) > 3 else ''}"
            )

    with console.epochs(epochs) as show:

        def on_epoch(member: int, epoch: Epoch) -> None:
            if member not in begun and epoch.epoch > 1:
                console.say(f"network {member} goes on from epoch {epoch.epoch - 1}, where it was")
            begun.add(member)
            show(member, epoch.epoch, _errors(epoch))

        summary = train(
            project,
            parameters,
            split_file=split_file,
            new_split=new_split,
            jobs=jobs or available_cores(),
            make_executor=member_processes,
            command=sys.argv,
            on_data=on_data,
            on_epoch=on_epoch,
        )
    forces = ""
    if summary.validation_force_rmse is not None:
        forces = f", forces RMSE {summary.validation_force_rmse:.4f} eV/Å"
    console.say(
        f"trained {summary.members} network{'s' if summary.members > 1 else ''} in "
        f"{console.duration(summary.seconds)}; validation RMSE {summary.validation_rmse:.2f}, "
        f"MAE {summary.validation_mae:.2f} meV/atom{forces}; {summary.potential}"
    )
    metrics: dict[str, Any] = read_json(project.training_metrics_file)
    return metrics


def _warn_of(split: Split) -> None:
    if unknown := split.unknown:
        console.warn(
            f"{len(unknown)} names of the given split are of no extracted structure, such as {unknown[0]!r}"
        )
    if split.replaces_another:
        console.warn(
            "split.csv was one of other structures and is drawn anew: what was tested before may be trained on now; "
            "the earlier one is split-earlier.csv"
        )


def _errors(epoch: Epoch) -> str:
    """RMSE of both parts, energies and forces."""
    shown = (
        f"RMSE training {epoch.train_rmse_meV_per_atom:.2f}, validation "
        f"{epoch.validation_rmse_meV_per_atom:.2f} meV/atom"
    )
    forces = (epoch.train_force_rmse_eV_per_A, epoch.validation_force_rmse_eV_per_A)
    if forces == (None, None):
        return shown
    return f"{shown}; {', '.join('unknown' if rmse is None else f'{rmse:.3f}' for rmse in forces)} eV/Å"
