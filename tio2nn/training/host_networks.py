"""Networks of one shape at the structures of a batch, on the CPU, by compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tio2nn.array_types import Float32Array, IntArray
from tio2nn.training.adam import Step, move
from tio2nn.training.flat_network import Shape
from tio2nn.training.network_kernels import CODES, Subnet, to_features, to_weights, work_size


class HostNetworks:
    """Networks that see the same batches. Each loop works for one subnet of one network.

    Args:
        shape: of the networks.
        whitenings: for each subnet (n_features, n_features) whitened features per feature.
        weights: (n_members, n_weights); read in each batch.
        most_atoms: (n_subnets,) of each subnet, in any batch.
        share: as `map`; gives the subnets to several threads.
    """

    def __init__(
        self,
        shape: Shape,
        whitenings: Sequence[Float32Array],
        weights: Float32Array,
        most_atoms: Sequence[int],
        share: Callable[..., Iterable[None]] = map,
    ) -> None:
        self._shape, self._share = shape, share
        self._n_members, n_weights = weights.shape
        self._size = n_weights // shape.n_subnets
        self._subnets = [
            [
                _subnet(shape, whitening, weights[m, k * self._size : (k + 1) * self._size], n)
                for k, (whitening, n) in enumerate(zip(whitenings, most_atoms, strict=True))
            ]
            for m in range(self._n_members)
        ]
        self._features: Sequence[Float32Array] = ()
        self._segments: Sequence[IntArray] = ()

    def at(
        self,
        features: Sequence[Float32Array],
        segments: Sequence[IntArray],
        size: int,
        with_gradients: bool,
        masks: Sequence[Sequence[Float32Array]] | None = None,
    ) -> tuple[Float32Array, Float32Array]:
        """Energies of structures, and derivatives of those of their atoms with respect to features.

        Args:
            features, segments: of the atoms of each subnet, as in `Batches`.
            size: structures of the batch.
            with_gradients: whether the derivatives are needed.
            masks: of each network and subnet, as for `network_kernels.to_features`.

        Returns:
            (n_members, size) eV; (n_members, n_atoms, n_features) eV, subnet after subnet, without columns if they are
            not needed.
        """
        self._features, self._segments = features, segments
        first = np.cumsum([0, *map(len, features)])
        n_columns = self._shape.widths[0] if with_gradients else 0
        of_atoms = np.empty((self._n_members, first[-1]), np.float32)
        gradients = np.empty((self._n_members, first[-1], n_columns), np.float32)

        def compute(m: int, k: int) -> None:
            own, part = slice(first[k], first[k + 1]), features[k]
            mask = np.empty((len(part), 0), np.float32) if masks is None else masks[m][k]
            to_features(self._subnets[m][k], part, mask, of_atoms[m, own], gradients[m, own])

        self._for_each(compute)
        structures = np.concatenate(segments)
        energies = [np.bincount(structures, own, size) for own in of_atoms]
        return np.array(energies, np.float32), gradients

    def to_weights(self, of_energies: Float32Array, of_gradients: Float32Array) -> Float32Array:
        """Derivatives of a loss with respect to the weights, in the batch of the last call of `at`.

        Args:
            of_energies: (n_members, size) derivatives of the loss with respect to the energies.
            of_gradients: (n_members, n_atoms, n_features) likewise; no columns for a loss of energies alone.

        Returns:
            (n_members, n_weights)
        """
        first = np.cumsum([0, *map(len, self._features)])
        found = np.empty((self._n_members, self._shape.n_subnets, self._size), np.float32)

        def compute(m: int, k: int) -> None:
            of_atoms = of_energies[m][self._segments[k]]
            own = of_gradients[m, first[k] : first[k + 1]]
            to_weights(self._subnets[m][k], self._features[k], of_atoms, own, found[m, k])

        self._for_each(compute)
        return found.reshape(self._n_members, -1)

    def _for_each(self, compute: Callable[[int, int], None]) -> None:
        """Compute something for each subnet of each network."""
        pairs = [(m, k) for m in range(self._n_members) for k in range(self._shape.n_subnets)]
        for _ in self._share(compute, *zip(*pairs, strict=True)):
            pass


def _subnet(shape: Shape, whitening: Float32Array, weights: Float32Array, n_atoms: int) -> Subnet:
    widths = np.array(shape.widths)
    sizes = widths[1:] * (widths[:-1] + 1)
    return Subnet(
        widths,
        np.array([CODES[name] for name in shape.activations], np.int64),
        np.cumsum(sizes) - sizes,
        np.concatenate([[0], np.cumsum(widths[1:-1])]),
        weights,
        whitening,
        np.empty(work_size(shape.widths, n_atoms), np.float32),
    )


def compile_networks() -> None:
    """Compile the loops, or load them from Numba's cache, so that worker processes find them on disk."""
    shape = Shape(1, (1, 1, 1), ("linear",), 0.0)
    weights, nothing = np.zeros((1, 4), np.float32), np.zeros((0, 1), np.float32)
    networks = HostNetworks(shape, [np.zeros((1, 1), np.float32)], weights, [0])
    networks.at([nothing], [np.zeros(0, np.int64)], 1, with_gradients=True)
    found = networks.to_weights(weights[:, :1], np.zeros((1, 0, 1), np.float32))
    move(np.zeros((4, 4), np.float32), found[0], weights[0], Step(*np.zeros(4, np.float32)))
