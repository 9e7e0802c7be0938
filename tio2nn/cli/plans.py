"""Messages about a fit that several commands show: its labels, its cost, and how it compares with a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console
from tio2nn.files.strict_json import quote
from tio2nn.parameters.fit_cost import fit_seconds
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import forces_of, stress_of, uses_forces, uses_stress
from tio2nn.parameters.training_size import Facts
from tio2nn.project.jacobian_store import Selection
from tio2nn.structures.split import Split
from tio2nn.wording import counted, listed, size

if TYPE_CHECKING:
    from tio2nn.evaluation.baseline import Comparison
    from tio2nn.project.project import Project
    from tio2nn.training.dataset import FitData
    from tio2nn.training.windows import Window


def labels_line(parameters: ParameterSet, facts: Facts) -> str:
    """Which labels a fit uses and why, and the option that changes it.

    Args:
        parameters: as requested, before the recipe sets what they leave open.
        facts: of the training set.
    """
    n, n_with = facts.n_structures, facts.n_structures_with_forces
    asked = parameters.training.forces
    if not uses_forces(parameters, n_with, facts.doubts):
        if not n_with:
            return f"training on the energies of {_all(n)}: none has forces"
        if "forces" in facts.doubts and forces_of(parameters) == "auto":
            found = counted(n_with, "structure")
            return f"training on energies alone: the forces of {found} do not match them; --forces uses them anyway"
        reason = "as requested" if asked is False else f"as set by the recipe {parameters.recipe}"
        return f"training on energies alone, {reason}; --forces adds the forces of {counted(n_with, 'structure')}"
    some = "the one that has" if n_with == 1 else f"the {n_with} that have"
    labels = (
        f"energies and forces of {_all(n)}"
        if n_with == n
        else f"the energies of {_all(n)} and the forces of {some} them"
    )
    if asked is True:
        return f"training on {labels}, as requested"
    reason = "" if forces_of(parameters) == "auto" else f", as set by the recipe {parameters.recipe}"
    return f"training on {labels}{reason}; --energies-only leaves the forces out"


def stress_line(parameters: ParameterSet, facts: Facts) -> str | None:
    """Whether a fit uses stresses, of how many structures, and the option that changes it; None where none has one.

    Args:
        parameters: as requested, before the recipe sets what they leave open.
        facts: of the training set.
    """
    n, n_with = facts.n_structures, facts.n_structures_with_stress
    if not n_with:
        return None
    stresses = f"the stress of {_all(n)}" if n_with == n else f"the stress of {n_with} of {n} structures"
    if "stress" in facts.doubts and parameters.training.stress == "auto":
        reason = (
            "which cannot be checked while forces do not match energies; --stress uses it anyway"
            if "forces" in facts.doubts
            else "as stresses do not match energies or forces; --stress uses them anyway"
        )
        return f"training without {stresses}, {reason}"
    if not uses_stress(parameters, n_with):
        return f"training without {stresses}; --stress adds it"
    if stress_of(parameters, facts) == "diagonal":
        reason = (
            "as requested"
            if parameters.training.stress == "diagonal"
            else "as shears do not match energies or forces"
        )
        return f"also training on the diagonal of {stresses}, {reason}; --stress adds the shears"
    reason = ", as requested" if parameters.training.stress is True else "; --no-stress leaves it out"
    return f"also training on {stresses}{reason}"


def without_derivatives_line(n: int, selection: Selection, project: Project) -> str:
    """How many structures train on energies alone because their derivatives would take too much space.

    Args:
        n: number of training structures with forces but without derivatives.
        selection: the structures that have derivatives.
        project: to which they belong.
    """
    train = counted(
        n, "structure with forces trains on its energy", "structures with forces train on their energies"
    )
    where = "" if selection.bound == "limit" else ", where they fit"
    return (
        f"{train} alone: the derivatives of all would not fit into {selection.reason}; "
        f'"{project.command("featurize --forces")}" computes all{where}'
    )


def windows_line(data: FitData, window: Window) -> str:
    """What each epoch reads in windows, because it exceeds the memory for it."""
    labels = (data.train_forces, data.validation_forces, data.train_stress, data.validation_stress)
    n_values = sum(int(own.sizes(window.n_features).sum()) for own in labels if own is not None)
    told = [f"derivatives of {size(4 * n_values)}"] if n_values else []
    if window.has_features:
        n_atoms = sum(int(table.counts.sum()) for table in (data.train, data.validation))
        told.append(f"features of {size(4 * n_atoms * window.n_features)}")
    return (
        f"{listed(told)} exceed the memory for them: on the CPU, each epoch reads them from disk, in "
        f"windows of {size(4 * window.capacity)}; the variable TIO2NN_MEMORY sets another limit, in GB"
    )


def constant_line(constant: Mapping[str, Sequence[str]]) -> str:
    """Which symmetry functions the fit ignores.

    Args:
        constant: names of the functions that are constant over the training atoms, for each subnet that has some.
    """
    counts = ", ".join(f"{len(names)} for {subnet}" for subnet, names in constant.items())
    first = next(name for names in constant.values() for name in names)
    return f"ignoring symmetry functions that are constant over the training atoms: {counts}; for example {first}"


def cost_line(parameters: ParameterSet, facts: Facts) -> str:
    """The number and size of the networks, the epochs, and an estimate of the CPU time.

    Args:
        parameters: completed by their recipe.
        facts: of the training set.
    """
    members, epochs = parameters.training.members, parameters.training.epochs
    layers = parameters.network.hidden_layers
    widths = f"{'-'.join(map(str, layers))} nodes" if layers else "no hidden layer"
    return (
        f"{counted(members, 'network')} of {widths}, {counted(epochs, 'epoch')}, "
        f"recipe {parameters.recipe}: about {_rounded(fit_seconds(parameters, facts))} of CPU time"
    )


def _all(n: int) -> str:
    return f"all {n} structures" if n > 1 else "the one structure"


def _rounded(seconds: float) -> str:
    """An estimated time, to two digits at most."""
    if seconds < 60:
        return f"{max(1, round(seconds, -1 if seconds > 20 else 0)):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else console.duration(60 * round(minutes, -1))


def warn_of_split(split: Split) -> None:
    """Warn if a split file names unknown structures, or if the split of the project was replaced."""
    if unknown := split.unknown:
        console.warn(
            f"the split names {counted(len(unknown), 'structure that was', 'structures that were')} not extracted, "
            f"such as {quote(unknown[0])}"
        )
    if split.replaces_another:
        console.warn(
            "split.csv did not match the structures, so a new split was drawn: earlier test structures may now be "
            "training structures; the earlier split is in split-earlier.csv"
        )


def show_comparison(
    where: str, n: int, comparison: Comparison, facts: Mapping[str, Any], *, mostly_far: bool = False
) -> None:
    """Show whether a fit beats the baseline, which is reference energies alone and zero forces."""
    judged = f"{where}, {counted(n, 'structure')}"
    if sentence := comparison.sentence():
        console.say(f"{judged}: {sentence}")
    if (warning := comparison.warning(facts, mostly_far=mostly_far)) is not None:
        console.warn(f"{judged}: {warning}")
