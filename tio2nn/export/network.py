"""The network of an element as other programs evaluate it: on scaled functions instead of whitened features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.errors import InputError
from tio2nn.export.functions import Function, Scaling, scaling_of
from tio2nn.export.units import Units
from tio2nn.files.strict_json import quote
from tio2nn.parameters.targets import ACTIVATIONS_OF, NAMES, Target
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential


class Architecture(NamedTuple):
    """What the networks of all elements and members have in common.

    Attributes:
        nodes: of each hidden layer, at least one.
        activations: of each hidden layer.
    """

    nodes: tuple[int, ...]
    activations: tuple[str, ...]


def architecture(potential: Potential, target: Target, train: str) -> Architecture:
    """The architecture of all networks of a potential.

    Args:
        potential: any.
        target: the program.
        train: the command that trains the potential.

    Raises:
        InputError: an activation that the program does not know, or networks that differ.
    """
    known, program = ACTIVATIONS_OF[target], NAMES[target]
    found = {_architecture(layers) for member in potential.members for layers in member}
    if unknown := sorted({name for each in found for name in each.activations} - known):
        raise InputError(
            f"cannot export the potential: {program} has no activation {quote(unknown[0])}, only "
            f"{', '.join(sorted(known))}; for one that it has run {quote(f'{train} --for {target}')}"
        )
    if len(found) > 1 or any(layers[-1].activation != "linear" for m in potential.members for layers in m):
        raise InputError(
            f"cannot export the potential: {program} wants hidden layers of the same sizes and activations for all "
            "elements and members, and a linear output; train the members together"
        )
    return found.pop()


def scaling_around(potential: Potential, element: str, functions: Sequence[Function]) -> Scaling:
    """How the functions around an element are scaled: by the range of its training atoms."""
    atoms = potential.training_atoms[potential.elements.index(element)]
    whitening = potential.whitenings[potential.subnet_of[element]]
    return scaling_of(functions, atoms.low, atoms.high, whitening.mean)


def layers_around(
    potential: Potential, member: int, element: str, functions: Sequence[Function], units: Units
) -> list[Layer]:
    """The network of an element, in double precision, on functions scaled as `scaling_around` says.

    The whitening, (G - mean) @ matrix, becomes part of the first layer, so nothing is approximated. A network without
    hidden layers gets one with a single linear node.

    Args:
        potential: any.
        member: index of the committee member.
        element: of the central atom.
        functions: in the order of the rows of the first layer.
        units: of the output.
    """
    low, high, _ = scaling_around(potential, element, functions)
    subnet = potential.subnet_of[element]
    layers = [
        Layer(layer.kernel.astype(np.float64), layer.bias.astype(np.float64), layer.activation)
        for layer in potential.members[member][subnet]
    ]
    first = potential.whitenings[subnet].matrix.astype(np.float64) @ layers[0].kernel
    factors = np.array([function.factor for function in functions])
    rows = first[[function.column for function in functions]] * (factors * (high - low))[:, None]
    layers[0] = Layer(rows, layers[0].bias, layers[0].activation)
    if len(layers) == 1:
        layers.append(Layer(np.ones((1, 1)), np.zeros(1), "linear"))
    last = layers[-1]
    layers[-1] = Layer(last.kernel * units.energy, last.bias * units.energy, last.activation)
    return layers


def _architecture(layers: Sequence[Layer]) -> Architecture:
    hidden = layers[:-1] or layers
    return Architecture(
        tuple(layer.kernel.shape[1] for layer in hidden), tuple(layer.activation for layer in hidden)
    )
