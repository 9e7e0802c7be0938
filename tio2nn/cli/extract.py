"""tio2nn extract."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.key_options import EnergyKeyOption, ForcesKeyOption, StressKeyOption
from tio2nn.cli.options import (
    EnergyOption,
    FormatsOption,
    IsolatedAtomsOption,
    LimitOption,
    ProjectOption,
    RunnerUnitsOption,
    SourcesArgument,
    WhichEnergy,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.errors import InputError
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.files.paths import AnyPath
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.project import Project
    from tio2nn.workflow.extract import ExtractSummary


@command
def extract(
    sources: SourcesArgument,
    project: ProjectOption = None,
    limit: LimitOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
    runner_units: RunnerUnitsOption = None,
    energy: EnergyOption = WhichEnergy.AUTO,
    isolated_atoms: IsolatedAtomsOption = False,
    formats: FormatsOption = False,  # noqa: ARG001
) -> bool:
    """Read structure files into the project and audit the data."""
    from tio2nn.io.labels import ReadOptions
    from tio2nn.project.commands import keep_command
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.parts import STRUCTURES
    from tio2nn.project.project import Project

    found = Project.find(project)
    options = ReadOptions(
        energy_key,
        forces_key,
        xsf_forces.value,
        None if runner_units is None else runner_units.value,
        energy.value,
        stress_key,
    )
    with found.locked("extract"):
        parameters = found.parameters_or_draft()
        used_all = perform(found, sources, limit, parameters, options, isolated_atoms=isolated_atoms)
        keep_command(Snapshot(found), STRUCTURES, sys.argv)
    return used_all


def perform(
    project: Project,
    sources: AnyPath | Iterable[AnyPath],
    limit: int | None,
    parameters: ParameterSet | Draft | None,
    options: ReadOptions | None = None,
    *,
    isolated_atoms: bool = False,
) -> bool:
    """Extract and show the audit; return whether every structure was accepted.

    A draft is completed and written to the `params.json` of the project. Without parameters, as for a new project,
    every element is accepted.
    """
    from tio2nn.structures import zero_forces
    from tio2nn.workflow.extract import extract

    with console.compile_notice("the search for neighbors"):
        summary = extract(
            project,
            sources,
            parameters=parameters,
            limit=limit,
            stdin=sys.stdin,
            options=options,
            isolated_atoms=isolated_atoms,
            track=console.track,
        )
    if summary.audit is None and len(summary.rejected) == 1 and not summary.foreign_elements:
        raise summary.rejected[0]
    console.rejected(summary.rejected)
    foreign = _foreign_elements(project, summary, (parameters.elements if parameters else None) or ())
    if summary.audit is None:
        raise InputError(foreign or _nothing_left(len(summary.rejected)))
    energies = [] if summary.energies is None else [("energies", summary.energies.message())]
    stresses = [] if summary.stresses is None else [("stresses", summary.stresses.fact())]
    console.facts([*summary.audit.facts(), *stresses, *energies])
    for remark in (*summary.remarks, *summary.strange_energies.messages):
        console.warn(remark)
    if summary.n_zero_forces:
        console.warn(zero_forces.message(summary.n_zero_forces))
    if summary.wild_forces:
        console.warn(summary.wild_forces)
    for message in summary.forces.messages:
        console.warn(message)
    if summary.constants is not None:
        console.warn(summary.constants.message())
    for message in [] if summary.stresses is None else summary.stresses.messages():
        console.warn(message)
    if "forces" in summary.doubts:
        console.say("until this is corrected, fits use energies alone; --forces uses the forces anyway")
    elif {"stress", "shears"} & set(summary.doubts):
        learned = (
            "leave the stress out; --stress uses it anyway"
            if "stress" in summary.doubts
            else "learn the diagonal of the stress alone; --stress uses all of it anyway"
        )
        console.say(f"until this is corrected, fits {learned}")
    if summary.rejected:
        n_rejected = counted(len(summary.rejected), "file or structure", "files or structures")
        console.say(f"{n_rejected} rejected; for the reasons see {project.rejected_file}")
    if foreign:
        console.warn(foreign)
    if summary.n_weights:
        were = counted(summary.n_weights, "structure")
        console.say(f"the weights of {were} in {project.energies_file} were kept")
    if summary.weights_lost:
        gone = counted(len(summary.weights_lost), "structure is", "structures are")
        first, more = summary.weights_lost[0], ", ..." if len(summary.weights_lost) > 1 else ""
        console.warn(f"{gone} gone from {project.energies_file} with the weights given there: {first}{more}")
    if summary.choices:
        console.facts(summary.choices)
        console.say(
            f"wrote elements, cutoff and symmetry functions to {project.parameters_file}; edit that file to change them"
        )
    return not summary.rejected


def _nothing_left(n_rejected: int) -> str:
    """Why there is no structure, in a run that has named the reasons for each rejection before."""
    if not n_rejected:
        return "expected at least one structure with an energy, got none"
    were = counted(n_rejected, "file or structure was", "files or structures were")
    return f"expected at least one structure to use, got none: {were} rejected for the reasons above"


def _foreign_elements(project: Project, summary: ExtractSummary, elements: Sequence[str]) -> str:
    """Why structures with other elements were rejected, and what to do; "" if none were."""
    if not summary.foreign_elements:
        return ""
    n = summary.n_foreign
    return (
        f"{counted(n, 'structure')} rejected for elements ({', '.join(summary.foreign_elements)}) that are not in "
        f"{project.parameters_file} ({', '.join(elements)}); add them there and extract again, or make a new project "
        'with "tio2nn init DIR", which takes the elements from the structures'
    )
