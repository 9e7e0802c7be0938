"""The optimizer of networks in company on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from tio2nn.array_types import Float32Array
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training import adam, muon
from tio2nn.training.flat_network import Shape


class HostOptimizer:
    """Moves the weights of networks of one shape, after each batch.

    Args:
        shape: of the networks.
        parameters: training settings.
    """

    def __init__(self, shape: Shape, parameters: TrainingParameters) -> None:
        self._parameters = parameters
        self._layers = shape.hidden_layers if parameters.optimizer == "muon" else []
        # Adam moves all weights of a network in one loop, too short to be shared
        self._n_parts = shape.n_subnets if self._layers else 1
        self._decays = shape.decays.reshape(self._n_parts, -1)

    def move(
        self,
        states: Float32Array,
        gradients: Float32Array,
        number: int,
        rates: tuple[float, float],
        do_all: Callable[..., Iterable[Any]] = map,
    ) -> None:
        """One step of all networks.

        Args:
            states: (4, n_members, n_weights) weights, first and second moments of their gradients, average of the
                weights; changed in place.
            gradients: (n_members, n_weights) of the loss of the batch.
            number: of the step, from 0.
            rates: learning rate, and decay of the average.
            do_all: as `map`, by threads that may share the products of matrices.
        """
        steps = [adam.step_of(number, own, self._parameters, rates) for own in gradients]
        parts = states.reshape(4, len(steps), self._n_parts, -1)
        of_parts = gradients.reshape(parts.shape[1:])

        def move_part(place: tuple[int, int]) -> None:
            m, k = place
            self._move(parts[:, m, k], of_parts[m, k], self._decays[k], steps[m])

        places = itertools.product(range(len(steps)), range(self._n_parts))
        for _ in (do_all if self._layers else map)(move_part, places):
            pass

    def _move(
        self, state: Float32Array, gradient: Float32Array, decays: Float32Array, step: adam.Step
    ) -> None:
        """One step of one subnet, or by Adam of a whole network."""
        end = 0
        for begin, rows, columns in self._layers:
            end = begin + rows * columns
            of_layer = (rows, columns)
            own_gradient, own_decays = (n[begin:end].reshape(of_layer) for n in (gradient, decays))
            muon.move(state[:, begin:end].reshape(4, *of_layer), own_gradient, own_decays, step)
        adam.move(state[:, end:], gradient[end:], decays[end:], step)
