"""The states of split, search, model and evaluation, from the files that record what they were made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.digests import digest_of_file
from tio2nn.files.tables import count_rows, read_json
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.jacobian_store import Selection
from tio2nn.project.job_parts import PartNotes
from tio2nn.project.parts import BROKEN, EVALUATION, FRESH, MISSING, MODEL, SEARCH, SPLIT, STALE, State
from tio2nn.project.preparation import unfinished_training
from tio2nn.project.project import Project
from tio2nn.structures.split import covers, read_parts
from tio2nn.wording import counted, digits, other

# what reading a damaged or edited file may raise
_UNUSABLE = (InputError, ValueError, KeyError, TypeError, OverflowError)

Inputs = Callable[[], Mapping[str, str]]
"""Computes the present digests of what a fit depends on, which takes time for many structures."""


def changed(recorded: Mapping[str, Any], now: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """The inputs among these names whose digests differ."""
    return tuple(name for name in names if recorded.get(name) != now.get(name))


def read_split(project: Project, names: Sequence[str] | None) -> Mapping[str, str] | State:
    """The set that each structure is in; the state of the split if it is not fresh.

    Args:
        project: may have a split.
        names: of the structures; None if there are none.
    """
    file = project.split_file
    if not file.exists():
        return State(MISSING)
    try:
        parts = read_parts(file)
    except InputError as error:
        return State(BROKEN, str(error))
    if names is not None and not covers(parts, names):
        return State(STALE, "made for other structures", SPLIT.records)
    return parts


def state_of_search(project: Project, inputs: Inputs | None) -> State:
    """The state of the search; `inputs` are those of the present, None without structures."""
    if begun := PartNotes(project.tuning_directory, "search", "").begun:
        return State(MISSING, f"{begun} searched; the command without --part ends the search")
    if not project.trials_file.exists():
        return State(MISSING)
    try:
        trials = counted(count_rows(project.trials_file), "trial")
    except InputError as error:
        return State(BROKEN, str(error))
    if not project.best_trial_file.exists():
        return State(MISSING, f"interrupted after {trials}")
    try:
        best = read_json(project.best_trial_file)
        recorded = dict(best["inputs"])
    except _UNUSABLE as error:
        return State.broken(project.best_trial_file, error)
    if inputs is not None:
        on_forces = best.get("validation_force_rmse_eV_per_A") is not None
        looked_at = [name for name in SEARCH.records if on_forces or name != "forces"]
        others = changed(recorded, inputs(), looked_at)
        if others:
            return State(STALE, f"{trials}; made with {other(others)}", others)
    return State(FRESH, trials)


def state_of_model(
    project: Project, inputs: Inputs | None, fit: ParameterSet | None, selection: Selection | None
) -> State:
    """The state of the model.

    Args:
        project: may have a model.
        inputs: those of the present; None without structures.
        fit, selection: as for `Snapshot.model`.
    """
    if not project.potential_file.exists() or not project.training_metrics_file.exists():
        return State(MISSING, unfinished_training(project))
    try:
        about = read_json(project.training_metrics_file)
        recorded = dict(about["inputs"])
        rmse = about["validation_rmse_meV_per_atom"]
        judged = "not validated" if rmse is None else f"validation RMSE {digits(float(rmse), 2)} meV/atom"
        what = f"{counted(int(about['members']), 'network')}, {judged}"
    except _UNUSABLE as error:
        return State.broken(project.training_metrics_file, error)
    if inputs is not None:
        others = changed(recorded, inputs(), MODEL.of_data if fit is None else MODEL.records)
        # derivatives of more or of other structures would give another model
        digest = None if selection is None else selection.digest
        if fit is not None and fit.training.forces and about.get("selection") != digest:
            others += ("derivatives",)
        if others:
            return State(STALE, f"{what}; trained on {other(others)}", others)
    if unfinished := unfinished_training(project):
        what += f"; a later training was {unfinished}"
    return State(FRESH, what)


def state_of_evaluation(project: Project, model: Callable[[], State]) -> State:
    """The state of the evaluation on a test set; `model` looks at the model."""
    file = project.evaluation_metrics_file
    if not file.exists():
        return State(MISSING)
    try:
        metrics = read_json(file)
        energy = metrics["energy"]
        what = (
            f"{counted(int(metrics['n_structures']), 'structure')}, RMSE {digits(energy['rmse_meV_per_atom'], 2)}, "
            f"MAE {digits(energy['mae_meV_per_atom'], 2)} meV/atom"
        )
    except _UNUSABLE as error:
        return State.broken(file, error)
    if (found := model()).kind != FRESH:
        return State(STALE, f"{what}; the model is {found.kind}", ("model",))
    if metrics.get("potential") != digest_of_file(project.potential_file):
        return State(STALE, f"{what}; of an earlier model", EVALUATION.records)
    return State(FRESH, what)
