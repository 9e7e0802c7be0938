"""tio2nn train."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console, teaching
from tio2nn.cli import members as one_by_one
from tio2nn.cli import ranks as together
from tio2nn.cli.app import command
from tio2nn.cli.fit_lines import errors_of, missed_line, show_data
from tio2nn.cli.lesson_options import (
    CopiesOption,
    DisplacementOption,
    DistillOption,
    FromOption,
    TruthOption,
)
from tio2nn.cli.options import (
    DeviceOption,
    EpochsOption,
    FitJobsOption,
    ForcesOption,
    ForOption,
    InsecureOption,
    JsonOption,
    KeepOutliersOption,
    MaxEnergyOption,
    MemberOption,
    MembersOption,
    NewSplitOption,
    NoTestOption,
    PrepareOption,
    ProjectOption,
    RecipeOption,
    SchedulerOption,
    SeedOption,
    SplitFileOption,
    SplitKindOption,
    TlsOption,
    TunedOption,
)
from tio2nn.cli.pools import Pool, pool
from tio2nn.cli.rank_options import FitWaitOption, RankOption
from tio2nn.cli.stress_options import StressOption
from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart
from tio2nn.parallel.devices import Device, known_device
from tio2nn.wording import counted, digits

if TYPE_CHECKING:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.data import TrainingData
    from tio2nn.training.history import Epoch
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import Lesson

# what fits members of a preparation; they do not work beside each other
_MEMBER, _RANK = "train --member", "train --rank"


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
    stress: StressOption = None,
    epochs: EpochsOption = None,
    members: MembersOption = None,
    seed: SeedOption = None,
    begin_from: FromOption = None,
    distill: DistillOption = None,
    copies: CopiesOption = None,
    displacement: DisplacementOption = None,
    truth: TruthOption = None,
    prepare: PrepareOption = False,
    member: MemberOption = None,
    rank: RankOption = None,
    jobs: FitJobsOption = None,
    device: DeviceOption = "cpu",
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: FitWaitOption = None,
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

    wanted_device = known_device(device, scheduler)
    new = asks_for_new_split(split, split_by, new_split, no_test)
    flags = {"split": split_by, "max_energy": max_energy, "epochs": epochs, "members": members, "seed": seed}
    flags |= fields_of_switches(no_test, keep_outliers)
    lesson = asked_lesson(begin_from, distill, copies, displacement, truth)
    if tuned and begin_from is not None:
        raise UsageError(
            "--tuned cannot be combined with --from, which takes layers and schedule from the potential"
        )
    settings = (recipe, target, forces, stress, split, lesson, *flags.values())
    is_bare = not (tuned or new) and all(value is None for value in settings)
    own = None if rank is None else JobPart.parse(rank, "--rank")
    one_by_one.refuse_what_contradicts(
        prepare=prepare, member=member, rank=own, is_bare=is_bare, whole=json or jobs is not None
    )
    if wanted_device == "gpu" and (prepare or own is not None):
        option = "--prepare" if prepare else "--rank"
        raise UsageError(f"{option} does not use a GPU; give --device to train --member")
    if scheduler is not None and (prepare or member is not None or own is not None):
        raise UsageError(
            "--prepare, --member and --rank cannot be combined with --scheduler, which distributes the members itself"
        )
    found = Project.find(project)
    if own is not None:
        with found.joined(f"{_RANK} {own}", _MEMBER), pool(None, scheduler, tls, insecure, None):
            together.fit(Snapshot(found), own, wait)
        return
    if member is not None:
        with found.joined(f"{_MEMBER} {member}", _RANK), pool(None, scheduler, tls, insecure, wait):
            one_by_one.fit(Snapshot(found), member, wanted_device)
        return
    if target is not None:
        wanted = known_target(target)
        with found.locked("train"):
            set_target(found, wanted)
    snapshot = Snapshot(found)
    if tuned:
        warn_of_stale_search(snapshot)
    parameters = training_parameters(snapshot, recipe, tuned, flags, forces, stress)
    with found.locked("train"):
        request = SplitRequest(split, new)
        if prepare:
            with pool(None, scheduler, tls, insecure, wait) as workers:
                one_by_one.prepare(snapshot, parameters, request, workers, lesson)
            return
        given = None if is_bare else parameters
        parameters = one_by_one.prepared(snapshot, given, request, lesson) or parameters
        with pool(jobs, scheduler, tls, insecure, wait) as workers:
            metrics = perform(snapshot, parameters, request, workers, wanted_device, lesson)
    if json:
        console.print_json(metrics)


def asked_lesson(
    begin_from: Path | None,
    distill: Path | None,
    copies: int | None,
    displacement: float | None,
    truth: float | None,
) -> Lesson | None:
    """What the command line asks to learn from.

    Raises:
        UsageError: options that exclude or need each other.
    """
    from tio2nn.workflow.lessons import Distillation, FineTuning

    numbers: dict[str, Any] = {"copies": copies, "displacement": displacement, "truth": truth}
    given = {name: value for name, value in numbers.items() if value is not None}
    if distill is None:
        if given:
            raise UsageError(f"--{next(iter(given))}: expected --distill as well, got none")
        return None if begin_from is None else FineTuning(begin_from)
    if begin_from is not None:
        raise UsageError("expected either --from or --distill, got both")
    return Distillation(distill, **given)


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
    device: Device = "cpu",
    lesson: Lesson | None = None,
) -> dict[str, Any]:
    """Fit the potential and report the result; return the content of `model/metrics.json`."""
    from tio2nn.cli.plans import show_comparison
    from tio2nn.files.tables import read_json
    from tio2nn.parameters.targets import warning_of
    from tio2nn.workflow.fine_tune import require_origin
    from tio2nn.workflow.lessons import Distillation, FineTuning
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split.path)
    if isinstance(lesson, FineTuning):
        require_origin(lesson, parameters)
    if isinstance(lesson, Distillation):
        teaching.perform(snapshot, parameters, split, lesson, workers)
    if (warning := warning_of(parameters.target, parameters.network.activation)) is not None:
        console.warn(warning)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.train import TrainListener, train

    begun: set[int] = set()
    shows: list[Callable[[int, int, str], None]] = []

    def on_data(data: TrainingData) -> None:
        show_data(snapshot, parameters, data)
        if lesson is not None:
            teaching.show_beginning(snapshot, lesson, data)
        # the live line must come last
        shows.append(stack.enter_context(console.epochs(data.parameters.training.epochs)))

    with ExitStack() as stack:

        def on_epoch(member: int, epoch: Epoch) -> None:
            if member not in begun and epoch.epoch > 1:
                console.say(f"member {member}: resuming after epoch {epoch.epoch - 1}")
            begun.add(member)
            shows[0](member, epoch.epoch, errors_of(epoch))

        def on_fallback(sentence: str) -> None:
            console.warn(sentence)

        stack.enter_context(console.compile_notice("the loops of the fit"))
        summary = train(
            snapshot,
            parameters,
            split=split,
            lesson=lesson,
            jobs=workers.jobs,
            make_executor=workers.members(snapshot.project),
            listener=TrainListener(on_data, on_epoch, on_fallback, sys.argv),
            device=device,
        )
    judged = ""
    if summary.validation_rmse is not None and summary.validation_mae is not None:
        rmse, mae = digits(summary.validation_rmse, 2), digits(summary.validation_mae, 2)
        judged = f"; validation RMSE {rmse}, MAE {mae} meV/atom"
    if summary.validation_force_rmse is not None:
        judged += f", force RMSE {digits(summary.validation_force_rmse, 4)} eV/Å"
    if summary.validation_stress_rmse is not None:
        judged += f", stress RMSE {digits(summary.validation_stress_rmse, 2)} meV/Å³"
    console.say(
        f"trained {counted(summary.members, 'network')} in "
        f"{console.duration(summary.seconds)}{judged}; {summary.potential}"
    )
    if summary.earlier is not None:
        kept = f"the earlier potential is kept as {summary.earlier}"
        if summary.earlier_is_of_others:
            console.warn(
                f"{kept}: it was trained on other structures; use -C DIR to keep a project for each data set"
            )
        else:
            console.say(kept)
    if summary.committee is not None:
        console.say(
            f"{summary.committee} still holds the committee; the student that this potential replaced is not kept"
        )
    if summary.comparison is not None:
        show_comparison("validation", summary.n_validation, summary.comparison, summary.facts)
    if summary.missed_energies:
        console.warn(missed_line(summary.missed_energies, snapshot.project))
    metrics: dict[str, Any] = read_json(snapshot.project.training_metrics_file)
    return metrics
