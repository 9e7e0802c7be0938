"""Published parameter sets, for any elements, and named ways to train."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tio2nn.errors import UsageError
from tio2nn.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.parameters import AngularFunction, ParameterSet, RadialFunction
from tio2nn.schema import to_json
from tio2nn.strict_json import quote
from tio2nn.validation import did_you_mean

DEFAULT_PRESET = "artrith-urban-2016"
DEFAULT_ELEMENTS = ("Ti", "O")

Overrides = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Preset:
    """A parameter set but for its elements; all radial functions have their center at the atom.

    Attributes:
        cutoff: Å.
        radial_etas: 1/Å².
        angular_etas: 1/Å²; each with both λ and all ζ.
        zetas: ζ of the angular functions.
        radial_elements, angular_elements: of the parameter set.
        recipe: for network and training.
    """

    cutoff: float
    radial_etas: tuple[float, ...]
    angular_etas: tuple[float, ...]
    zetas: tuple[int, ...] = (1, 2, 4)
    radial_elements: str = "each"
    angular_elements: str = "pairs"
    recipe: str = "default"


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

# A recipe says how to fit, not what to fit on: division, energy limit and seed stay those of the project.
_DATA_FIELDS = ("validation_fraction", "test_fraction", "split", "max_energy", "seed")

_DEFAULTS: Overrides = {
    "network": to_json(NetworkParameters()),
    "training": {
        key: value for key, value in to_json(TrainingParameters()).items() if key not in _DATA_FIELDS
    },
}

_FORCES: Overrides = {
    "network": {**_DEFAULTS["network"], "hidden_layers": [80, 80, 80]},
    "training": {
        **_DEFAULTS["training"],
        "forces": True,
        "force_weight": 4.0,
        "epochs": 300,
        "batch_size": 16,
        "weight_decay": 0.0,
        "weight_averaging": 0.995,
    },
}

# J. P. Rili (2024): one subnet for the atoms of all elements, trained on totals; activation not stated
_RILI_2024: Overrides = {
    "network": {"hidden_layers": [64] * 5, "activation": "tanh", "dropout": 0.0, "shared_subnet": True},
    "training": {
        "epochs": 80,
        "batch_size": 20,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup_epochs": 0,
        "gradient_clip": None,
        "loss": "mae",
        "loss_target": "total",
        "weight_decay": 0.0,
        "weight_averaging": 0.0,
    },
}

RECIPES: dict[str, Overrides] = {
    "default": _DEFAULTS,
    # enough to see the method work on a few hundred structures
    "quick": {"training": {"epochs": 60}},
    "forces": _FORCES,
    # networks whose errors cancel in part; what each choice bought is in the README
    "record": {
        "network": {**_FORCES["network"], "hidden_layers": [128, 128], "whitening_floor": 1e-3},
        "training": {**_FORCES["training"], "epochs": 400, "members": 4},
    },
    "rili-2024": {section: {**_DEFAULTS[section], **_RILI_2024[section]} for section in _DEFAULTS},
}

SEARCHING_RECIPES = frozenset({"rili-2024"})
"""Recipes whose settings come out of a search: `tio2nn run` tunes before it trains."""


def preset(name: str, elements: Sequence[str] = DEFAULT_ELEMENTS) -> ParameterSet:
    """The parameter set of that name for `elements`, whose order is that of the features.

    Raises:
        UsageError: no such preset.
        ParameterError: `elements` are not chemical symbols, or some come twice.
    """
    chosen = PRESETS[_known(name, PRESETS, "preset")]
    functions = itertools.product(chosen.angular_etas, _LAMBDAS, chosen.zetas)
    parameters = ParameterSet(
        elements=tuple(elements),
        cutoff=chosen.cutoff,
        radial_elements=chosen.radial_elements,
        angular_elements=chosen.angular_elements,
        radial=tuple(RadialFunction(eta) for eta in chosen.radial_etas),
        angular=tuple(AngularFunction(eta, lambda_, float(zeta)) for eta, lambda_, zeta in functions),
    )
    return apply_recipe(parameters, chosen.recipe)


def recipe(name: str) -> Overrides:
    """The fields of the sections `network` and `training` that the recipe of that name sets.

    Raises:
        UsageError: no such recipe.
    """
    return deepcopy(RECIPES[_known(name, RECIPES, "recipe")])


def apply_recipe(parameters: ParameterSet, name: str) -> ParameterSet:
    """`parameters` with what the recipe of that name sets.

    Raises:
        UsageError: no such recipe.
    """
    return parameters.with_overrides(**recipe(name))


def _known(name: str, names: Collection[str], kind: str) -> str:
    if name in names:
        return name
    known = ", ".join(sorted(names))
    raise UsageError(f"{kind}: expected one of {known}, got {quote(name)}{did_you_mean(name, names)}")
