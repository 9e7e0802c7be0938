"""The command line: each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Optional

import typer

from tio2nn.cli.app import app, command
from tio2nn.cli.options import (
    ElementsOption,
    EnergyKeyOption,
    EpochsOption,
    ForcesKeyOption,
    ForcesOption,
    FormatOption,
    JobsOption,
    JsonOption,
    KeepOutliersOption,
    LimitOption,
    MaxEnergyOption,
    MembersOption,
    NewSplitOption,
    NoTestOption,
    OutputFormat,
    OutputOption,
    PotentialOption,
    PresetOption,
    ProjectOption,
    RecipeOption,
    SeedOption,
    SourcesArgument,
    SplitFileOption,
    SplitKindOption,
    StrictOption,
    TunedOption,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.errors import naming

__all__ = ["app"]


def _elements(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


@command
def init(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Where to make it. Default: the current directory.", show_default=False
        ),
    ] = Path(),
    preset: PresetOption = None,
    elements: ElementsOption = None,
) -> None:
    """Make a project: a directory with a params.json."""
    from tio2nn.cli import fitting

    fitting.init(directory, preset, _elements(elements))


@command
def extract(
    sources: SourcesArgument,
    project: ProjectOption = None,
    limit: LimitOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
) -> bool:
    """Read structure files: energies.csv, the structure store, and an audit of the data."""
    from tio2nn.cli import stages
    from tio2nn.io.labels import ReadOptions
    from tio2nn.project.project import Project

    found = Project.find(project)
    options = ReadOptions(energy_key, forces_key, xsf_forces.value)
    with found.locked("extract"):
        return stages.extract(found, sources, limit, found.parameters_or_draft(), options)


@command
def featurize(
    project: ProjectOption = None,
    jobs: JobsOption = None,
    forces: ForcesOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Also write symXXXX.csv for each structure.")] = False,
) -> None:
    """Compute the symmetry functions of all extracted structures, and what a training on forces needs of them."""
    from tio2nn.cli import fitting, stages
    from tio2nn.project.project import Project

    found = Project.find(project)
    with found.locked("featurize"):
        stages.featurize(found, jobs, csv)
        stages.differentiate_if_needed(found, fitting.training_parameters(found, forces=forces), jobs)


@command
def tune(
    project: ProjectOption = None,
    jobs: JobsOption = None,
    recipe: RecipeOption = None,
    forces: ForcesOption = None,
    split: SplitFileOption = None,
    strategy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--strategy", metavar="NAME", help="grid, random, bayesian or hyperband."),
    ] = None,
    max_trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--max-trials", min=1, metavar="N", help="Largest number of trials."),
    ] = None,
    epochs: EpochsOption = None,
    structures: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--structures", min=2, metavar="N", help="Search on N structures, drawn at random."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search network size, learning rate and dropout; goes on where it was interrupted."""
    from tio2nn.cli import fitting
    from tio2nn.project.project import Project

    found = Project.find(project)
    parameters = fitting.training_parameters(found, recipe, forces=forces)
    flags = {"strategy": strategy, "max_trials": max_trials, "epochs": epochs, "structures": structures}
    with found.locked("tune"):
        best = fitting.tune(found, fitting.with_flags(parameters, "tuning", flags), jobs, split)
    if json:
        _print_json(best)


@command
def train(
    project: ProjectOption = None,
    recipe: RecipeOption = None,
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
    json: JsonOption = False,
) -> None:
    """Fit the potential; goes on where it was interrupted."""
    from tio2nn.cli import fitting
    from tio2nn.project.project import Project

    new = fitting.asks_for_new_split(split, split_by, new_split, no_test)
    found = Project.find(project)
    flags = {"split": split_by, "max_energy": max_energy, "epochs": epochs, "members": members, "seed": seed}
    flags |= fitting.fields_of_switches(no_test, keep_outliers)
    parameters = fitting.training_parameters(found, recipe, tuned, flags, forces)
    with found.locked("train"):
        metrics = fitting.train(found, parameters, split, new, jobs)
    if json:
        _print_json(metrics)


@command
def predict(
    files: SourcesArgument,
    project: ProjectOption = None,
    potential: PotentialOption = None,
    form: FormatOption = OutputFormat.TSV,
    forces: Annotated[
        bool, typer.Option("--forces", help="Also forces and stress; tables then have a line for each atom.")
    ] = False,
    output: OutputOption = None,
    strict: StrictOption = False,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
) -> bool:
    """Predict the energies of structures, and their forces; print them, or write files."""
    from tio2nn.cli import results
    from tio2nn.io.labels import ReadOptions

    options = ReadOptions(energy_key, forces_key, xsf_forces.value)
    return results.predict(
        files, results.potential_file(project, potential), form.value, forces, output, strict, options
    )


@command
def evaluate(
    sources: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="SOURCE",
            help="Labelled structures, as for extract. Default: the test part of the project.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    potential: PotentialOption = None,
    strict: StrictOption = False,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
    json: JsonOption = False,
) -> bool:
    """Measure the errors on structures that were not used in training."""
    from tio2nn.cli import results
    from tio2nn.io.labels import ReadOptions
    from tio2nn.project.project import Project

    options = ReadOptions(energy_key, forces_key, xsf_forces.value)

    found = None if potential is not None and project is None else Project.find(project)
    with nullcontext() if found is None else found.locked("evaluate"):
        metrics, good = results.evaluate(found, sources or [], potential, strict, options)
    if json:
        _print_json(metrics)
    return good


@command
def run(
    sources: SourcesArgument,
    project: ProjectOption = None,
    preset: PresetOption = None,
    elements: ElementsOption = None,
    recipe: RecipeOption = None,
    tuning: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--tune/--no-tune", help="Search first. Default: only with the recipe rili-2024."),
    ] = None,
    forces: ForcesOption = None,
    split: SplitFileOption = None,
    split_by: SplitKindOption = None,
    new_split: NewSplitOption = False,
    no_test: NoTestOption = False,
    max_energy: MaxEnergyOption = None,
    keep_outliers: KeepOutliersOption = False,
    epochs: EpochsOption = None,
    members: MembersOption = None,
    seed: SeedOption = None,
    limit: LimitOption = None,
    jobs: JobsOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
    json: JsonOption = False,
) -> bool:
    """From structure files to an evaluated potential: every step that is missing."""
    from tio2nn.cli import fitting, pipeline
    from tio2nn.io.labels import ReadOptions

    new = fitting.asks_for_new_split(split, split_by, new_split, no_test)
    flags = {"split": split_by, "max_energy": max_energy, "epochs": epochs, "members": members, "seed": seed}
    metrics, good = pipeline.run(
        sources,
        directory=project,
        preset=preset,
        elements=_elements(elements),
        recipe=recipe,
        tuning=tuning,
        forces=forces,
        split_file=split,
        flags=flags | fitting.fields_of_switches(no_test, keep_outliers),
        new_split=new,
        limit=limit,
        jobs=jobs,
        options=ReadOptions(energy_key, forces_key, xsf_forces.value),
    )
    if json:
        _print_json(metrics)
    return good


@command
def status(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Say what the project holds, what is stale, and what to run next."""
    from tio2nn.cli import console
    from tio2nn.project.project import Project
    from tio2nn.workflow.status import status as look

    found = look(Project.find(project))
    if json:
        _print_json(found.as_dict())
        return
    console.print_table(["part", "state", "what"], found.rows())
    console.print_line(found.advice)


@command
def schema(json: Annotated[bool, typer.Option("--json", help="As JSON Schema.")] = False) -> None:
    """Show the fields of params.json: meaning, type, default and unit."""
    from tio2nn.cli import console
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.parameters.schema import describe, json_schema

    if json:
        _print_json(json_schema(ParameterSet, "Parameter set of tio2nn"))
        return
    rows = [(row.path, row.type, row.default, row.unit, row.meaning) for row in describe(ParameterSet)]
    console.print_table(["field", "type", "default", "unit", "meaning"], rows)


def _print_json(value: object) -> None:
    import json

    with naming("stdout"):
        print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201
