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
from tio2nn.presets import SEARCHING_RECIPES
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
    project = _project(sources, directory, make_parameters, preset_is_given)
    good = stages.extract(project, sources, limit)
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


def _project(
    sources: Sequence[str],
    directory: Path | None,
    make_parameters: Callable[[tuple[str, ...]], ParameterSet],
    preset_is_given: bool,
) -> Project:
    here = Path()
    root = directory or (here if Project(here).parameters_file.exists() else DEFAULT_DIRECTORY)
    project = Project(root)
    if not project.parameters_file.exists():
        Project.create(root, make_parameters(_elements_of(sources)))
        console.say(f"made {project.parameters_file}")
    elif preset_is_given:
        wanted = make_parameters(project.parameters().elements)
        if wanted.fingerprint != project.parameters().fingerprint:
            raise InputError(
                "expected the parameter set that --preset and --elements name, got another; "
                "choose another directory with -C",
                file=str(project.parameters_file),
            )
    return project


def _elements_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Elements of all structures, those of Ti and O in the order that the presets were published for."""
    from tio2nn.io import read_structures
    from tio2nn.presets import DEFAULT_ELEMENTS

    found: set[str] = set()
    for item in read_structures(sources):
        if not isinstance(item, InputError):
            found.update(item.elements)
    if not found:
        raise InputError(f"expected structure files, got none that can be read in {' '.join(sources)}")
    return DEFAULT_ELEMENTS if found == set(DEFAULT_ELEMENTS) else tuple(sorted(found))


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
