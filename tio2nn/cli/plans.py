"""What several commands say of a fit: which labels it uses and why, what it will cost, whether it is worth anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tio2nn.cli import console
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import Facts, fit_seconds, forces_of, uses_forces
from tio2nn.project.jacobian_store import Selection
from tio2nn.structures.split import Split
from tio2nn.wording import counted

if TYPE_CHECKING:
    from tio2nn.evaluation.baseline import Comparison


def labels_line(parameters: ParameterSet, facts: Facts) -> str:
    """Which labels a fit uses, and why; how to have it otherwise.

    Args:
        parameters: as they were asked for, with what is left to their recipe.
        facts: of the training part.
    """
    n, n_with = facts.n_structures, facts.n_structures_with_forces
    asked = parameters.training.forces
    if not uses_forces(parameters, n_with):
        if not n_with:
            return f"training on the energies of {_all(n)}: none has forces"
        reason = "as asked for" if asked is False else f"as the recipe {parameters.recipe} says"
        return f"training on energies alone, {reason}; --forces uses the forces of {counted(n_with, 'structure')}, too"
    some = "the one that has" if n_with == 1 else f"the {n_with} that have"
    labels = (
        f"energies and forces of {_all(n)}"
        if n_with == n
        else f"the energies of {_all(n)} and the forces of {some} them"
    )
    if asked is True:
        return f"training on {labels}, as asked for"
    reason = "" if forces_of(parameters) == "auto" else f", as the recipe {parameters.recipe} says"
    return f"training on {labels}{reason}; --energies-only leaves the forces out"


def without_derivatives_line(n: int, selection: Selection) -> str:
    """What is trained on energies alone because the derivatives of all would be too large.

    Args:
        n: structures of the training part with forces, but without derivatives.
        selection: the structures that have derivatives.
    """
    are = counted(n, "structure with forces is", "structures with forces are")
    return (
        f"{are} trained on by energy alone: the derivatives of all would not fit into {selection.reason}; "
        '"tio2nn featurize --forces" insists'
    )


def constant_line(constant: Mapping[str, Sequence[str]]) -> str:
    """Which functions training cannot use.

    Args:
        constant: for each subnet that has some, the names of functions that do not vary over its training atoms.
    """
    counts = ", ".join(f"{len(names)} for {subnet}" for subnet, names in constant.items())
    first = next(name for names in constant.values() for name in names)
    return f"functions that do not vary over the training atoms are ignored: {counts}; one is {first}"


def cost_line(parameters: ParameterSet, facts: Facts) -> str:
    """How many networks of which size are fitted for how long.

    Args:
        parameters: nothing left to a recipe.
        facts: of the training part.
    """
    members, epochs = parameters.training.members, parameters.training.epochs
    layers = parameters.network.hidden_layers
    size = f"{'-'.join(map(str, layers))} nodes" if layers else "no hidden layer"
    return (
        f"{counted(members, 'network')} of {size}, {counted(epochs, 'epoch')}, "
        f"recipe {parameters.recipe}: about {_rounded(fit_seconds(parameters, facts))} of CPU time"
    )


def _all(n: int) -> str:
    return f"all {n} structures" if n > 1 else "the one structure"


def _rounded(seconds: float) -> str:
    """An estimate has no more than two digits."""
    if seconds < 60:
        return f"{max(1, round(seconds, -1 if seconds > 20 else 0)):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else console.duration(60 * round(minutes, -1))


def warn_of_split(split: Split) -> None:
    """That a given split names others, or that one was replaced."""
    if unknown := split.unknown:
        console.warn(
            f"{counted(len(unknown), 'name')} of the given split {'is' if len(unknown) == 1 else 'are'} of no "
            f"extracted structure, such as {unknown[0]!r}"
        )
    if split.replaces_another:
        console.warn(
            "split.csv was one of other structures and is drawn anew: what was tested before may be trained on now; "
            "the earlier one is split-earlier.csv"
        )


def show_comparison(
    where: str, n: int, comparison: Comparison, facts: Mapping[str, Any], *, mostly_far: bool = False
) -> None:
    """Whether a fit is worth more than reference energies alone, and zero forces."""
    judged = f"{where}, {counted(n, 'structure')}"
    if sentence := comparison.sentence():
        console.say(f"{judged}: {sentence}")
    if (warning := comparison.warning(facts, mostly_far=mostly_far)) is not None:
        console.warn(f"{judged}: {warning}")
