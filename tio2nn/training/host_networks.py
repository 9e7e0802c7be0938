"""Networks of one shape at the pieces of a batch, on the CPU, by compiled loops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tio2nn.array_types import Float32Array
from tio2nn.training.adam import Step, move
from tio2nn.training.flat_network import Shape
from tio2nn.training.network_kernels import CODES, Subnet, to_features, to_weights, work_size

Place = tuple[int, int, int]
"""Number of a piece, a network, and a subnet."""


class HostNetworks:
    """Networks that see the same batches, in pieces.

    Args:
        shape: of the networks.
        whitenings: for each subnet (n_features, n_features) whitened features per feature; none for a loss of energies
            alone.
        weights: (n_members, n_weights); read in each batch.
        most_atoms: (n_subnets,) of each subnet, in any piece.
        n_pieces: of a batch.

    Attributes:
        n_members: networks.
        places: all of them; several threads may work at some each.
    """

    def __init__(
        self,
        shape: Shape,
        whitenings: Sequence[Float32Array],
        weights: Float32Array,
        most_atoms: Sequence[int],
        n_pieces: int = 1,
    ) -> None:
        self.n_members, self._whitenings = len(weights), whitenings
        weights = weights.reshape(self.n_members, shape.n_subnets, -1)
        n_first = shape.widths[0] * shape.widths[1]
        self._first = weights[:, :, :n_first].reshape(self.n_members, shape.n_subnets, *shape.widths[:2])
        self._folded = np.empty_like(self._first)
        # of each piece: with respect to the weights, and to the first kernel on features that are not whitened
        self._n_weights, n_found = weights.shape[2], weights.shape[2] + n_first
        self._found = np.zeros((n_pieces, self.n_members, shape.n_subnets, n_found), np.float32)
        self.places = list(itertools.product(*map(range, self._found.shape[:3])))
        self._subnets = {
            (p, m, k): _subnet(shape, weights[m, k], self._folded[m, k], most_atoms[k])
            for p, m, k in self.places
        }

    def begin(self) -> None:
        """Turn to a batch, after the weights have changed."""
        for k, whitening in enumerate(self._whitenings):
            np.matmul(whitening, self._first[:, k], out=self._folded[:, k])

    def forward(
        self,
        place: Place,
        features: Float32Array,
        mask: Float32Array,
        energies: Float32Array,
        gradients: Float32Array,
    ) -> None:
        """As `network_kernels.to_features`, at a place."""
        to_features(self._subnets[place], features, mask, energies, gradients)

    def backward(
        self, place: Place, features: Float32Array, of_energies: Float32Array, of_gradients: Float32Array
    ) -> None:
        """As `network_kernels.to_weights`, after `forward` at the same place."""
        found = self._found[place]
        of_folded = found[self._n_weights :].reshape(self._folded.shape[2:])
        to_weights(
            self._subnets[place], features, of_energies, of_gradients, found[: self._n_weights], of_folded
        )

    def of_weights(self) -> Float32Array:
        """(n_members, n_weights) derivatives of the loss of a batch, when all pieces have theirs."""
        whole: Float32Array = self._found.sum(axis=0)
        found = whole[:, :, : self._n_weights]
        of_folded = whole[:, :, self._n_weights :].reshape(self._first.shape)
        for k, whitening in enumerate(self._whitenings):
            of_first = found[:, k, : self._first[0, 0].size]
            of_first += np.matmul(whitening.T, of_folded[:, k]).reshape(of_first.shape)
        return found.reshape(len(found), -1)


def _subnet(shape: Shape, weights: Float32Array, folded: Float32Array, n_atoms: int) -> Subnet:
    widths = np.array(shape.widths)
    sizes = widths[1:] * (widths[:-1] + 1)
    return Subnet(
        widths,
        np.array([CODES[name] for name in shape.activations], np.int64),
        np.cumsum(sizes) - sizes,
        np.concatenate([[0], np.cumsum(widths[1:-1])]),
        weights,
        folded,
        np.empty(work_size(shape.widths, n_atoms), np.float32),
    )


def compile_networks() -> None:
    """Compile the loops, or load them from Numba's cache, so that worker processes find them on disk."""
    shape = Shape(1, (1, 1, 1), ("linear",), 0.0)
    weights, nothing = np.zeros((1, 4), np.float32), np.zeros((0, 1), np.float32)
    networks = HostNetworks(shape, [weights[:, :1]], weights, [0])
    networks.forward((0, 0, 0), nothing, nothing, nothing[:, 0], nothing)
    networks.backward((0, 0, 0), nothing, nothing[:, 0], nothing)
    for n_members in (1, 2):  # the states of a network in company are not consecutive
        states = np.zeros((4, n_members, 4), np.float32)
        move(states[:, 0], weights[0], weights[0], Step(*np.zeros(len(Step._fields), np.float32)))
