"""The steps that fit a network, and what people see of them: settings, search, training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console
from tio2nn.cli.plans import constant_line, cost_line, labels_line, without_derivatives_line
from tio2nn.cli.results import show_comparison
from tio2nn.cli.stages import SHOWN, available_cores
from tio2nn.errors import MissingInputError, ParameterError, UsageError
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.project import Project
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.structures.split import Split
    from tio2nn.training.data import TrainingData
    from tio2nn.training.history import Epoch
    from tio2nn.tuning.trials import Trial

SHOWN_NAMES = 3  # of gross outliers
# each fit leaves some 20 MB behind in its process; a new process costs 5 s, as much as a trial
_FITS_PER_WORKER = 12


def preset_parameters(preset: str | None, elements: Sequence[str] | None) -> ParameterSet | Draft:
    """What --preset and --elements name: a parameter set, or a draft of one for the preset auto, the default.

    Raises:
        UsageError: no such preset, or no chemical symbols.
    """
    from tio2nn.parameters import presets

    name = presets.known(
        presets.AUTO if preset is None else preset, (presets.AUTO, *presets.PRESETS), "preset"
    )
    try:
        if name == presets.AUTO:
            return Draft.new(elements)
        return presets.preset(name, presets.DEFAULT_ELEMENTS if elements is None else elements)
    except ParameterError as error:
        raise UsageError(str(error)) from None


def init(directory: Path, preset: str | None, elements: Sequence[str] | None) -> None:
    """Make a project, and say whether its `params.json` is complete."""
    parameters = preset_parameters(preset, elements)
    project = Project.create(directory, parameters)
    rest = ""
    if isinstance(parameters, Draft):
        rest = f'; "tio2nn extract{project.as_option()} SOURCE..." chooses the symmetry functions for the structures'
    console.say(f"made {project.parameters_file}{rest}")


def training_parameters(
    project: Project,
    recipe: str | None = None,
    tuned: bool = False,
    training: dict[str, Any] | None = None,
    forces: bool | None = None,
) -> ParameterSet:
    """`params.json`, changed by tuning and flags, the rest left to its recipe or to another one.

    A set that names no recipe and leaves forces out is fitted to them, if they are asked for and no recipe is, by the
    recipe of that name.

    Args:
        project: whose parameters.
        recipe: another than that of the parameters.
        tuned: take the best trial of the search.
        training: settings of the training, None for those that are not given.
        forces: insist on forces, or leave them out; None for neither.
    """
    from tio2nn.parameters.recipes import with_recipe

    parameters = project.parameters()
    if forces and recipe is None and (parameters.recipe, parameters.training.forces) == ("default", False):
        recipe = "forces"
    if recipe is not None:
        parameters = with_recipe(parameters, recipe)
    if tuned:
        from tio2nn.tuning.trials import read_best
        from tio2nn.workflow.status import STALE, status

        for part in status(project).parts:
            if (part.name, part.state) == ("tuning", STALE):
                console.warn(
                    f'settings of an earlier search are used: {part.what} than today; see "tio2nn tune"'
                )
        parameters = parameters.with_overrides(**read_best(project.require(project.best_trial_file)))
    return with_flags(parameters, "training", {**(training or {}), "forces": forces})


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


def asks_for_new_split(split_file: Path | None, kind: str | None, new: bool, no_test: bool) -> bool:
    """Whether --split-by, --new-split or --no-test is given.

    Raises:
        UsageError: beside a split of the user's own, which says all of that.
    """
    asked = kind is not None or new or no_test
    if split_file is not None and asked:
        raise UsageError("expected --split, or else --split-by, --new-split or --no-test, got both")
    return asked


def fields_of_switches(no_test: bool, keep_outliers: bool) -> dict[str, Any]:
    """Fields of the training that --no-test and --keep-outliers set; None for those that are not given."""
    return {"test_fraction": 0.0 if no_test else None, "outliers": "keep" if keep_outliers else None}


def _require_features(project: Project, parameters: ParameterSet) -> None:
    """Say what is missing before TensorFlow takes its seconds to start."""
    from tio2nn.project.facts import needs_derivatives
    from tio2nn.project.structure_store import read_store

    store = read_store(project.require(project.structures_file))
    project.require(project.features_manifest)
    if needs_derivatives(parameters, store) and not project.jacobian_table.exists():
        command = f"tio2nn featurize{project.as_option()} --forces"
        way_out = "" if parameters.training.forces is True else ", or train with --energies-only"
        raise MissingInputError(
            f'no derivatives in {project.features_directory}; run "{command}" first{way_out}'
        )


def worker_processes(workers: int, fits_per_worker: int = _FITS_PER_WORKER) -> Executor:
    """Worker processes for fits: replaced after so many, and one of them may die."""
    from tio2nn.parallel.workers import WorkerProcesses

    return WorkerProcesses(workers, fits_per_worker)


def member_processes(workers: int) -> Executor:
    """Worker processes for the members of a committee, each a new one: a fit's data stay in its process to the end."""
    return worker_processes(workers, fits_per_worker=1)


def tune(
    project: Project, parameters: ParameterSet, jobs: int | None, split_file: Path | None
) -> dict[str, Any]:
    """Search, show the ranking, and return the best trial."""
    _require_features(project, parameters)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.tune import tune

    jobs = jobs or available_cores()

    def on_data(data: TrainingData) -> None:
        console.say(
            f"{parameters.tuning.strategy} search: each trial trains on {counted(len(data.train.counts), 'structure')}"
            f"{'' if data.train_forces is None else ', energies and forces,'} and is judged by "
            f"{counted(len(data.validation.counts), 'other')}, {jobs} at a time"
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
        [rank, t.layers, t.nodes, t.learning_rate, t.dropout, t.epochs, t.shown_rmse, t.status]
        for rank, t in enumerate(summary.ranked, start=1)
    ]
    if any(trial.validation_force_rmse_eV_per_A is not None for trial in summary.ranked):
        columns.insert(-1, "eV/Å")
        for row, trial in zip(rows, summary.ranked, strict=True):
            row.insert(-1, trial.shown_force_rmse)
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
    from tio2nn.files.tables import read_json

    _require_features(project, parameters)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.train import train

    begun: set[int] = set()
    shows: list[Callable[[int, int, str], None]] = []

    def on_data(data: TrainingData) -> None:
        console.say(labels_line(parameters, data.facts))
        console.say(
            f"training on {counted(len(data.train.counts), 'structure')}, validating on {len(data.validation.counts)}, "
            f"{len(data.split.indices('test'))} kept for the test; reference energies "
            + ", ".join(f"{element} {value:.6f} eV" for element, value in data.reference.as_dict().items())
        )
        console.say(cost_line(data.parameters, data.facts))
        _warn_of(data.split)
        _tell_left_out(parameters, data)
        if data.selection is not None:
            console.warn(without_derivatives_line(data.n_without_derivatives, data.selection))
        if data.reference.underdetermined:
            console.warn(
                "the compositions do not determine the reference energies: energies of other compositions "
                "will be off"
            )
        if data.constant_features:
            console.warn(constant_line(data.constant_features))
        # a live line comes last
        shows.append(stack.enter_context(console.epochs(data.parameters.training.epochs)))

    with ExitStack() as stack:

        def on_epoch(member: int, epoch: Epoch) -> None:
            if member not in begun and epoch.epoch > 1:
                console.say(f"network {member} goes on from epoch {epoch.epoch - 1}, where it was")
            begun.add(member)
            shows[0](member, epoch.epoch, _errors(epoch))

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
    judged = ""
    if summary.validation_rmse is not None:
        judged = f"; validation RMSE {summary.validation_rmse:.2f}, MAE {summary.validation_mae:.2f} meV/atom"
    if summary.validation_force_rmse is not None:
        judged += f", forces RMSE {summary.validation_force_rmse:.4f} eV/Å"
    console.say(
        f"trained {counted(summary.members, 'network')} in "
        f"{console.duration(summary.seconds)}{judged}; {summary.potential}"
    )
    if summary.comparison is not None:
        show_comparison("validation", summary.n_validation, summary.comparison, summary.facts)
    metrics: dict[str, Any] = read_json(project.training_metrics_file)
    return metrics


def _tell_left_out(parameters: ParameterSet, data: TrainingData) -> None:
    """What is not trained on, or should not be, and what is not held out."""
    from tio2nn.training.data import FEWEST_TO_TEST

    if data.n_above_max_energy:
        console.say(
            f"{counted(data.n_above_max_energy, 'structure')} above --max-energy {parameters.training.max_energy:g} "
            f"eV/atom {'is' if data.n_above_max_energy == 1 else 'are'} left out"
        )
    if n := len(data.outliers):
        shown = ", ".join(data.outliers[:SHOWN_NAMES]) + (" ..." if n > SHOWN_NAMES else "")
        what = f"{counted(n, 'gross outlier')}, far beyond the energies or forces of the others ({shown})"
        if parameters.training.outliers == "leave-out":
            console.warn(f"{what}: left out of all parts; --keep-outliers keeps such")
        else:
            console.warn(f'{what}: kept; "outliers": "leave-out" in params.json leaves such out')
    n_validation, n_test = (len(data.split.indices(part)) for part in ("validation", "test"))
    if not n_validation and not n_test:
        advice = "add structures"
        if parameters.training.split == "grouped" and len(data.split.indices("train")) >= FEWEST_TO_TEST:
            advice = "all are needed in training as long as groups stay together; use --split-by random --new-split"
        console.warn(f"nothing is held out: no number tells how far to trust this potential; {advice}")
    elif not n_validation:
        console.warn("no structures to validate on: nothing tells how the training goes on new ones")


def _warn_of(split: Split) -> None:
    if unknown := split.unknown:
        console.warn(
            f"{counted(len(unknown), 'name')} of the given split {'is' if len(unknown) == 1 else 'are'} of no "
            f"extracted structure, such as {unknown[0]!r}"
        )
    if split.replaces_another:
        console.warn(
            "split.csv was one of other structures and is drawn anew: what was tested before may be trained on now; "
            "the earlier one is split-earlier.csv"
        )


def _errors(epoch: Epoch) -> str:
    """RMSE of both parts, energies and forces."""
    validation = epoch.validation_rmse_meV_per_atom
    shown = f"RMSE training {epoch.train_rmse_meV_per_atom:.2f}"
    shown += " meV/atom" if validation is None else f", validation {validation:.2f} meV/atom"
    forces = (epoch.train_force_rmse_eV_per_A, epoch.validation_force_rmse_eV_per_A)
    if forces == (None, None):
        return shown
    told = forces[:1] if validation is None else forces
    return f"{shown}; {', '.join('unknown' if rmse is None else f'{rmse:.3f}' for rmse in told)} eV/Å"
