"""Published parameter sets, for any elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tio2nn.errors import ParameterError
from tio2nn.files.strict_json import quote
from tio2nn.parameters.parameter_set import (
    AngularElements,
    AngularFunction,
    ParameterSet,
    RadialElements,
    RadialFunction,
)
from tio2nn.parameters.recipes import DEFAULT_RECIPE, open_settings
from tio2nn.parameters.validation import known

AUTO = "auto"
"""The default; `choose_functions` chooses the functions once the structures are known."""

TIO2_PRESET = "artrith-urban-2016"
DEFAULT_ELEMENTS = ("Ti", "O")


@dataclass(frozen=True)
class Preset:
    """A parameter set without elements; all radial functions are centered at the atom (R_s = 0).

    Attributes:
        cutoff: Å.
        radial_etas: 1/Å².
        angular_etas: 1/Å²; each with both λ and all ζ.
        zetas: ζ of the angular functions.
        radial_elements, angular_elements: of the parameter set.
        recipe: for network, training and search.
    """

    cutoff: float
    radial_etas: tuple[float, ...]
    angular_etas: tuple[float, ...]
    zetas: tuple[int, ...] = (1, 2, 4)
    radial_elements: RadialElements = "each"
    angular_elements: AngularElements = "pairs"
    recipe: str = DEFAULT_RECIPE


# N. Artrith and A. Urban, Comput. Mater. Sci. 114 (2016) 135
_RADIAL_ETAS = (0.003214, 0.035711, 0.071421, 0.124987, 0.214264, 0.357106, 0.714213, 1.428426)
_ANGULAR_ETAS = (0.000357, 0.028569, 0.089277)
_LAMBDAS = (-1, 1)

PRESETS: dict[str, Preset] = {
    # The functions of Artrith and Urban (2016): 70 features for two elements
    "artrith-urban-2016": Preset(
        cutoff=6.5,
        radial_etas=_RADIAL_ETAS,
        angular_etas=_ANGULAR_ETAS,
    ),
    # Those, and angular functions that are narrower and sharper; for training on many forces
    "extended": Preset(
        cutoff=6.5,
        radial_etas=_RADIAL_ETAS,
        # the last one ends near 3 Å
        angular_etas=(*_ANGULAR_ETAS, 0.25),
        zetas=(1, 2, 4, 8, 16),
    ),
    # The functions of Rili (2024), blind to elements: 14 features; network and training of the paper
    "rili-2024": Preset(
        cutoff=6.5,
        radial_etas=_RADIAL_ETAS,
        angular_etas=(0.028569,),
        radial_elements="blind",
        angular_elements="blind",
        recipe="rili-2024",
    ),
}


def preset(name: str, elements: Sequence[str] = DEFAULT_ELEMENTS) -> ParameterSet:
    """The named preset for these elements, in the order of the features.

    Network, training and search are left to its recipe.

    Raises:
        UsageError: no such preset.
        ParameterError: `elements` are not chemical symbols, or some come twice.
    """
    chosen = PRESETS[known(name, sorted(PRESETS), "preset")]
    radial, angular = functions_of(chosen)
    parameters = ParameterSet(
        elements=symbols(elements),
        cutoff=chosen.cutoff,
        radial_elements=chosen.radial_elements,
        angular_elements=chosen.angular_elements,
        radial=radial,
        angular=angular,
    )
    return open_settings(parameters, chosen.recipe)


def functions_of(chosen: Preset) -> tuple[tuple[RadialFunction, ...], tuple[AngularFunction, ...]]:
    """Radial and angular functions of a preset, ordered by η, then λ, then ζ."""
    angular = itertools.product(chosen.angular_etas, _LAMBDAS, chosen.zetas)
    return (
        tuple(RadialFunction(eta) for eta in chosen.radial_etas),
        tuple(AngularFunction(eta, lambda_, float(zeta)) for eta, lambda_, zeta in angular),
    )


def symbols(elements: Sequence[str]) -> tuple[str, ...]:
    """The elements as a tuple.

    Raises:
        ParameterError: a string, such as "CO", whose letters would count as symbols.
    """
    if isinstance(elements, str):
        raise ParameterError(
            [f"elements: expected a non-empty list of chemical symbols, got {quote(elements)}"]
        )
    return tuple(elements)


def in_published_order(elements: Sequence[str]) -> tuple[str, ...]:
    """Ti and O in the order of the published presets; other elements as given."""
    return DEFAULT_ELEMENTS if are_published(elements) else tuple(elements)


def are_published(elements: Sequence[str]) -> bool:
    """Whether these are Ti and O, for which there are published functions."""
    return set(elements) == set(DEFAULT_ELEMENTS)
