"""Settings of a fit: what the parameter set, a recipe, a search and the command line say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tio2nn.errors import ParameterError, UsageError
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import DERIVATIVES, FEATURES, SEARCH, STALE
from tio2nn.project.project import Project


def training_parameters(
    project: Project | Snapshot,
    recipe: str | None = None,
    tuned: bool = False,
    training: Mapping[str, Any] | None = None,
    forces: bool | None = None,
) -> ParameterSet:
    """`params.json`, changed by tuning and flags, the rest left to its recipe or to another one.

    A set that names no recipe and leaves forces out is fitted to them, if they are asked for and no recipe is, by the
    recipe of that name.

    Args:
        project: whose parameters.
        recipe: another than that of the parameters.
        tuned: take the best trial of the search.
        training: settings of the training, None for those that are not given.
        forces: insist on forces, or leave them out; None for neither.
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

        parameters = parameters.with_overrides(**read_best(project.require(project.best_trial_file)))
    return with_flags(parameters, "training", {**(training or {}), "forces": forces})


def stale_search(snapshot: Snapshot) -> str | None:
    """What the search of a project was made with that is not so today, if anything."""
    found = snapshot.state(SEARCH)
    return found.what if found.kind == STALE else None


def with_flags(parameters: ParameterSet, section: str, flags: Mapping[str, Any]) -> ParameterSet:
    """The parameters with a section's fields as the command line gives them; None for what it does not.

    Raises:
        UsageError: a value that the field does not take.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return parameters.with_overrides(**{section: given})
    except ParameterError as error:
        raise UsageError(str(error)) from None


def asks_for_new_split(split_file: Path | None, kind: str | None, new: bool, no_test: bool) -> bool:
    """Whether --split-by, --new-split or --no-test is given.

    Raises:
        UsageError: beside a split of the user's own, which says all of that.
    """
    asked = kind is not None or new or no_test
    if split_file is not None and asked:
        raise UsageError("expected --split, or else --split-by, --new-split or --no-test, got both")
    return asked


def fields_of_switches(no_test: bool, keep_outliers: bool) -> dict[str, Any]:
    """Fields of the training that --no-test and --keep-outliers set; None for those that are not given."""
    return {"test_fraction": 0.0 if no_test else None, "outliers": "keep" if keep_outliers else None}


def require_features(snapshot: Snapshot, parameters: ParameterSet) -> None:
    """Say what is missing before TensorFlow takes its seconds to start.

    Raises:
        MissingInputError, StaleError, InputError: with the command that makes it.
    """
    snapshot.require(FEATURES)
    if snapshot.needs_derivatives(parameters):
        way_out = "" if parameters.training.forces is True else ", or train with --energies-only"
        snapshot.require(DERIVATIVES, otherwise=way_out)
