"""Programs for which a potential is made: what they can express, and what is chosen for them.

Symmetry functions need no choice: sums over all elements, weighted or not, are written out for CP2K and aenet, which
know only functions of one element or pair (`tio2nn.export.functions`). What differs is the activation. LAMMPS (n2p2)
has no SiLU; CP2K has softplus, but a wrong derivative of it; aenet has neither.

What was tried, errors of energies and forces (MAE in meV/atom, RMSE in eV/Å) on a random quarter, networks of 60-60,
seeds 0 and 1, 100 epochs of the recipe `auto`; sample_data, then 214 cells of Si:

- SiLU 3.1 and 3.2, 0.123 and 0.132; 2.3 and 2.1, 0.107 and 0.106
- softplus 3.9 and 4.3, 0.134 and 0.136; 3.3 and 3.2, 0.118 and 0.118
- tanh 3.8 and 4.1, 0.201 and 0.204; 3.3 and 3.4, 0.141 and 0.145
- sigmoid, sample_data, seed 0: 5.7, 0.193

Seed 0 with 300 epochs on sample_data: SiLU 2.6, 0.143; softplus 2.9, 0.135; tanh 3.2, 0.183. With 200 epochs on Si:
softplus 2.4, 0.106; tanh 2.6, 0.130. With 100-100 nodes on both: softplus 3.8, 0.127 and 3.5, 0.118; tanh 3.3, 0.172
and 3.3, 0.137. So softplus has the smaller errors of forces throughout, by 14 to 34 %, and energies differ either way.
Width and epochs do not change that; they are left to the recipe.
"""

from __future__ import annotations

from typing import Literal, get_args

from tio2nn.errors import InputError
from tio2nn.files.strict_json import quote
from tio2nn.parameters.fit_parameters import Activation
from tio2nn.parameters.validation import known

Target = Literal["lammps", "cp2k", "aenet"]
TARGETS: tuple[Target, ...] = get_args(Target)

NAMES: dict[Target, str] = {"lammps": "LAMMPS", "cp2k": "CP2K", "aenet": "aenet"}
"""For people."""

ACTIVATIONS_OF: dict[Target, frozenset[Activation]] = {
    "lammps": frozenset({"tanh", "softplus", "sigmoid", "relu", "linear"}),
    "cp2k": frozenset({"tanh", "softplus", "sigmoid", "linear"}),
    "aenet": frozenset({"tanh", "sigmoid", "linear"}),
}
"""What each program can express."""

WRONG_FORCES: dict[Target, frozenset[Activation]] = {
    "lammps": frozenset(),
    "cp2k": frozenset({"softplus"}),
    "aenet": frozenset(),
}
"""Of these a program computes right energies and wrong forces."""

# the most accurate that works there
_CHOSEN: dict[Target, Activation] = {"lammps": "softplus", "cp2k": "tanh", "aenet": "tanh"}


def known_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: no such target.
    """
    return known(name, TARGETS, "--for")


def works(target: Target | None, activation: Activation) -> bool:
    """Whether a program computes the right energies and forces with an activation; None for any program."""
    return target is None or activation in ACTIVATIONS_OF[target] - WRONG_FORCES[target]


def activation_for(target: Target | None, wanted: Activation) -> Activation:
    """The activation that is wanted if it works there, else the most accurate one that does."""
    return wanted if target is None or works(target, wanted) else _CHOSEN[target]


def warning_of(target: Target | None, activation: Activation | None) -> str | None:
    """What a program computes wrong with an activation, if anything."""
    if target is None or activation not in WRONG_FORCES[target]:
        return None
    return (
        f"{NAMES[target]} computes right energies but wrong forces from {activation}; train with tanh for it"
    )


def require_expressible(target: Target | None, activation: Activation | None, way_out: str) -> None:
    """Refuse an activation that the target cannot express.

    Args:
        target: of the parameters.
        activation: of the parameters; None if it is left open.
        way_out: the command that changes it.

    Raises:
        InputError: it cannot.
    """
    if target is not None and activation is not None and activation not in ACTIVATIONS_OF[target]:
        raise InputError(
            f'{NAMES[target]}, the "target" in params.json, has no activation {quote(activation)}, only '
            f"{', '.join(sorted(ACTIVATIONS_OF[target]))}; for one that it has run {quote(way_out)}"
        )
