"""tio2nn featurize."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    DerivativesOption,
    ForOption,
    InsecureOption,
    JobsOption,
    PartOption,
    ProjectOption,
    SchedulerOption,
    TlsOption,
    WaitOption,
)
from tio2nn.cli.pools import Pool, pool, refuse_both
from tio2nn.cli.stress_options import StrainsOption
from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart
from tio2nn.wording import counted, size

if TYPE_CHECKING:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.workflow.differentiate import JacobianEstimate, JacobianSummary
    from tio2nn.workflow.featurize import Estimate, FeaturizeSummary


@command
def featurize(
    project: ProjectOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    forces: DerivativesOption = None,
    stress: StrainsOption = None,
    target: ForOption = None,
    part: PartOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Also write one symXXXX.csv per structure.")] = False,
) -> None:
    """Compute symmetry functions and their derivatives."""
    from tio2nn.parameters.targets import known_target
    from tio2nn.project.commands import keep_command, kept_command
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.parts import FEATURES
    from tio2nn.project.project import Project
    from tio2nn.workflow.settings import require_stress, set_target, training_parameters

    own = None if part is None else JobPart.parse(part)
    if own is not None and (target is not None or csv):
        raise UsageError(
            "--part cannot be combined with --for or --csv; the command without --part takes them"
        )
    refuse_both(part, scheduler)
    wanted = None if target is None else known_target(target)
    found = Project.find(project)
    with (
        found.locked("featurize") if own is None else found.joined(f"featurize --part {own}"),
        pool(jobs, scheduler, tls, insecure, wait) as workers,
    ):
        if wanted is not None:
            set_target(found, wanted)
        snapshot = Snapshot(found)
        fitted = training_parameters(snapshot, forces=forces, stress=stress)
        require_stress(snapshot, fitted)
        is_new = perform(snapshot, workers, csv, own)
        is_new |= differentiate_if_needed(snapshot, fitted, workers, own)
        if own is None and is_new:
            keep_command(snapshot, FEATURES, sys.argv)
        elif own is None and not kept_command(snapshot, FEATURES):
            # an earlier command was cut off, or did its share alone; where nothing can be written, nothing is lost
            with suppress(OSError):
                keep_command(snapshot, FEATURES, sys.argv)
    if own is not None:
        words = "featurize" + {None: "", True: " --forces", False: " --energies-only"}[forces]
        words += {None: "", True: " --stress", False: " --no-stress"}[stress]
        console.say(
            f'part {own.number} of {own.total} is done; after all of them run "{found.command(words)}"'
        )


def perform(snapshot: Snapshot, workers: Pool, csv: bool = False, part: JobPart | None = None) -> bool:
    """Compute the symmetry functions, all or those of one part, and report the result; return whether any are new."""
    from tio2nn.workflow.featurize import compute_features

    if part is not None and (others := snapshot.notes_of_features.others(part)):
        them = "it" if others.startswith("part ") else "them"
        console.warn(f"{others} had other parameters or structures; run {them} again")

    def announce(estimate: Estimate) -> None:
        _say_undone("symmetry functions", estimate.undone_parts)
        console.say(
            f"symmetry functions: {counted(estimate.n_structures, 'structure')}, {counted(estimate.n_atoms, 'atom')}, "
            f"{counted(estimate.n_features, 'function')}; {console.estimated(estimate.seconds)} on "
            f"{counted(estimate.jobs, 'process', 'processes')}, {size(estimate.memory_bytes)} of memory, "
            f"{size(estimate.disk_bytes)} of disk"
        )

    with console.compile_notice("the symmetry functions"):
        summary = compute_features(
            snapshot,
            part=part,
            jobs=workers.jobs,
            make_executor=workers.kernels(snapshot.project),
            jobs_are_fixed=workers.is_fixed,
            csv=csv,
            announce=announce,
            track=console.track,
        )
    if summary.n_computed:
        console.say(
            f"symmetry functions: {counted(summary.n_computed, 'structure')} computed, {_in_all(summary, part)}, "
            f"in {console.duration(summary.seconds)}"
        )
    else:
        _say_all_there("symmetry functions", summary.n_structures, part)
    if summary.csv_files:
        console.say(
            f"wrote {counted(summary.csv_files, 'CSV file')} to {snapshot.project.features_directory}"
        )
    return summary.n_computed > 0


def _in_all(summary: FeaturizeSummary | JacobianSummary, part: JobPart | None) -> str:
    return f"{summary.n_structures} in {'all' if part is None else f'part {part.number} of {part.total}'}"


def _say_all_there(what: str, n: int, part: JobPart | None) -> None:
    there = {0: "it has no structures", 1: "the one structure is there"}.get(
        n, f"all {n} structures are there"
    )
    of = "" if part is None else f" of part {part.number} of {part.total}"
    console.say(f"{what}{of}: nothing to do, {there}")


def _say_undone(what: str, parts: str) -> None:
    """Report the parts of a job array whose work is left to this command."""
    if parts:
        console.warn(f"{what}: {parts}; computing here what is missing")


def _announce(what: str, estimate: JacobianEstimate) -> None:
    _say_undone(what, estimate.undone_parts)
    console.say(
        f"{what}: {counted(estimate.n_structures, 'structure')}, {counted(estimate.n_atoms, 'atom')}, "
        f"{counted(estimate.n_features, 'function')}; {console.estimated(estimate.seconds)} on "
        f"{counted(estimate.jobs, 'process', 'processes')}, {size(estimate.disk_bytes)} of disk"
    )


def _say_computed(what: str, summary: JacobianSummary, part: JobPart | None) -> None:
    if summary.n_computed:
        console.say(
            f"{what}: {counted(summary.n_computed, 'structure')} computed, {_in_all(summary, part)}, "
            f"{size(summary.disk_bytes)}, in {console.duration(summary.seconds)}"
        )
    else:
        _say_all_there(what, summary.n_structures, part)


def differentiate_if_needed(
    snapshot: Snapshot, parameters: ParameterSet, workers: Pool, part: JobPart | None = None
) -> bool:
    """Compute the derivatives, all or those of one part, that a fit needs; return whether any are new.

    Args:
        parameters: of the fit.
    """
    insist, is_new = parameters.training.forces is True, False
    if snapshot.needs_derivatives(parameters):
        is_new |= differentiate(snapshot, workers, insist=insist, part=part)
    if snapshot.needs_strains(parameters):
        is_new |= differentiate_by_strain(snapshot, workers, insist=insist, part=part)
    return is_new


def differentiate(
    snapshot: Snapshot, workers: Pool, *, insist: bool = False, part: JobPart | None = None
) -> bool:
    """Compute the derivatives that training on forces needs, report the result, and return whether any are new.

    They are computed for as many structures as fit, or, with `insist`, for all structures with forces.
    """
    from tio2nn.workflow.differentiate import differentiate

    def announce(estimate: JacobianEstimate) -> None:
        _announce("derivatives", estimate)
        if estimate.n_left_out:
            console.say(
                f"derivatives of {counted(estimate.n_left_out, 'more structure')} with forces would not fit into "
                f"{estimate.bound}; the structures to differentiate are drawn at random from all groups, compositions "
                "and elements, the others train on energies alone (--forces computes all, if the disk holds them)"
            )

    with console.compile_notice("the derivatives"):
        summary = differentiate(
            snapshot,
            part=part,
            jobs=workers.jobs,
            make_executor=workers.kernels(snapshot.project, derivatives=True),
            jobs_are_fixed=workers.is_fixed,
            insist=insist,
            announce=announce,
            track=console.track,
        )
    _say_computed("derivatives", summary, part)
    if summary.n_left_out:
        console.say(
            counted(
                summary.n_left_out,
                "structure with forces has no derivatives and trains on its energy alone",
                "structures with forces have no derivatives and train on their energies alone",
            )
        )
    if summary.n_without_labels:
        console.say(counted(summary.n_without_labels, "structure has no forces", "structures have no forces"))
    return summary.n_computed > 0


def differentiate_by_strain(
    snapshot: Snapshot, workers: Pool, *, insist: bool = False, part: JobPart | None = None
) -> bool:
    """Compute the derivatives that training on the stress needs, report it, and return whether any are new."""
    from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain

    with console.compile_notice("the derivatives by strain"):
        summary = differentiate_by_strain(
            snapshot,
            part=part,
            jobs=workers.jobs,
            make_executor=workers.kernels(snapshot.project, strains=True),
            jobs_are_fixed=workers.is_fixed,
            insist=insist,
            announce=partial(_announce, "derivatives by strain"),
            track=console.track,
        )
    _say_computed("derivatives by strain", summary, part)
    if n := summary.n_without_labels:
        console.say(
            counted(n, "structure has no stress", "structures have no stress")
            + " that can be learned: none in its file, not finite, or not periodic along all axes"
        )
    return summary.n_computed > 0
