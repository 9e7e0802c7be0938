"""The command run: every step from structure files to an evaluated potential that is missing or stale."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tio2nn import console, fitting, stages
from tio2nn.errors import InputError, UsageError
from tio2nn.parameters import ParameterSet
from tio2nn.presets import DEFAULT_ELEMENTS, SEARCHING_RECIPES, apply_recipe
from tio2nn.project import Project

DEFAULT_DIRECTORY = Path("tio2nn-project")


def run(
    sources: Sequence[str],
    *,
    directory: Path | None,
    preset: str | None,
    elements: tuple[str, ...] | None,
    recipe: str | None,
    tuning: bool | None,
    forces: bool,
    split_file: Path | None,
    limit: int | None,
    jobs: int | None,
) -> tuple[dict[str, Any], bool]:
    """Extract always, for the files may have changed; then what does not fit to the structures any more.

    Args:
        sources: structure files.
        directory: of the project; by default the current one if it has a `params.json`, else a new one in it.
        preset: name of the parameter set of a new project; an existing one must agree.
        elements: of a new project, by default those that the sources hold; an existing one must agree.
        recipe: named settings of the training.
        tuning: search first; None if the recipe decides.
        forces: train on forces, too.
        split_file: a division given by the user.
        limit: number of structures to take.
        jobs: worker processes.

    Returns:
        The metrics of the evaluation, empty if the split keeps nothing for a test, and whether every source could
        be used.

    Raises:
        UsageError: names that do not exist, or an existing project that does not agree; before anything is done.
        InputError: of any step.
    """
    begin = time.perf_counter()
    project = Project(
        directory or (Path() if Project(Path()).parameters_file.exists() else DEFAULT_DIRECTORY)
    )
    _check(project, preset, elements, recipe, split_file)
    project.root.mkdir(parents=True, exist_ok=True)
    with project.locked("run"):
        if elements is not None and not project.parameters_file.exists():
            _create(project, preset, elements)
        if project.parameters_file.exists():
            good = stages.extract(project, sources, limit, project.parameters())
        else:
            # the elements of a new project are those of its structures
            good = stages.extract(project, sources, limit, None)
            _create(project, preset, _elements_of(project))
        stages.featurize(project, jobs)
        tune_first = recipe in SEARCHING_RECIPES if tuning is None else tuning
        if tune_first:
            fitting.tune(project, fitting.training_parameters(project, recipe), jobs, split_file)
        parameters = fitting.training_parameters(project, recipe, tuned=tune_first, forces=forces)
        if parameters.training.forces:
            stages.differentiate(project, jobs)
        if _is_trained(project, parameters, split_file):
            console.say("training: nothing to do, the model fits to structures, split and settings")
        else:
            fitting.train(project, parameters, split_file, jobs=jobs)
        metrics = _evaluate(project)
    console.say(
        f"all done in {console.duration(time.perf_counter() - begin)}; the potential is {project.potential_file}; "
        f"next: tio2nn predict -C {shlex.quote(str(project.root))} FILE..."
    )
    return metrics, good


def _check(
    project: Project,
    preset: str | None,
    elements: tuple[str, ...] | None,
    recipe: str | None,
    split_file: Path | None,
) -> None:
    """Refuse now what a later step would refuse after the work of the earlier ones."""
    wanted = fitting.preset_parameters(preset, elements)
    if recipe is not None:
        apply_recipe(wanted, recipe)
    if split_file is not None:
        from tio2nn.split import read_parts

        read_parts(split_file)
    if project.root.exists() and not project.root.is_dir():
        raise UsageError(f"{project.root}: expected a project directory, got a file")
    if not project.parameters_file.exists():
        return
    there = project.parameters()
    if preset is not None:
        same = fitting.preset_parameters(preset, elements or there.elements).fingerprint == there.fingerprint
    else:
        same = elements in (None, there.elements)
    if not same:
        raise UsageError(
            f"{project.parameters_file}: expected the parameter set that --preset and --elements name, got "
            "another; choose another directory with -C"
        )


def _create(project: Project, preset: str | None, elements: tuple[str, ...]) -> None:
    Project.create(project.root, fitting.preset_parameters(preset, elements))
    console.say(f"made {project.parameters_file}")


def _evaluate(project: Project) -> dict[str, Any]:
    from tio2nn.split import read_parts

    if "test" not in read_parts(project.split_file).values():
        console.say("evaluation: nothing to do, the split keeps no structures for a test")
        return {}
    metrics, _ = stages.evaluate(project)
    return metrics


def _elements_of(project: Project) -> tuple[str, ...]:
    """Elements of all structures; Ti and O in the order that the presets were published for."""
    from tio2nn.io.store import read_store

    elements = read_store(project.structures_file).elements
    return DEFAULT_ELEMENTS if set(elements) == set(DEFAULT_ELEMENTS) else elements


def _is_trained(project: Project, parameters: ParameterSet, split_file: Path | None) -> bool:
    from tio2nn.derivatives import fresh_layout
    from tio2nn.io.store import read_store
    from tio2nn.io.tables import read_json
    from tio2nn.provenance import changed, inputs_of_model
    from tio2nn.split import read_split

    if not (project.potential_file.exists() and project.training_metrics_file.exists()):
        return False
    try:
        about = read_json(project.training_metrics_file)
        recorded, selection = dict(about["inputs"]), about.get("selection")
    except (InputError, ValueError, KeyError, TypeError):
        return False
    store = read_store(project.structures_file)
    if parameters.training.forces:
        # trained with the derivatives of more structures, or of others, it would be another model
        chosen = fresh_layout(project, parameters, store).selection
        if selection != (None if chosen is None else chosen.digest):
            return False
    if changed(recorded, inputs_of_model(parameters, store, project.split_file)):
        return False
    if split_file is None:
        return True
    settings = (store.names, parameters.training.validation_fraction, parameters.training.seed)
    return read_split(split_file, *settings) == read_split(project.split_file, *settings)
