"""One network that computes the mean of a committee.

The networks stand side by side: their hidden nodes are those of one layer, which are not connected with nodes of other
networks, and the last node takes the mean. That is exact. It is made for other programs, which compute all symmetry
functions again for each network. `Potential` differentiates them once for all networks, and is slower with the merged
one, most of whose weights are zeros: for TiO2, 1.3 to 1.4 times the time of one network instead of 1.1 to 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from scipy.linalg import block_diag

from tio2nn.errors import InputError
from tio2nn.potential.layers import Layer
from tio2nn.potential.potential import Potential

Network: TypeAlias = tuple[tuple[Layer, ...], ...]
"""The layers of each subnet."""


def merged(committee: Potential, file: str) -> Potential:
    """A potential of one network, with the mean energies and forces of a committee to the last digits, but no spread.

    Args:
        committee: of networks of the same number of layers and the same activations.
        file: it was read from, for messages.

    Raises:
        InputError: it is a single network, or its networks differ in number or activations of layers.
    """
    members = committee.members
    if len(members) == 1:
        raise InputError("expected a committee, got one network", file=file)
    if not are_alike(members):
        raise InputError("expected networks with the same layers, got others", file=file)
    network = side_by_side(members)
    nodes = tuple(len(layer.bias) for layer in network[0][:-1])
    parameters = committee.parameters.with_overrides(
        network={"hidden_layers": nodes}, training={"members": 1}
    )
    about = {**committee.about, "merged": {"members": len(members)}}
    return replace(committee, parameters=parameters, members=(network,), about=about)


def are_alike(members: Sequence[Network]) -> bool:
    """Whether networks have the same number of layers and the same activations, the last of them none."""
    kinds = {tuple(tuple(layer.activation for layer in net) for net in member) for member in members}
    return len(kinds) == 1 and all(net[-1] == "linear" for net in next(iter(kinds)))


def side_by_side(members: Sequence[Network]) -> Network:
    """The network with the mean of networks that are alike."""
    return tuple(_merged_layers(nets) for nets in zip(*members, strict=True))


def _merged_layers(nets: Sequence[Sequence[Layer]]) -> tuple[Layer, ...]:
    """The layers of networks of one subnet, as those of one network."""
    found = []
    last = len(nets[0]) - 1
    for k, layers in enumerate(zip(*nets, strict=True)):
        kernels, biases = [layer.kernel for layer in layers], [layer.bias for layer in layers]
        if k == last:
            weight = 1.0 / len(nets)
            kernel = weight * (np.sum(kernels, axis=0) if k == 0 else np.vstack(kernels))
            bias = weight * np.sum(biases, axis=0)
        else:
            kernel = np.hstack(kernels) if k == 0 else block_diag(*kernels)
            bias = np.concatenate(biases)
        found.append(Layer(kernel, bias, layers[0].activation))
    return tuple(found)
