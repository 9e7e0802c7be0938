"""The command run: every step from structure files to an evaluated potential that is missing or stale."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tio2nn.cli import console, fitting, results, stages
from tio2nn.errors import InputError, UsageError
from tio2nn.io.labels import ReadOptions
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import in_published_order
from tio2nn.parameters.recipes import SEARCHING_RECIPES, known_recipe
from tio2nn.project.project import Project

DEFAULT_DIRECTORY = Path("tio2nn-project")


def run(
    sources: Sequence[str],
    *,
    directory: Path | None,
    preset: str | None,
    elements: tuple[str, ...] | None,
    recipe: str | None,
    tuning: bool | None,
    forces: bool | None,
    split_file: Path | None,
    flags: dict[str, Any],
    new_split: bool,
    limit: int | None,
    jobs: int | None,
    options: ReadOptions | None = None,
) -> tuple[dict[str, Any], bool]:
    """Extract always, for the files may have changed; then what does not fit to the structures any more.

    Args:
        sources: structure files.
        directory: of the project; by default the current one if it has a `params.json`, else a new one in it.
        preset: name of the parameter set of a new project; an existing one must agree.
        elements: of a new project, by default those that the sources hold; an existing one must agree.
        recipe: decides what the parameters leave open, instead of their own.
        tuning: search first; None if the recipe decides.
        forces: insist on forces, or leave them out; None for neither.
        split_file: a split given by the user.
        flags: fields of the training as the command line gives them; None for what it does not.
        new_split: a split by the settings, whatever the project has.
        limit: number of structures to take.
        jobs: worker processes.
        options: how structure files are to be understood.

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
    parameters = _check(project, preset, elements, recipe, split_file, flags)
    project.root.mkdir(parents=True, exist_ok=True)
    with project.locked("run"):
        if parameters is None:
            # a preset with a name, for the elements of the structures
            good = stages.extract(project, sources, limit, None, options)
            _create(project, preset, _elements_of(project))
        else:
            if isinstance(parameters, ParameterSet) and not project.parameters_file.exists():
                _create(project, preset, parameters.elements)
            good = stages.extract(project, sources, limit, parameters, options)
        _require_enough(project)
        stages.featurize(project, jobs)
        parameters = fitting.training_parameters(project, recipe, False, flags, forces)
        stages.differentiate_if_needed(project, parameters, jobs)
        if recipe in SEARCHING_RECIPES if tuning is None else tuning:
            fitting.tune(project, parameters, jobs, split_file)
            parameters = fitting.training_parameters(project, recipe, True, flags, forces)
        if _is_trained(project, parameters, split_file, new_split):
            console.say("training: nothing to do, the model is that of these structures, split and settings")
        else:
            fitting.train(project, parameters, split_file, new_split, jobs)
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
    flags: dict[str, Any],
) -> ParameterSet | Draft | None:
    """Refuse now what a later step would refuse after the work of the earlier ones.

    Returns:
        The parameters to extract with: those of the project, or else what the names say; None where a preset with a
        name waits for the elements.
    """
    wanted = fitting.preset_parameters(preset, elements)
    fitting.with_flags(wanted.settings if isinstance(wanted, Draft) else wanted, "training", flags)
    if recipe is not None:
        known_recipe(recipe)
    if split_file is not None:
        from tio2nn.structures.split import read_parts

        read_parts(split_file)
    if project.root.exists() and not project.root.is_dir():
        raise UsageError(f"{project.root}: expected a project directory, got a file")
    if not project.parameters_file.exists():
        return wanted if isinstance(wanted, Draft) or elements is not None else None
    there = project.parameters_or_draft()
    if isinstance(wanted, Draft):
        # whatever functions are there: auto chooses none where some were chosen
        same = elements is None or there.elements in (None, elements)
    elif isinstance(there, Draft):
        same = False
    else:
        named = fitting.preset_parameters(preset, elements or there.elements)
        same = isinstance(named, ParameterSet) and named.fingerprint == there.fingerprint
    if not same:
        raise UsageError(
            f"{project.parameters_file}: expected the parameter set that --preset and --elements name, got "
            "another; choose another directory with -C"
        )
    if isinstance(there, Draft) and there.elements is None and elements is not None:
        return replace(there, elements=elements)
    return there


def _create(project: Project, preset: str | None, elements: tuple[str, ...]) -> None:
    Project.create(project.root, fitting.preset_parameters(preset, elements))
    console.say(f"made {project.parameters_file}")


def _evaluate(project: Project) -> dict[str, Any]:
    from tio2nn.structures.split import read_parts

    if "test" not in read_parts(project.split_file).values():
        console.say("evaluation: nothing to do, the split keeps no structures for a test")
        return {}
    metrics, _ = results.evaluate(project)
    return metrics


def _elements_of(project: Project) -> tuple[str, ...]:
    """Elements of all structures."""
    from tio2nn.project.structure_store import read_store

    return in_published_order(read_store(project.structures_file).elements)


def _require_enough(project: Project) -> None:
    """Refuse what no fit can be made of before anything is computed."""
    from tio2nn.project.structure_store import read_store
    from tio2nn.training.data import FEWEST_TO_TRAIN

    if (n := len(read_store(project.structures_file))) < FEWEST_TO_TRAIN:
        raise InputError(f"expected at least {FEWEST_TO_TRAIN} structures to train on, got {n}")


def _is_trained(project: Project, parameters: ParameterSet, split_file: Path | None, new_split: bool) -> bool:
    from tio2nn.files.tables import read_json
    from tio2nn.project.derivatives import fresh_layout
    from tio2nn.project.facts import needs_derivatives, resolved
    from tio2nn.project.provenance import changed, inputs_of_model
    from tio2nn.project.structure_store import read_store
    from tio2nn.structures.split import covers
    from tio2nn.training.data import drawn_split, given_split, own_split

    made = (project.potential_file, project.training_metrics_file, project.split_file)
    if not all(file.exists() for file in made):
        return False
    try:
        about = read_json(project.training_metrics_file)
        recorded, selection = dict(about["inputs"]), about.get("selection")
    except (InputError, ValueError, KeyError, TypeError):
        return False
    store = read_store(project.structures_file)
    if not covers(project.split_file, store.names):
        return False
    split = own_split(project, store)
    uses_derivatives = needs_derivatives(parameters, store)
    chosen = fresh_layout(project, parameters, store).selection if uses_derivatives else None
    fitted = resolved(parameters, store, split, chosen)
    if changed(recorded, inputs_of_model(fitted, store, project.split_file)):
        return False
    # trained with the derivatives of more structures, or of others, it would be another model
    if fitted.training.forces and selection != (None if chosen is None else chosen.digest):
        return False
    if split_file is None and not new_split:
        return True
    wanted = (
        drawn_split(parameters, store) if split_file is None else given_split(split_file, parameters, store)
    )
    return wanted == split
