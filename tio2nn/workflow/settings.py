"""Settings of a fit, from the parameter set, a recipe, tuning and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError, ParameterError, UsageError
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.targets import Target, require_expressible
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import DERIVATIVES, FEATURES, SEARCH, STALE, STRAINS
from tio2nn.project.project import Project
from tio2nn.structures.split import read_parts
from tio2nn.workflow.inputs import PROJECTS_OWN, SplitRequest

# fields whose options have other names
_OPTIONS = {"split": "split-by", "test_fraction": "no-test", "outliers": "keep-outliers"}


def training_parameters(
    project: Project | Snapshot | AnyPath,
    recipe: str | None = None,
    tuned: bool = False,
    training: Mapping[str, Any] | None = None,
    forces: bool | None = None,
    stress: bool | None = None,
) -> ParameterSet:
    """The parameters of a project with changes from tuning and the command line; the recipe is not yet applied.

    If forces are requested without a recipe, and the parameters have neither a recipe nor forces, the recipe "forces"
    is used.

    Args:
        project: project with parameters.
        recipe: recipe to use instead of that of the parameters.
        tuned: use the best trial of the search.
        training: fields of the training section; None for those not given.
        forces: train on forces, or on energies alone; None to keep the setting.
        stress: train on the stress, or without it; None to keep the setting, or, with energies alone, without it.

    Raises:
        InputError: the program that the potential is made for cannot express it.
    """
    from tio2nn.parameters.recipes import with_recipe

    snapshot = Snapshot.of(project)
    project, parameters = snapshot.project, snapshot.parameters
    if forces and recipe is None and (parameters.recipe, parameters.training.forces) == ("default", False):
        recipe = "forces"
    if recipe is not None:
        parameters = with_recipe(parameters, recipe)
    if tuned:
        from tio2nn.tuning.trials import read_best

        best = read_best(project.existing_file(project.best_trial_file), project.command("tune"))
        parameters = parameters.with_overrides(**best)
    require_expressible(
        parameters.target,
        parameters.network.activation,
        project.command(f"train --for {parameters.target}"),
    )
    if forces is False and stress is None and _insists_on_stress(parameters):
        stress = False
    return with_flags(parameters, "training", {**(training or {}), "forces": forces, "stress": stress})


def set_target(project: Project, target: Target) -> None:
    """Write into `params.json` for which program the potential is made.

    An activation that does not work there is left to the recipe.
    """
    from tio2nn.files.atomic import atomic_write
    from tio2nn.files.strict_json import format_json, load
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.schema import to_json
    from tio2nn.parameters.validation import SCHEMA_KEY

    there = project.parameters_or_draft()
    changed = there.for_target(target)
    if changed == there:
        return
    if isinstance(changed, Draft):
        text = changed.to_json()
    else:
        document = load(project.parameters_file)
        schema = {
            key: document[key] for key in (SCHEMA_KEY,) if isinstance(document, dict) and key in document
        }
        text = format_json({**schema, **to_json(changed)})
    with atomic_write(project.parameters_file) as handle:
        handle.write(text)


def stale_search(snapshot: Snapshot) -> str | None:
    """What has changed since the search of a project, or None if it is up to date."""
    found = snapshot.state(SEARCH)
    return found.what if found.kind == STALE else None


def with_flags(parameters: ParameterSet, section: str, flags: Mapping[str, Any]) -> ParameterSet:
    """The parameters with fields of a section set from the command line; None values are ignored.

    Raises:
        UsageError: a value is invalid for its field.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return parameters.with_overrides(**{section: given})
    except ParameterError as error:
        told = [_naming_the_option(problem, section, given) for problem in error.problems]
        raise UsageError("; ".join(told)) from None


def _naming_the_option(problem: str, section: str, given: Mapping[str, Any]) -> str:
    """The problem of a field, in terms of the option that set it."""
    path, separator, reason = problem.partition(": ")
    for name in given:
        if path == f"{section}.{name}":
            option = _OPTIONS.get(name, name.replace("_", "-"))
            return f"--{option}{separator}{reason}"
    return problem


def asks_for_new_split(split_file: Path | None, kind: str | None, new: bool, no_test: bool) -> bool:
    """Whether --split-by, --new-split or --no-test is given.

    Raises:
        UsageError: one of them is combined with --split.
    """
    asked = kind is not None or new or no_test
    if split_file is not None and asked:
        raise UsageError("--split cannot be combined with --split-by, --new-split or --no-test")
    return asked


def split_request(split: SplitRequest | AnyPath | None) -> SplitRequest:
    """The request itself, that for a split file, or, with None, that for the split of the project.

    Raises:
        TypeError: something else.
    """
    if split is None:
        return PROJECTS_OWN
    if isinstance(split, SplitRequest):
        return split
    if not isinstance(split, (str, os.PathLike)):
        raise TypeError(f"split: expected a SplitRequest, the path of a file, or None, got {split!r}")
    return SplitRequest(split)


def fields_of_switches(no_test: bool, keep_outliers: bool) -> dict[str, Any]:
    """Fields of the training section for --no-test and --keep-outliers; None for options not given."""
    return {"test_fraction": 0.0 if no_test else None, "outliers": "keep" if keep_outliers else None}


def _insists_on_stress(parameters: ParameterSet) -> bool:
    """Whether the stress, or its diagonal, is required even where structures lack it."""
    return parameters.training.stress in (True, "diagonal")


def require_stress(snapshot: Snapshot, parameters: ParameterSet) -> None:
    """Refuse a fit that must train on the stress where no structure has one, before anything is computed for it.

    Raises:
        InputError: no structure has one.
    """
    if _insists_on_stress(parameters) and not snapshot.structures.has_bulk_stress.any():
        raise InputError(
            "expected structures with a stress, periodic along all axes, got none: use --no-stress, or set "
            'training.stress to "auto" in params.json',
            file=str(snapshot.project.structures_file),
        )


def require_features(snapshot: Snapshot, parameters: ParameterSet, split: Path | None = None) -> None:
    """Require what a fit reads, before TensorFlow takes seconds to start.

    Args:
        snapshot: needs features, and derivatives for training on forces and stress.
        parameters: of the fit.
        split: file of the split, if the user gave one; it must be readable.

    Raises:
        MissingInputError, StaleError, InputError: the message names the command to run; or as `require_stress`.
    """
    if split is not None:
        read_parts(split)
    _ = snapshot.structures  # with weights
    require_stress(snapshot, parameters)
    snapshot.require(FEATURES)
    if snapshot.needs_derivatives(parameters):
        way_out = "" if parameters.training.forces is True else ", or train with --energies-only"
        snapshot.require(DERIVATIVES, otherwise=way_out)
    if snapshot.needs_strains(parameters):
        way_out = "" if _insists_on_stress(parameters) else ", or train with --no-stress"
        snapshot.require(STRAINS, otherwise=way_out)
