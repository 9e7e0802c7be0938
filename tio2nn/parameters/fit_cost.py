"""What a fit costs, before it starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tio2nn.parameters.fit_parameters import Optimizer
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.training_size import Facts

# CPU seconds before the first epoch: to load TensorFlow and whiten, and for each network
_START, _START_OF_NETWORK = 6.0, 0.2
# CPU seconds of an epoch, each for itself and for each network: of a step for two elements, and of a derivative, which
# is read once for all networks. Then of a weight and atom, without and with forces. Fitted to epochs of 1, 2, 4 and 8
# networks on sample_data, TiO2, Ge, acetylacetone, an oxide of five elements and seven metals, on a virtual machine
# with two cores: within 20 %, a single network of the larger ones within 30.
_OF_EPOCH = 0.005
_OF_STEP, _OF_STEP_OF_NETWORK = 2.4e-4, 4.6e-4
_OF_DERIVATIVE, _OF_DERIVATIVE_OF_NETWORK = 5.2e-10, 1.3e-10
_OF_WEIGHT = {False: 7.4e-11, True: 1.85e-10}
# of a step of Muon, each for a matrix of the smaller side n and the larger side m: for itself, and for n² m, five times
# two products of that size and one of n³; measured on kernels of 49 by 60 to 137 by 128
_OF_MATRIX, _OF_PRODUCT = 8e-5, 3.3e-10


def n_batches(facts: Facts, batch_size: int) -> int:
    """Steps of an epoch."""
    return max(1, math.ceil(facts.n_structures / batch_size))


def epoch_seconds(
    facts: Facts, hidden_layers: Sequence[int], steps: int, members: int = 1, optimizer: Optimizer = "adam"
) -> float:
    """Approximate CPU time of an epoch of some networks that are fitted together, s."""
    sizes = [facts.n_features, *hidden_layers, 1]
    n_weights = sum(a * b for a, b in itertools.pairwise(sizes))
    # each element has a network of its own, about half of the work of a step for two of them
    steps_of_two = steps * (0.5 + 0.25 * facts.n_elements)
    n_derivatives = facts.n_derivatives + facts.n_strain_derivatives
    of_optimizer = _muon_seconds(sizes) * facts.n_elements if optimizer == "muon" else 0.0
    return (
        _OF_EPOCH
        + (_OF_STEP + _OF_STEP_OF_NETWORK * members) * steps_of_two
        + of_optimizer * members * steps
        + _OF_WEIGHT[facts.n_derivatives > 0] * members * n_weights * facts.n_atoms
        + (_OF_DERIVATIVE + _OF_DERIVATIVE_OF_NETWORK * members) * n_derivatives
    )


def _muon_seconds(sizes: Sequence[int]) -> float:
    """Of the hidden layers of a subnet, a bias for each."""
    sides = [sorted((n_in + 1, n_out)) for n_in, n_out in itertools.pairwise(sizes[:-1])]
    return sum(_OF_MATRIX + _OF_PRODUCT * n * n * m for n, m in sides)


def fit_seconds(parameters: ParameterSet, facts: Facts) -> float:
    """Approximate CPU time of a fit with resolved parameters, all networks together, s."""
    training = parameters.training
    used = facts if training.forces else facts.without_forces
    used = used if training.stress else used.without_stress
    steps = n_batches(facts, training.batch_size)
    layers, members = parameters.network.hidden_layers, training.members
    of_epoch = epoch_seconds(used, layers, steps, members, training.optimizer)
    return _START + _START_OF_NETWORK * training.members + training.epochs * of_epoch
