"""Recipes: named sets of fit settings, which fill in what a parameter set leaves open.

A setting that is null in `params.json` is left to the recipe. `resolve` asks the recipe, which may look at what the
training set holds, and gives a set without such gaps: what is fitted, fingerprinted and recorded. The same set and
the same facts always give the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from tio2nn.parameters.auto_recipe import (
    LENGTHS,
    NOTHING_ASKED,
    Asked,
    Overrides,
    auto_settings,
    epochs_with_forces,
    falling,
    optimizer_for,
)
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_parameters import (
    RECIPE_NAMES,
    NetworkParameters,
    TrainingParameters,
    TuningParameters,
)
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.schema import fields, to_json
from tio2nn.parameters.targets import activation_for
from tio2nn.parameters.training_size import Facts
from tio2nn.parameters.validation import known

AUTO = "auto"
DEFAULT_RECIPE = AUTO
"""Of a new project."""

SEARCHING_RECIPES = frozenset({"rili-2024"})
"""Recipes whose settings come out of a search: `tio2nn run` tunes before it trains."""

_DEFAULTS: Overrides = {
    "network": to_json(NetworkParameters()),
    # recipes decide on forces, but not on the other choices of the training data
    "training": {
        field.key: field.default
        for field in fields(TrainingParameters)
        if not field.about.affects & Affects.DATA and field.key not in ("forces", "stress")
    },
}

# What null leaves to a recipe, and what a recipe decides where it is as 0.1.0 wrote it: null has another meaning there.
_WITH_OWN_NULL = {("training", "gradient_clip"), ("training", "final_force_weight")}

# By default a weight of the stress of 0.25, of errors of volume times stress that turn linear at 50 meV/atom, and a
# whitening as if strained by 0.015; docs/results/stress.md has what they come to.
# The weight was chosen before that whitening: on a held-out fifth, 100 epochs of one network of the recipe `auto`, the
# shears of Si and Ge put back, errors of the stress (RMSE) fell by 57, 28 and 38 % on Si, Ge and Li, those of forces
# changed by at most 1 %, of energies (MAE) by -6, +3 and -1 %. A weight of 1: -69, -57 and -41 %, but energies of Ge
# +18 %; 4: energies of Ge +41 %, forces of Si +12, Ge +8, Li +7 %. With the shears as the files have them, the same
# weight was the largest that cost nothing; errors that turn linear at 15 meV/atom were then no better.
# Where structures are few and their cells alike, no weight spares the energies: on 48 cells of seven metals, all of one
# volume, weights of 0.025 and 0.25 were learned to 3.7 and 2.6 meV/Å³, with energies (RMSE) of 10.4 and 8.3 meV/atom
# instead of 6.5. What has to carry the stress there lies in directions that the whitening damps as noise: half of the
# change by dilation, and nothing on Si, Ge and Li. Energies (MAE) and forces (RMSE) over those without stress, and the
# error of the stress (RMSE, meV/Å³), by the strain of the whitening:
#   three training sets of 48 alloys of seven metals, judged by 150 others, 300 epochs
#     0 1.26, 0.91, 3.57; 0.015 1.05, 0.84, 3.33; 0.025 1.02, 0.81, 2.94; 0.05 1.05, 0.76, 2.95; 0.1 1.14, 1.11, 3.84;
#     0.2 1.10, 1.03, 3.94; dilation alone 0.1 1.16, 1.07, 3.97
#     weight 1, 0.025 0.99, 0.82, 2.88; weight 1, 0.05 1.01, 0.83, 3.08; weight 0.06, 0.05 1.03, 0.81, 4.26
#   two training sets of 30 structures of Si, 400 epochs
#     0 0.85, 1.01, 3.01; 0.015 0.83, 0.99, 2.99; 0.025 0.75, 0.97, 2.81
#   193 structures of Li, two divisions, 120 epochs
#     0 0.96, 1.01, 0.29; 0.015 0.97, 1.03, 0.29; 0.03 1.01, 1.10, 0.31
_FORCES: Overrides = {
    "network": {"hidden_layers": [80, 80, 80]},
    "training": {
        "forces": True,
        "force_weight": 4.0,
        "epochs": 300,
        "batch_size": 16,
        "weight_decay": 0.0,
        "weight_averaging": 0.995,
    },
}

# J. P. Rili (2024): one subnet for the atoms of all elements, trained on totals; activation not stated; the search over
# 54 settings
_RILI_2024: Overrides = {
    "network": {"hidden_layers": [64] * 5, "activation": "tanh", "dropout": 0.0, "shared_subnet": True},
    "training": {
        "forces": False,
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
    "tuning": to_json(TuningParameters()),
}

_FIXED: dict[str, Overrides] = {
    "default": {},
    # enough to see the method work on a few hundred structures
    "quick": {"training": {"epochs": 60}},
    "forces": _FORCES,
    # networks whose errors cancel in part; what each choice bought is in docs/results/accuracy.md
    "record": {
        "network": {"hidden_layers": [128, 128]},
        "training": {**_FORCES["training"], "epochs": 400, "members": 4},
    },
    "rili-2024": _RILI_2024,
}


def known_recipe(name: str) -> str:
    """Return the name if there is such a recipe.

    Raises:
        UsageError: no such recipe.
    """
    return known(name, sorted(RECIPE_NAMES), "recipe")


def settings_of(name: str, facts: Facts, asked: Asked = NOTHING_ASKED) -> Overrides:
    """All settings of network and training that a recipe decides, and its settings of the search.

    Args:
        name: of the recipe.
        facts: of the training set, without forces where they are not used.
        asked: what is not for the recipe to decide.

    Raises:
        UsageError: no such recipe.
    """
    if known_recipe(name) == AUTO:
        changes = auto_settings(facts, asked)
    else:
        changes = _record(facts, asked) if name == "record" else _FIXED[name]
    return deepcopy(
        {
            section: {**_DEFAULTS.get(section, {}), **changes.get(section, {})}
            for section in {**_DEFAULTS, **changes}
        }
    )


# Whitening floor of `record` up to so many structures; it falls with the power 1.5 of their number, to a least one.
# With the 136 functions of `extended`, one network, structures of TiO2, errors on the 600 held out (MAE and RMSE of
# energies, meV/atom; RMSE of forces, eV/Å):
#   1,140 structures, 200 epochs: 1e-4 1.42, 6.06, 0.130; 1e-5 1.64, 6.42, 0.131
#   5,157 structures, 100 epochs: 1e-4 0.68, 1.27, 0.090; 1e-5 0.64, 1.15, 0.087; 3e-6 0.74, 1.55, 0.093; on the
#     validation set 0.70, 1.33, 0.090; 0.69, 1.58, 0.084; 0.67, 1.23, 0.086
#   5,157 structures, the whole recipe: 1e-4 0.46, 0.96, 0.072; 1e-5 0.44, 0.96, 0.072
_FLOOR_OF_RECORD, _LEAST_FLOOR_OF_RECORD, _FEW_FOR_RECORD, _POWER_OF_FLOOR = 1e-4, 1e-5, 1_200, 1.5


def _record(facts: Facts, asked: Asked) -> Overrides:
    """The recipe `record` for this training set."""
    network, training = (_FIXED["record"][section] for section in ("network", "training"))
    if optimizer_for(facts, asked) == "muon":
        # TiO2, 5,157 structures, errors as below and CPU time: 0.39, 0.84, 0.068, 16 min; 400 epochs of Adam 0.44,
        # 0.96, 0.072, 31 min
        batch = min(LENGTHS["muon"].largest_batch, facts.n_structures)
        epochs = epochs_with_forces(facts, batch, "muon")
        training = {**training, "optimizer": "muon", "batch_size": batch, "epochs": epochs}
    floor = falling(
        facts.n_structures, _FLOOR_OF_RECORD, _FEW_FOR_RECORD, _POWER_OF_FLOOR, _LEAST_FLOOR_OF_RECORD
    )
    return {
        "network": {**network, "whitening_floor": floor},
        "training": training,
    }


def forces_of(parameters: ParameterSet) -> bool | str:
    """Whether a fit with these parameters uses forces: true, false, or auto (if structures have them)."""
    own = parameters.training.forces
    if own != "auto":
        return own
    of_recipe: bool | str = _FIXED.get(parameters.recipe, {}).get("training", {}).get("forces", "auto")
    return of_recipe


def uses_forces(parameters: ParameterSet, n_structures_with_forces: int, doubts: Sequence[str] = ()) -> bool:
    """Whether a fit with these parameters uses forces.

    Args:
        parameters: before or after their recipe sets what they leave open.
        n_structures_with_forces: in the training set.
        doubts: as in `Facts`.
    """
    forces = forces_of(parameters)
    return n_structures_with_forces > 0 and "forces" not in doubts if forces == "auto" else bool(forces)


def uses_stress(parameters: ParameterSet, n_structures_with_stress: int, doubts: Sequence[str] = ()) -> bool:
    """As `uses_forces`, of stresses."""
    asked = parameters.training.stress
    if asked == "auto":
        is_right = "stress" not in doubts
        return n_structures_with_stress > 0 and is_right and forces_of(parameters) is not False
    return bool(asked)


def stress_of(parameters: ParameterSet, facts: Facts) -> bool | str:
    """What a fit with these parameters learns of the stress: true for all of it, false, or its "diagonal" alone."""
    asked = parameters.training.stress
    if not uses_stress(parameters, facts.n_structures_with_stress, facts.doubts):
        return False
    return "diagonal" if asked == "diagonal" or (asked == "auto" and "shears" in facts.doubts) else True


def resolve(parameters: ParameterSet, facts: Facts) -> ParameterSet:
    """The parameters with every open setting filled in by their recipe.

    Args:
        parameters: their own settings are kept.
        facts: of the training set.
    """
    forces = uses_forces(parameters, facts.n_structures_with_forces, facts.doubts)
    used = facts if forces else facts.without_forces
    training = parameters.training
    asked = Asked(training.members, training.optimizer, parameters.target)
    decided = settings_of(parameters.recipe, used, asked)
    stress = stress_of(parameters, facts)
    changes: Overrides = {"training": {"forces": forces, "stress": stress}}
    for section in ("network", "training"):
        for key, value in decided[section].items():
            own = getattr(getattr(parameters, section), key)
            if key == "activation":
                value = activation_for(parameters.target, value)
            if own is None or ((section, key) in _WITH_OWN_NULL and own == _default(section, key)):
                changes.setdefault(section, {})[key] = value
    changed = parameters.with_overrides(**changes)
    grid = {**_grid_around(changed), **decided.get("tuning", {})}
    return changed.with_overrides(
        tuning={key: value for key, value in grid.items() if getattr(parameters.tuning, key) is None}
    )


def with_recipe(parameters: ParameterSet, name: str) -> ParameterSet:
    """The parameters with another recipe and the settings that the user made.

    Where the set is one of the recipe `default`, as all are that name none, what it has of that recipe is not the
    user's own, and is left open where the other one sets it.

    Raises:
        UsageError: no such recipe.
    """
    changes: Overrides = {}
    if parameters.recipe == "default":
        decides_all = known_recipe(name) == AUTO
        set_by_other = {"training": {"forces": "auto"}} if decides_all else _FIXED[name]
        for section in _DEFAULTS:
            for field in fields(type(getattr(parameters, section))):
                own = getattr(getattr(parameters, section), field.name)
                if own != field.default:
                    continue
                if field.about.by_recipe:
                    changes.setdefault(section, {})[field.key] = None
                elif field.key == "forces" and "forces" in set_by_other.get(section, {}):
                    changes.setdefault(section, {})[field.key] = "auto"
    return parameters.with_overrides(recipe=known_recipe(name), **changes)


def open_settings(parameters: ParameterSet, name: str) -> ParameterSet:
    """The parameters with every setting that a recipe can decide left to the named one.

    Raises:
        UsageError: no such recipe.
    """
    changes: Overrides = {"training": {"forces": "auto", "stress": "auto"}}
    for section in ("network", "training", "tuning"):
        for field in fields(type(getattr(parameters, section))):
            if field.about.by_recipe:
                changes.setdefault(section, {})[field.key] = None
    return parameters.with_overrides(recipe=known_recipe(name), **changes)


# Epochs of a trial as a fraction of those of the fit: twelve trials cost as much as three fits.
_TRIAL_EPOCHS = 0.25


def _grid_around(parameters: ParameterSet) -> Mapping[str, Any]:
    """The resolved settings and their neighbors: one layer less, other widths, half the learning rate."""
    layers = parameters.network.hidden_layers or (1,)
    nodes = max(layers)
    return {
        "layers": sorted({max(1, len(layers) - 1), len(layers)}),
        "nodes": sorted({max(1, nodes // 2), nodes, math.ceil(nodes * 1.5)}),
        "learning_rate": [parameters.training.learning_rate, parameters.training.learning_rate / 2],
        "dropout": [parameters.network.dropout],
        "epochs": max(1, round(_TRIAL_EPOCHS * parameters.training.epochs)),
    }


def _default(section: str, key: str) -> Any:
    return _DEFAULTS[section][key]
