"""tio2nn train."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    EpochsOption,
    ForcesOption,
    ForOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    KeepOutliersOption,
    MaxEnergyOption,
    MembersOption,
    NewSplitOption,
    NoTestOption,
    ProjectOption,
    RecipeOption,
    SchedulerOption,
    SeedOption,
    SplitFileOption,
    SplitKindOption,
    TlsOption,
    TunedOption,
    WaitOption,
)
from tio2nn.cli.pools import Pool, pool
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.data import TrainingData
    from tio2nn.training.history import Epoch
    from tio2nn.workflow.inputs import SplitRequest

_SHOWN_NAMES = 3  # gross outliers to name


@command
def train(
    project: ProjectOption = None,
    recipe: RecipeOption = None,
    target: ForOption = None,
    tuned: TunedOption = False,
    split: SplitFileOption = None,
    split_by: SplitKindOption = None,
    new_split: NewSplitOption = False,
    no_test: NoTestOption = False,
    max_energy: MaxEnergyOption = None,
    keep_outliers: KeepOutliersOption = False,
    forces: ForcesOption = None,
    epochs: EpochsOption = None,
    members: MembersOption = None,
    seed: SeedOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    json: JsonOption = False,
) -> None:
    """Fit the potential; resumes an interrupted fit."""
    from tio2nn.parameters.targets import known_target
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.settings import (
        asks_for_new_split,
        fields_of_switches,
        set_target,
        training_parameters,
    )

    new = asks_for_new_split(split, split_by, new_split, no_test)
    found = Project.find(project)
    if target is not None:
        wanted = known_target(target)
        with found.locked("train"):
            set_target(found, wanted)
    snapshot = Snapshot(found)
    flags = {"split": split_by, "max_energy": max_energy, "epochs": epochs, "members": members, "seed": seed}
    flags |= fields_of_switches(no_test, keep_outliers)
    if tuned:
        warn_of_stale_search(snapshot)
    parameters = training_parameters(snapshot, recipe, tuned, flags, forces)
    with found.locked("train"), pool(jobs, scheduler, tls, insecure, wait) as workers:
        metrics = perform(snapshot, parameters, SplitRequest(split, new), workers)
    if json:
        console.print_json(metrics)


def warn_of_stale_search(snapshot: Snapshot) -> None:
    """Warn if the settings in use come from a search that is out of date."""
    from tio2nn.workflow.settings import stale_search

    if (what := stale_search(snapshot)) is not None:
        console.warn(
            f'using the settings of an outdated search ({what}); to repeat it, run "{snapshot.project.command("tune")}"'
        )


def perform(
    snapshot: Snapshot,
    parameters: ParameterSet,
    split: SplitRequest,
    workers: Pool,
) -> dict[str, Any]:
    """Fit the potential and report the result; return the content of `model/metrics.json`."""
    from tio2nn.cli.plans import (
        constant_line,
        cost_line,
        labels_line,
        show_comparison,
        warn_of_split,
        without_derivatives_line,
    )
    from tio2nn.files.tables import read_json
    from tio2nn.parameters.targets import warning_of
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split.path)
    if (warning := warning_of(parameters.target, parameters.network.activation)) is not None:
        console.warn(warning)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.train import train

    begun: set[int] = set()
    shows: list[Callable[[int, int, str], None]] = []

    def on_data(data: TrainingData) -> None:
        console.say(labels_line(parameters, data.facts))
        console.say(
            f"training on {counted(len(data.train.counts), 'structure')}{_held_out(data)}; reference energies "
            + ", ".join(f"{element} {value:.6f} eV" for element, value in data.reference.as_dict().items())
        )
        console.say(cost_line(data.parameters, data.facts))
        warn_of_split(data.split)
        _tell_left_out(parameters, data)
        if data.selection is not None:
            console.warn(
                without_derivatives_line(data.n_without_derivatives, data.selection, snapshot.project)
            )
        if data.reference.underdetermined:
            console.warn(
                "the training compositions do not determine the reference energies: total energies of other "
                "compositions will be off"
            )
        if data.constant_features:
            console.warn(constant_line(data.constant_features))
        # the live line must come last
        shows.append(stack.enter_context(console.epochs(data.parameters.training.epochs)))

    with ExitStack() as stack:

        def on_epoch(member: int, epoch: Epoch) -> None:
            if member not in begun and epoch.epoch > 1:
                console.say(f"member {member}: resuming after epoch {epoch.epoch - 1}")
            begun.add(member)
            shows[0](member, epoch.epoch, _errors(epoch))

        stack.enter_context(console.compile_notice("the forces"))
        summary = train(
            snapshot,
            parameters,
            split=split,
            jobs=workers.jobs,
            make_executor=workers.members(snapshot.project),
            command=sys.argv,
            on_data=on_data,
            on_epoch=on_epoch,
        )
    judged = ""
    if summary.validation_rmse is not None:
        judged = f"; validation RMSE {summary.validation_rmse:.2f}, MAE {summary.validation_mae:.2f} meV/atom"
    if summary.validation_force_rmse is not None:
        judged += f", force RMSE {summary.validation_force_rmse:.4f} eV/Å"
    console.say(
        f"trained {counted(summary.members, 'network')} in "
        f"{console.duration(summary.seconds)}{judged}; {summary.potential}"
    )
    if summary.earlier is not None:
        kept = f"the earlier potential is kept as {summary.earlier}"
        if summary.earlier_is_of_others:
            console.warn(
                f"{kept}: it was trained on other structures; -C DIR names a project for each data set"
            )
        else:
            console.say(kept)
    if summary.comparison is not None:
        show_comparison("validation", summary.n_validation, summary.comparison, summary.facts)
    metrics: dict[str, Any] = read_json(snapshot.project.training_metrics_file)
    return metrics


def _held_out(data: TrainingData) -> str:
    """How many structures validate and test, and how many a split given by the user leaves out of all sets."""
    from tio2nn.structures.split import LEFT_OUT

    validation, test = (len(data.split.indices(part)) for part in ("validation", "test"))
    unused = data.split.parts.count(LEFT_OUT) - data.n_above_max_energy - len(data.outliers)
    told = [
        *([f"validating on {validation}"] if validation else []),
        *([f"testing on {test}"] if test else []),
        *([f"{unused} not used by the split"] if unused > 0 else []),
    ]
    return "".join(f", {part}" for part in told)


def _tell_left_out(parameters: ParameterSet, data: TrainingData) -> None:
    """Report structures left out, gross outliers that are kept, and a missing validation or test set."""
    from tio2nn.training.splits import FEWEST_TO_TEST

    if data.n_above_max_energy:
        console.say(
            f"leaving out {counted(data.n_above_max_energy, 'structure')} above --max-energy "
            f"{parameters.training.max_energy:g} eV/atom"
        )
    if n := len(data.outliers):
        shown = ", ".join(data.outliers[:_SHOWN_NAMES]) + (" ..." if n > _SHOWN_NAMES else "")
        what = f"{counted(n, 'gross outlier')}, far beyond the energies or forces of the others ({shown})"
        if parameters.training.outliers == "leave-out":
            console.warn(f"{what}: left out of the split; --keep-outliers keeps outliers")
        else:
            console.warn(f'{what}: kept; to leave outliers out, set "outliers": "leave-out" in params.json')
    n_validation, n_test = (len(data.split.indices(part)) for part in ("validation", "test"))
    if not n_validation and not n_test:
        advice = "add structures"
        if parameters.training.split == "grouped" and len(data.split.indices("train")) >= FEWEST_TO_TEST:
            advice = "grouped splits need all of them for training; use --split-by random --new-split"
        console.warn(f"no structures are held out: the accuracy of this potential is unknown; {advice}")
    elif not n_validation:
        console.warn("no validation set: the errors on new structures are unknown during training")


def _errors(epoch: Epoch) -> str:
    """RMSE of energies and forces on the training and validation sets."""
    validation = epoch.validation_rmse_meV_per_atom
    shown = f"RMSE training {epoch.train_rmse_meV_per_atom:.2f}"
    shown += " meV/atom" if validation is None else f", validation {validation:.2f} meV/atom"
    forces = (epoch.train_force_rmse_eV_per_A, epoch.validation_force_rmse_eV_per_A)
    if forces == (None, None):
        return shown
    told = forces[:1] if validation is None else forces
    return f"{shown}; {', '.join('unknown' if rmse is None else f'{rmse:.3f}' for rmse in told)} eV/Å"
