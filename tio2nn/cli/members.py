"""tio2nn train --prepare and --member: a committee whose members are fitted one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tio2nn.cli import console, teaching
from tio2nn.cli.fit_lines import errors_of, show_data
from tio2nn.errors import UsageError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.cli.pools import Pool
    from tio2nn.job_part import JobPart
    from tio2nn.parallel.devices import Device
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.training.data import TrainingData
    from tio2nn.training.history import Epoch
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import Lesson


def refuse_what_contradicts(
    *, prepare: bool, member: int | None, rank: JobPart | None, is_bare: bool, whole: bool
) -> None:
    """Refuse options that do not belong to one step of a training.

    Args:
        prepare, member, rank: the options of the steps.
        is_bare: whether no settings are given.
        whole: whether there is an option of a training as a whole.

    Raises:
        UsageError: there is one.
    """
    options = {"--prepare": prepare, "--member": member is not None, "--rank": rank is not None}
    given = [option for option, is_given in options.items() if is_given]
    if given and whole:
        raise UsageError("--prepare, --member and --rank cannot be combined with --json or --jobs")
    if given and given != ["--prepare"] and not (is_bare and len(given) == 1):
        if not is_bare or "--prepare" in given:
            raise UsageError(f"{given[-1]} takes its settings from the preparation; give them to --prepare")
        raise UsageError("--member cannot be combined with --rank, which fits all members")


def prepare(
    snapshot: Snapshot,
    parameters: ParameterSet,
    split: SplitRequest,
    workers: Pool,
    lesson: Lesson | None = None,
) -> None:
    """Make what all members have in common, and report it."""
    from tio2nn.workflow.fine_tune import require_origin
    from tio2nn.workflow.lessons import Distillation, FineTuning
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split.path)
    if isinstance(lesson, FineTuning):
        require_origin(lesson, parameters)
    if isinstance(lesson, Distillation):
        teaching.perform(snapshot, parameters, split, lesson, workers)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.members import prepare_members

    def on_data(data: TrainingData) -> None:
        show_data(snapshot, parameters, data)
        if lesson is not None:
            teaching.show_beginning(snapshot, lesson, data)

    with console.compile_notice("the loops of the fit"):
        preparation = prepare_members(snapshot, parameters, split=split, on_data=on_data, lesson=lesson)
    n, command = len(preparation.members), snapshot.project.command
    console.say(
        f'prepared {counted(n, "member")}; fit each with "{command("train --member K")}", K from 1 to {n}, '
        f'then run "{command("train")}"'
    )


def fit(snapshot: Snapshot, member: int, device: Device) -> None:
    """Fit one member and report the result."""
    from tio2nn.project.preparation import told_members
    from tio2nn.workflow.prepared import require_preparation

    # before TensorFlow takes seconds to start
    preparation = require_preparation(snapshot, member)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.members import fit_member
    n_epochs = preparation.resolved.training.epochs
    with console.compile_notice("the loops of the fit"), console.epochs(n_epochs) as show:
        begun = False

        def on_epoch(epoch: Epoch) -> None:
            nonlocal begun
            if not begun and epoch.epoch > 1:
                console.say(f"member {member}: resuming after epoch {epoch.epoch - 1}")
            begun = True
            show(member, epoch.epoch, errors_of(epoch))

        def on_fallback(sentence: str) -> None:
            console.warn(sentence)

        summary = fit_member(snapshot, member, on_epoch=on_epoch, device=device, on_fallback=on_fallback)
    told = told_members(summary.fitted, summary.members)
    then = f'; run "{snapshot.project.command("train")}"' if len(summary.fitted) == summary.members else ""
    console.say(
        f"fitted member {member} in {console.duration(summary.seconds)}, {counted(summary.epochs, 'epoch')}; "
        f"{told} fitted{then}"
    )


def prepared(
    snapshot: Snapshot, given: ParameterSet | None, split: SplitRequest, lesson: Lesson | None = None
) -> ParameterSet | None:
    """The parameters of a training: those given, else those of the preparation, else None.

    Args:
        snapshot: of a project that may have a preparation.
        given: parameters with changes from the command line; None if nothing is changed there.
        split: which split to use.
        lesson: the potential to learn from, as the command line says; None for what was prepared.
    """
    from tio2nn.project.preparation import told_members
    from tio2nn.workflow.distill import learns_as
    from tio2nn.workflow.inputs import choose_split, holds
    from tio2nn.workflow.prepared import usable_preparation

    if not snapshot.project.preparation_file.exists():
        return given
    if (preparation := usable_preparation(snapshot)) is None:
        console.warn("the project has changed since its members were prepared; starting over")
        return given
    if given not in (None, preparation.parameters) or not learns_as(preparation, lesson):
        console.warn("the members were prepared with other settings; starting over")
        return given
    if not holds(snapshot.project.split_file, choose_split(snapshot, preparation.parameters, split)):
        console.warn("the members were prepared with another split; starting over")
        return given
    n, fitted = len(preparation.members), preparation.fitted(snapshot.project)
    missing = [member for member in range(1, n + 1) if member not in fitted]
    if missing:
        console.warn(f"{told_members(missing, n)} not fitted; fitting here what is missing")
    else:
        console.say(f"found all {counted(n, 'member')} fitted")
    return preparation.parameters
