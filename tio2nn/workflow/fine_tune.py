"""Fits that begin from a potential: what they take from it, and their schedule."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tio2nn.errors import UsageError
from tio2nn.files.digests import digest_of_file
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.fit_parameters import NetworkParameters, TrainingParameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import DEFAULT_RECIPE, open_settings
from tio2nn.potential.enlarged import require_same_functions
from tio2nn.potential.potential import Potential
from tio2nn.project.facts import resolved
from tio2nn.project.jacobian_store import Selection
from tio2nn.project.preparation import Preparation
from tio2nn.project.project import Project
from tio2nn.project.structure_store import StructureStore
from tio2nn.structures.split import Split
from tio2nn.training.origin import Origin
from tio2nn.workflow.lessons import FineTuning

# Epochs and learning rate, in those of a fit from nothing. 100 structures Ti4O7 and a potential of other oxides: mean
# absolute errors on 300 more of each, meV/atom and meV/Å
# - epochs 0.1, rate 0.25: Ti4O7 7.6, 182; others 32, 115
# - 0.1, 0.5: 6.0, 166; 37, 125
# - 0.25, 0.25: 6.1, 161; 33, 133
# - 0.25, 0.5: 4.9, 155; 42, 142
# - 0.25, 1: 6.0, 163; 72, 159
# - 0.5, 0.1: 5.6, 156; 28, 132
# - from nothing: 15.3, 262
_EPOCHS, _LEARNING_RATE = 0.25, 0.5
# with which these were measured; to decay the weights would be to forget what the potential knows
_AS_MEASURED = {"optimizer": "adam", "weight_decay": 0.0}


def read_origin(file: AnyPath) -> Origin:
    """The potential in a file, to begin from.

    Raises:
        InputError: it is no potential.
    """
    return Origin(Potential.load(file), os.fspath(file), digest_of_file(Path(file)))


def require_origin(lesson: FineTuning, parameters: ParameterSet) -> None:
    """Refuse a potential that a fit cannot begin from, before TensorFlow takes seconds to start.

    Raises:
        InputError, UsageError: as `read_origin` and `resolved_from`.
    """
    begun_from(parameters, read_origin(lesson.potential))


def prepared_origin(preparation: Preparation, project: Project) -> Origin | None:
    """The potential that a prepared fit begins from; None for none.

    Raises:
        InputError: it is gone or damaged.
    """
    if preparation.origin is None:
        return None
    return Origin(Potential.load(preparation.origin_file(project)), *preparation.origin)


def resolved_from(
    parameters: ParameterSet,
    store: StructureStore,
    split: Split,
    selection: Selection | None,
    origin: Origin | None,
) -> ParameterSet:
    """As `tio2nn.project.facts.resolved`, for a fit that begins from a potential or, with None, from nothing.

    The potential determines the networks. Settings of the schedule that the user left open are those of fine-tuning.

    Raises:
        InputError: symmetry functions or elements of the potential are others.
        UsageError: the parameters ask for other networks, or more of them.
    """
    if origin is None:
        return resolved(parameters, store, split, selection)
    parameters = begun_from(parameters, origin)
    found = resolved(parameters, store, split, selection)
    schedule: dict[str, Any] = {}
    if is_open(parameters, "training", "epochs"):
        schedule["epochs"] = max(1, round(_EPOCHS * found.training.epochs))
    if is_open(parameters, "training", "learning_rate"):
        schedule["learning_rate"] = _LEARNING_RATE * found.training.learning_rate
    return found.with_overrides(training=schedule)


def network_of(potential: Potential) -> dict[str, Any]:
    """What the section `network` of parameters must say for networks like those of a potential."""
    layers, subnets = potential.members[0][0], potential.subnet_of
    found: dict[str, Any] = {"hidden_layers": tuple(layer.kernel.shape[1] for layer in layers[:-1])}
    if len(layers) > 1:
        found["activation"] = layers[0].activation
    if len(subnets) > 1:
        found["shared_subnet"] = len(set(subnets.values())) == 1
    return found


def begun_from(parameters: ParameterSet, origin: Origin) -> ParameterSet:
    """The parameters with the networks of a potential; errors as for `resolved_from`."""
    require_same_functions(origin.potential, parameters, origin.file, "to begin from")
    for name, value in network_of(origin.potential).items():
        own = getattr(parameters.network, name)
        if not is_open(parameters, "network", name) and own != value:
            shown = [list(v) if isinstance(v, tuple) else v for v in (value, own)]
            raise UsageError(
                f"network.{name}: expected {shown[0]} as in the potential to begin from, got {shown[1]}; "
                "set it to null in params.json"
            )
    members = len(origin.potential.members)
    wanted = members if is_open(parameters, "training", "members") else parameters.training.members
    if wanted > members:
        raise UsageError(
            f"--members: expected at most {members}, the networks of the potential to begin from, got {wanted}"
        )
    measured = {name: value for name, value in _AS_MEASURED.items() if is_open(parameters, "training", name)}
    training = {"members": wanted, **measured}
    return parameters.with_overrides(network=network_of(origin.potential), training=training)


def parameters_of(origin: Origin, elements: Sequence[str]) -> ParameterSet:
    """The parameters of a new project that goes on with a potential, whose elements come first."""
    own = origin.potential.elements
    added = [element for element in elements if element not in own]
    changed = origin.potential.parameters.with_overrides(elements=(*own, *added), reference_energies=None)
    return open_settings(changed, DEFAULT_RECIPE)


def is_open(parameters: ParameterSet, section: str, name: str) -> bool:
    """Whether the user left a setting open: to the recipe, or at the value of the recipe `default`."""
    own = getattr(getattr(parameters, section), name)
    default = getattr({"network": NetworkParameters, "training": TrainingParameters}[section](), name)
    return own is None or (parameters.recipe == "default" and own == default)
