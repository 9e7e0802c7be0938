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

from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_cost import epoch_seconds, n_batches
from tio2nn.parameters.fit_parameters import (
    RECIPE_NAMES,
    NetworkParameters,
    TrainingParameters,
    TuningParameters,
)
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.schema import fields, to_json
from tio2nn.parameters.targets import Target, activation_for
from tio2nn.parameters.training_size import Facts
from tio2nn.parameters.validation import known

Overrides = dict[str, dict[str, Any]]

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


def settings_of(
    name: str, facts: Facts, target: Target | None = None, members: int | None = None
) -> Overrides:
    """All settings of network and training that a recipe decides, and its settings of the search.

    Args:
        name: of the recipe.
        facts: of the training set, without forces where they are not used.
        target: the program that the potential is for.
        members: how many networks are asked for; None for as many as the recipe decides.

    Raises:
        UsageError: no such recipe.
    """
    changes = auto_settings(facts, target, members) if known_recipe(name) == AUTO else _FIXED[name]
    if name == "record":
        floor = _floor_of_record(facts.n_structures)
        changes = {**changes, "network": {**changes["network"], "whitening_floor": floor}}
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
_FLOOR_OF_RECORD, _LEAST_FLOOR_OF_RECORD, _FEW_FOR_RECORD = 1e-4, 1e-5, 1_200


def _floor_of_record(n_structures: int) -> float:
    falling = float(_FLOOR_OF_RECORD * (_FEW_FOR_RECORD / max(n_structures, 1)) ** 1.5)
    return min(_FLOOR_OF_RECORD, max(_LEAST_FLOOR_OF_RECORD, falling))


# Steps of the optimizer that a fit to energies and forces needs on a small set: with 160 structures each of Si and
# Mo, 3,300 (300 epochs of 11) gave 3.2 and 2.9 meV/atom on a held-out fifth, 12,000 to 17,000 gave 2.7 and 2.0,
# 43,000 no less.
_STEPS_WITH_FORCES = 10_000
# ... and the fewest epochs on a large one, as the recipe `forces` has them for 5,000 structures
_FEWEST_EPOCHS_WITH_FORCES = 300
_STEPS_AN_EPOCH = 20
_SMALLEST_BATCH_WITH_FORCES, _LARGEST_BATCH_WITH_FORCES = 4, 16
# Force components up to which a network of two layers of 60 has smaller errors of held-out forces than three of 80, by
# 3 to 6 % on Si and Mo (30,000 components). TiO2 (300,000) is better off with three of 80, and with two of 128 better
# yet: see `_FEWEST_EPOCHS_OF_FOUR`. On an oxide of five elements (90,000 components; a random fifth held out) four
# networks of 128-128 have 0.97 of the errors of energies of 80-80-80 and 0.99 of those of forces, in 1.15 times the
# time.
_MOST_COMPONENTS_FOR_SMALL = 60_000
# For energies alone: 800 epochs are right for 5,000 structures (65,000 steps), ten times as many need no more steps,
# and ten structures need more than the 800 steps that they would get, but fit them almost exactly in 5,000.
_FEWEST_STEPS, _MOST_STEPS = 2_000, 75_000
# CPU time of a fit: of one network, which a large set may exceed for the sake of `_FEWEST_EPOCHS`, and of a committee.
# Its networks tell by their spread how well they know a structure, and are more accurate together: see `_MOST_MEMBERS`
_MOST_SECONDS, _MOST_SECONDS_TOGETHER = 20 * 60.0, 12 * 60.0
_FEWEST_EPOCHS = 60
# Where there is no time for 300 epochs of four networks, four with fewer epochs, but at least so many, have better
# forces than fewer networks. TiO2, 5,157 structures, 70 functions, 600 others for the test; MAE and RMSE of energies,
# meV/atom, and of forces, eV/Å; CPU time of the training:
#   two of 80-80-80, 300 epochs    0.62, 1.15, 0.0481, 0.0893, 7 to 9 min
#   four of 80-80-80, 190 epochs   0.61, 1.25, 0.0464, 0.0855, 7.9 min
#   four of 128-128, 205 epochs    0.62, 1.21, 0.0457, 0.0837
#   four of 128-128, 190 epochs    0.61, 1.13, 0.0459, 0.0837, 9.8 min
#   four of 128-128, 170 epochs    0.64, 1.21, 0.0465, 0.0850, 8.9 min
#   four of 128-128, 100 epochs    0.74, 1.40, 0.0500, 0.0901, 5.2 min
_FEWEST_EPOCHS_OF_FOUR = 190
# Mean errors over those of two networks on held-out fifths of Ge, Li and Mo, 4 or 5 each (MAE of energies; of forces):
# one network 1.00, 0.99, 1.05; 1.04, 1.01, 1.04; four 0.99, 0.98, 0.98; 0.99, 0.99, 0.98; eight 0.98, 0.99, 0.98; 0.98,
# 0.98, 0.97. An epoch of four takes 1.3 to 1.6 times as long as of two, and they know better how far they may be off.
_MOST_MEMBERS = 4
# other programs compute all symmetry functions again for each network
_MOST_MEMBERS_FOR_OTHERS = 2


def auto_settings(facts: Facts, target: Target | None = None, members: int | None = None) -> Overrides:
    """The recipe `auto`: its changes to the recipe `default` for this training set.

    Args:
        facts: of the training set, without forces where they are not used.
        target: the program that the potential is for.
        members: how many networks are asked for; None to decide.
    """
    network: dict[str, Any] = {}
    training: dict[str, Any] = {"forces": "auto"}
    if facts.n_structures_with_forces:
        is_small = facts.n_force_components <= _MOST_COMPONENTS_FOR_SMALL
        network["hidden_layers"] = [60, 60] if is_small else [128, 128]
        # a weight of forces that falls to 0.5 during the fit: over five random fifths each, errors of energies on
        # Li, Mo, Si and Ge changed by -10, -1, +2 and +4 %, those of forces by +9, +1, +3 and +4 %
        training |= {"force_weight": 4.0, "weight_decay": 0.0, "weight_averaging": 0.995}
        batch = facts.n_structures // _STEPS_AN_EPOCH
        training["batch_size"] = min(
            _LARGEST_BATCH_WITH_FORCES, max(_SMALLEST_BATCH_WITH_FORCES, batch), facts.n_structures
        )
        batches = n_batches(facts, training["batch_size"])
        epochs = max(_FEWEST_EPOCHS_WITH_FORCES, _STEPS_WITH_FORCES // batches)
    else:
        batches = n_batches(facts, _DEFAULTS["training"]["batch_size"])
        steps = batches * _DEFAULTS["training"]["epochs"]
        epochs = min(max(steps, _FEWEST_STEPS), _MOST_STEPS) // batches
    hidden_layers: list[int] = network.get("hidden_layers") or _DEFAULTS["network"]["hidden_layers"]
    most = _MOST_MEMBERS if target is None else _MOST_MEMBERS_FOR_OTHERS
    seconds = [epoch_seconds(facts, hidden_layers, batches, n) for n in range(1, most + 1)]
    epochs = min(epochs, max(_FEWEST_EPOCHS, int(_MOST_SECONDS / seconds[0])))
    together = max(1, sum(epochs * own <= _MOST_SECONDS_TOGETHER for own in seconds))
    of_all = int(_MOST_SECONDS_TOGETHER / seconds[-1])
    may_give_up_epochs = members is None and target is None and facts.n_structures_with_forces > 0
    if may_give_up_epochs and _FEWEST_EPOCHS_OF_FOUR <= of_all < epochs:
        epochs, together = of_all, most
    training |= {"epochs": epochs, "members": together}
    return {"network": network, "training": training}


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
    decided = settings_of(parameters.recipe, used, parameters.target, parameters.training.members)
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
