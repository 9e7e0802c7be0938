"""The steps of a project, each a verb together with what people see of it; `cli.py` strings them together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from tio2nn.cli import console
from tio2nn.errors import InputError
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import in_published_order
from tio2nn.project.project import Project
from tio2nn.wording import counted, size

if TYPE_CHECKING:
    from tio2nn.io.labels import ReadOptions
    from tio2nn.workflow.extract import ExtractSummary
    from tio2nn.workflow.featurize import Estimate

_SHARDS_PER_WORKER = 10**9  # a process that computes symmetry functions does not grow
SHOWN = 10  # rejected files, warnings and trials shown before the rest is only counted


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool(workers: int) -> Executor:
    """Worker processes that start empty, safe with threads, and end with this one, however it ends."""
    from tio2nn.parallel.workers import WorkerProcesses

    return WorkerProcesses(workers, _SHARDS_PER_WORKER)


def extract(
    project: Project,
    sources: Sequence[str],
    limit: int | None,
    parameters: ParameterSet | Draft | None,
    options: ReadOptions | None = None,
) -> bool:
    """Extract and show what the audit found; return whether every structure was accepted.

    A draft is completed and becomes the `params.json` of the project. Without parameters, as for a project that is
    just being made, every element is welcome.
    """
    from tio2nn.workflow.extract import extract

    settings = parameters.settings if isinstance(parameters, Draft) else parameters
    elements = None if parameters is None else parameters.elements
    summary = extract(
        sources,
        energies_csv=project.energies_file,
        rejected_csv=project.rejected_file,
        store=project.structures_file,
        elements=elements,
        reference_energies=None if settings is None else settings.reference_energies,
        limit=limit,
        stdin=sys.stdin,
        options=options,
        track=console.track,
    )
    show_rejected(summary.rejected)
    foreign = _foreign_elements(project, summary, elements or ())
    if summary.audit is None:
        raise InputError(foreign or "expected at least one structure with an energy, got none")
    console.facts(summary.audit.facts())
    for remark in summary.remarks:
        console.warn(remark)
    if summary.disagreement is not None:
        console.warn(summary.disagreement.message())
    if summary.rejected:
        console.say(f"{len(summary.rejected)} rejected, with reasons in {project.rejected_file}")
    if foreign:
        console.warn(foreign)
    if isinstance(parameters, Draft):
        _complete(project, parameters)
    return not summary.rejected


def _foreign_elements(project: Project, summary: ExtractSummary, elements: Sequence[str]) -> str:
    """Why structures of other elements were rejected, and what to do; nothing if none were."""
    if not summary.foreign_elements:
        return ""
    n = summary.n_foreign
    return (
        f"{counted(n, 'structure')} rejected for elements ({', '.join(summary.foreign_elements)}) that "
        f"{project.parameters_file} does not have ({', '.join(elements)}): add them there and extract again, or make "
        'another project with "tio2nn init DIR", which takes the elements from the structures'
    )


def _complete(project: Project, draft: Draft) -> None:
    """Choose functions for the extracted structures, show which and why, and write them into `params.json`."""
    from tio2nn.files.atomic import atomic_write
    from tio2nn.parameters.choose_functions import choose_functions, facts
    from tio2nn.project.neighborhoods import statistics
    from tio2nn.project.structure_store import read_store

    store = read_store(project.structures_file)
    seen = statistics(store, draft.elements or in_published_order(store.elements))
    choice = choose_functions(seen)
    parameters, text = draft.completed(choice)
    console.facts(facts(seen, choice, parameters))
    with atomic_write(project.parameters_file) as handle:
        handle.write(text)
    console.say(
        f"wrote elements, cutoff and functions into {project.parameters_file}, where they can be edited"
    )


def show_rejected(rejected: Iterable[InputError]) -> None:
    """The first of them, and how many there are."""
    errors = list(rejected)
    for rejection in errors[:SHOWN]:
        console.error(str(rejection))
    if len(errors) > SHOWN:
        console.error(f"... and {len(errors) - SHOWN} more")


def featurize(project: Project, jobs: int | None, csv: bool = False) -> None:
    """Compute the features and show what was done."""
    from tio2nn.workflow.featurize import featurize

    def announce(estimate: Estimate) -> None:
        console.say(
            f"symmetry functions: {counted(estimate.n_structures, 'structure')}, {counted(estimate.n_atoms, 'atom')}, "
            f"{counted(estimate.n_features, 'function')}; about {console.duration(estimate.seconds)} on "
            f"{counted(estimate.jobs, 'process', 'processes')}, {size(estimate.memory_bytes)} of memory, "
            f"{size(estimate.disk_bytes)} of disk"
        )

    summary = featurize(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        csv=csv,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"symmetry functions: {counted(summary.n_computed, 'structure')} computed, {summary.n_structures} in all, "
            f"in {console.duration(summary.seconds)}"
        )
    else:
        console.say(
            "symmetry functions: nothing to do, "
            + (
                "the one structure is there"
                if summary.n_structures == 1
                else f"all {summary.n_structures} structures are there"
            )
        )
    if summary.csv_files:
        console.say(f"{counted(summary.csv_files, 'CSV file')} in {project.features_directory}")


def differentiate_if_needed(project: Project, parameters: ParameterSet, jobs: int | None) -> None:
    """As `differentiate`, where a training by these parameters uses forces."""
    from tio2nn.project.facts import needs_derivatives
    from tio2nn.project.structure_store import read_store

    if needs_derivatives(parameters, read_store(project.require(project.structures_file))):
        differentiate(project, jobs, insist=parameters.training.forces is True)


def differentiate(project: Project, jobs: int | None, *, insist: bool = False) -> None:
    """Compute the derivatives that a training on forces needs, and show what was done.

    Of as many structures as fit, or, with `insist`, of all that have forces.
    """
    from tio2nn.workflow.differentiate import JacobianEstimate, differentiate

    def announce(estimate: JacobianEstimate) -> None:
        console.say(
            f"derivatives: {counted(estimate.n_structures, 'structure')}, {counted(estimate.n_atoms, 'atom')}, "
            f"{counted(estimate.n_features, 'function')}; about {console.duration(estimate.seconds)} on "
            f"{counted(estimate.jobs, 'process', 'processes')}, {size(estimate.disk_bytes)} of disk"
        )
        if estimate.n_left_out:
            console.say(
                f"derivatives of {counted(estimate.n_left_out, 'more structure')} with forces would not fit into "
                f"{estimate.bound}: those computed are drawn at random, with groups, compositions and elements "
                "represented; of the others only the energies count (--forces insists on all)"
            )

    summary = differentiate(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        insist=insist,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"derivatives: {counted(summary.n_computed, 'structure')} computed, {summary.n_structures} in all, "
            f"{size(summary.disk_bytes)}, in {console.duration(summary.seconds)}"
        )
    else:
        console.say(
            "derivatives: nothing to do, "
            + (
                "the one structure is there"
                if summary.n_structures == 1
                else f"all {summary.n_structures} structures are there"
            )
        )
    if summary.n_left_out:
        console.say(
            counted(
                summary.n_left_out,
                "structure with forces has no derivatives, only its energy counts",
                "structures with forces have no derivatives, only their energies count",
            )
        )
    if summary.n_without_forces:
        console.say(counted(summary.n_without_forces, "structure has no forces", "structures have no forces"))
