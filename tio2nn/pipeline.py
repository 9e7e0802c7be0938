"""The command run: every step from structure files to an evaluated potential that is missing or stale."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tio2nn import console, stages
from tio2nn.errors import InputError
from tio2nn.parameters import ParameterSet
from tio2nn.presets import DEFAULT_ELEMENTS, SEARCHING_RECIPES
from tio2nn.project import Project

DEFAULT_DIRECTORY = Path("tio2nn-project")


def run(
    sources: Sequence[str],
    *,
    directory: Path | None,
    make_parameters: Callable[[tuple[str, ...]], ParameterSet],
    preset_is_given: bool,
    recipe: str | None,
    tuning: bool | None,
    split_file: Path | None,
    limit: int | None,
    jobs: int | None,
) -> tuple[dict[str, Any], bool]:
    """Extract always, for the files may have changed; then what does not fit to the structures any more.

    Args:
        sources: structure files.
        directory: of the project; by default the current one if it has a `params.json`, else a new one in it.
        make_parameters: the parameter set of a new project for the elements that the sources hold.
        preset_is_given: whether the user asked for certain parameters; an existing project must agree.
        recipe: named settings of the training.
        tuning: search first; None if the recipe decides.
        split_file: a division given by the user.
        limit: number of structures to take.
        jobs: worker processes.

    Returns:
        The metrics of the evaluation, and whether every source could be used.
    """
    begin = time.perf_counter()
    project = Project(
        directory or (Path() if Project(Path()).parameters_file.exists() else DEFAULT_DIRECTORY)
    )
    if project.parameters_file.exists():
        if preset_is_given:
            _check_parameters(project, make_parameters)
        good = stages.extract(project, sources, limit, project.parameters())
    else:
        # the elements of a new project are those of its structures
        good = stages.extract(project, sources, limit, None)
        Project.create(project.root, make_parameters(_elements_of(project)))
        console.say(f"made {project.parameters_file}")
    stages.featurize(project, jobs)
    tune_first = recipe in SEARCHING_RECIPES if tuning is None else tuning
    if tune_first:
        stages.tune(project, stages.training_parameters(project, recipe), jobs, split_file)
    parameters = stages.training_parameters(project, recipe, tuned=tune_first)
    if split_file is None and _is_trained(project, parameters):
        console.say("training: nothing to do, the model fits to structures, split and settings")
    else:
        stages.train(project, parameters, split_file)
    metrics, _ = stages.evaluate(project)
    console.say(
        f"all done in {console.duration(time.perf_counter() - begin)}; the potential is {project.potential_file}; "
        f"next: tio2nn predict -C {project.root} FILE..."
    )
    return metrics, good


def _check_parameters(project: Project, make_parameters: Callable[[tuple[str, ...]], ParameterSet]) -> None:
    there = project.parameters()
    if make_parameters(there.elements).fingerprint != there.fingerprint:
        raise InputError(
            "expected the parameter set that --preset and --elements name, got another; "
            "choose another directory with -C",
            file=str(project.parameters_file),
        )


def _elements_of(project: Project) -> tuple[str, ...]:
    """Elements of all structures; Ti and O in the order that the presets were published for."""
    from tio2nn.io.store import read_store

    elements = read_store(project.structures_file).elements
    return DEFAULT_ELEMENTS if set(elements) == set(DEFAULT_ELEMENTS) else elements


def _is_trained(project: Project, parameters: ParameterSet) -> bool:
    from tio2nn.io.store import read_store
    from tio2nn.provenance import changed, inputs_of_model

    if not (project.potential_file.exists() and project.training_metrics_file.exists()):
        return False
    try:
        recorded = json.loads(project.training_metrics_file.read_text(encoding="utf-8"))["inputs"]
    except (ValueError, KeyError):
        return False
    store = read_store(project.structures_file)
    return not changed(recorded, inputs_of_model(parameters, store, project.split_file))
