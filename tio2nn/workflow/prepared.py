"""The preparation of a project's committee: whether there is one, and whether it is of the project as it is now."""

from __future__ import annotations

import shlex

from tio2nn.errors import InputError, MissingInputError, StaleError, UsageError
from tio2nn.files.arrays import opened_arrays
from tio2nn.job_part import JobPart
from tio2nn.project.freshness import Snapshot
from tio2nn.project.preparation import Preparation, inputs_of_preparation
from tio2nn.project.project import Project
from tio2nn.training.shares import require_shares
from tio2nn.wording import other
from tio2nn.workflow.distill import digest_of_lessons, prepared_lesson

PREPARE = "train --prepare"


def require_preparation(snapshot: Snapshot, member: int | None = None) -> Preparation:
    """The preparation that a member is fitted from; by default, that all are.

    Raises:
        MissingInputError: there is none, or no derivatives.
        StaleError: the project has changed since.
        UsageError: there is no such member.
        InputError: it is damaged, or its data are gone.
    """
    project = snapshot.project
    command = project.command(PREPARE)
    if member is not None and member < 1:
        raise UsageError(f"--member: expected a number from 1, got {member}")
    if not project.preparation_file.exists():
        raise MissingInputError(f'no preparation in {project.shown()}; run "{command}" first')
    preparation = Preparation.read(project.preparation_file)
    if member is not None and member > (n := len(preparation.members)):
        raise UsageError(f"--member: expected a number from 1 to {n}, as prepared, got {member}")
    command += _options(preparation)
    if changed := _changes(snapshot, preparation):
        raise StaleError(
            f'the preparation in {project.shown()} was made with {other(changed)}; run "{command}" again'
        )
    files = [preparation.data_file(project)]
    if preparation.has_features_file:
        files.append(preparation.features_file(project))
    for data in files:
        if not data.exists():
            raise InputError(
                f'expected the data of the preparation, got no file; run "{command}" again', file=str(data)
            )
    return preparation


def _options(preparation: Preparation) -> str:
    """The options by which a preparation learns from a potential; "" for none."""
    options: list[str] = []
    if preparation.origin is not None:
        options = ["--from", preparation.origin[0]]
    elif (lesson := prepared_lesson(preparation)) is not None:
        options = lesson.options()
    return "".join(f" {shlex.quote(option)}" for option in options)


def require_rank(project: Project, preparation: Preparation, rank: JobPart) -> None:
    """Refuse a rank by whose total the batches of a preparation cannot be divided.

    Raises:
        UsageError: they cannot.
        InputError: the data of the preparation are damaged.
    """
    data = preparation.data_file(project)
    try:
        with opened_arrays(data) as arrays:
            n_structures = len(arrays["train_counts"])
    except Exception:  # zipfile and NumPy raise errors of many kinds
        again = f'run "{project.command(PREPARE)}" again'
        raise InputError(
            f"expected the data of the preparation, got a damaged file; {again}", file=str(data)
        ) from None
    require_shares(rank, preparation.resolved.training.batch_size, n_structures)


def usable_preparation(snapshot: Snapshot) -> Preparation | None:
    """The preparation of a project as it is now; None if there is none."""
    try:
        preparation = Preparation.read(snapshot.project.preparation_file)
        return None if _changes(snapshot, preparation) else preparation
    except InputError:
        return None


def _changes(snapshot: Snapshot, preparation: Preparation) -> tuple[str, ...]:
    """What has changed since, by the names of `MODEL.records`, and "derivatives"."""
    split_file = snapshot.project.split_file
    now = inputs_of_preparation(snapshot.parameters, snapshot.structures, split_file)
    changed = tuple(name for name, digest in now.items() if preparation.inputs.get(name) != digest)
    if changed:
        return changed
    taught = snapshot
    if (teacher := preparation.teacher) is not None:
        taught = Snapshot(preparation.taught(snapshot.project))
        if digest_of_lessons(snapshot.project) != teacher["lessons"]:
            return ("lessons",)
    if preparation.derivatives is not None and taught.derivatives().file != preparation.derivatives:
        return ("derivatives",)
    if preparation.strains is not None and taught.strains().file != preparation.strains:
        return ("derivatives by strain",)
    return ()
