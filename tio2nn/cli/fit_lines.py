"""What train shows of the data and the errors of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tio2nn.cli import console
from tio2nn.wording import counted, digits, listed

if TYPE_CHECKING:
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.training.data import TrainingData
    from tio2nn.training.history import Epoch
    from tio2nn.training.origin import Begun

_SHOWN_NAMES = 3  # outliers, and structures whose energies are missed


def show_data(snapshot: Snapshot, parameters: ParameterSet, data: TrainingData) -> None:
    """Report what a fit is made from, and what it costs."""
    from tio2nn.cli.plans import (
        constant_line,
        cost_line,
        labels_line,
        stress_line,
        warn_of_split,
        windows_line,
        without_derivatives_line,
    )

    console.say(labels_line(parameters, data.facts))
    if (line := stress_line(parameters, data.facts)) is not None:
        console.say(line)
    console.say(
        f"training on {counted(len(data.train.counts), 'structure')}{_held_out(data)}; reference energies "
        + ", ".join(f"{element} {value:.6f} eV" for element, value in data.reference.as_dict().items())
    )
    if data.begun is not None:
        console.say(begun_line(data.begun))
    console.say(cost_line(data.parameters, data.facts))
    if data.window is not None:
        console.say(windows_line(data, data.window))
    warn_of_split(data.split)
    _tell_left_out(parameters, data)
    _tell_without_test(snapshot, parameters, data)
    if data.selection is not None:
        console.warn(without_derivatives_line(data.n_without_derivatives, data.selection, snapshot.project))
    if data.reference.underdetermined:
        console.warn(
            "the training compositions do not determine the reference energies: total energies of other "
            "compositions will be off"
        )
    if data.constant_features:
        console.warn(constant_line(data.constant_features))


def begun_line(begun: Begun) -> str:
    """What a fit begins from, and how well that does before."""
    new = begun.new_elements
    told = [
        *([f"new networks for {listed(new)}"] if new else []),
        *(
            [f"{counted(begun.start.n_opened, 'function')} that it did not use"]
            if begun.start.n_opened
            else []
        ),
        *(["reference energies shifted, as these labels come from elsewhere"] if begun.are_shifted else []),
    ]
    rmse = f"RMSE on the training set {digits(1000.0 * begun.rmse, 2)} meV/atom"
    return f"beginning from {begun.origin.file} ({rmse}){''.join(f'; {what}' for what in told)}"


def _held_out(data: TrainingData) -> str:
    """How many structures validate and test, and how many a split given by the user leaves out of all sets."""
    from tio2nn.structures.split import LEFT_OUT

    validation, test = (len(data.split.indices(part)) for part in ("validation", "test"))
    unused = data.split.parts.count(LEFT_OUT) - data.n_above_max_energy - len(data.outliers)
    told = [
        *([f"validating on {validation}"] if validation else []),
        *([f"testing on {test}"] if test else []),
        *([f"{unused} not used by the split"] if unused > 0 else []),
    ]
    return "".join(f", {part}" for part in told)


def _tell_left_out(parameters: ParameterSet, data: TrainingData) -> None:
    """Report structures left out, gross outliers that are kept, and a missing validation or test set."""
    from tio2nn.training.splits import FEWEST_TO_TEST

    if data.n_above_max_energy:
        console.say(
            f"leaving out {counted(data.n_above_max_energy, 'structure')} above --max-energy "
            f"{parameters.training.max_energy:g} eV/atom"
        )
    if n := len(data.outliers):
        shown = ", ".join(data.outliers[:_SHOWN_NAMES]) + (" ..." if n > _SHOWN_NAMES else "")
        what = f"{counted(n, 'gross outlier')}, far beyond the energies or forces of the others ({shown})"
        if parameters.training.outliers == "leave-out":
            console.warn(f"{what}: left out of the split; --keep-outliers keeps outliers")
        else:
            console.warn(f'{what}: kept; to leave outliers out, set "outliers": "leave-out" in params.json')
    n_validation, n_test = (len(data.split.indices(part)) for part in ("validation", "test"))
    if not n_validation and not n_test:
        advice = "add structures"
        if parameters.training.split == "grouped" and len(data.split.indices("train")) >= FEWEST_TO_TEST:
            advice = "grouped splits need all of them for training; use --split-by random --new-split"
        console.warn(f"no structures are held out: the accuracy of this potential is unknown; {advice}")
    elif not n_validation:
        console.warn("no validation set: the errors on new structures are unknown during training")


def _tell_without_test(snapshot: Snapshot, parameters: ParameterSet, data: TrainingData) -> None:
    """Report why nothing is kept for a test, unless the user's split or options say so."""
    from tio2nn.training.splits import why_no_test

    n_validation, n_test = (len(data.split.indices(part)) for part in ("validation", "test"))
    if n_validation and not n_test and (reason := why_no_test(parameters, snapshot.structures)):
        console.warn(f"no test set: {reason}")


def errors_of(epoch: Epoch) -> str:
    """RMSE of energies, forces and stresses on the training and validation sets."""
    validation = epoch.validation_rmse_meV_per_atom
    shown = f"RMSE training {digits(epoch.train_rmse_meV_per_atom, 2)}"
    shown += " meV/atom" if validation is None else f", validation {digits(validation, 2)} meV/atom"
    forces = (epoch.train_force_rmse_eV_per_A, epoch.validation_force_rmse_eV_per_A)
    stress = (epoch.train_stress_rmse_meV_per_A3, epoch.validation_stress_rmse_meV_per_A3)
    for pair, decimals, unit in ((forces, 3, "eV/Å"), (stress, 2, "meV/Å³")):
        if pair != (None, None):
            told = pair[:1] if validation is None else pair
            shown += f"; {', '.join(digits(rmse, decimals) for rmse in told)} {unit}"
    return shown


def missed_line(missed: Mapping[str, float], project: Project) -> str:
    """What to do about energies that a fit misses by far.

    Args:
        missed: the residual of each structure, meV/atom, the largest first.
        project: that was trained.
    """
    told = ", ".join(
        f"{name} by {abs(residual):.0f}" for name, residual in list(missed.items())[:_SHOWN_NAMES]
    )
    if len(missed) > _SHOWN_NAMES:
        told += f", ...; all in {project.training_metrics_file}"
    whether, out = (
        ("this calculation is converged and has", "it")
        if len(missed) == 1
        else ("these calculations are converged and have", "them")
    )
    return (
        f"the fit misses {counted(len(missed), 'energy', 'energies')} of its training set by far more than the others "
        f"(meV/atom: {told}): check that {whether} the settings of the others; a weight of 0 in "
        f"{project.energies_file} leaves {out} out"
    )
