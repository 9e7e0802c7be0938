"""Products with the Jacobian on the CPU, and what a fit asks of those on any device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.training.batches import Batches, ForceBatches
from tio2nn.training.dataset import FitData
from tio2nn.training.force_kernels import compile_force_losses
from tio2nn.training.stress_batches import StressBatches
from tio2nn.training.stress_kernels import compile_stress_losses

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]


def compile_losses(data: FitData) -> None:
    """Compile what a fit needs on the CPU, or load it from Numba's cache, so that workers find it on disk."""
    if data.train_forces is not None:
        compile_force_losses(data.train_forces.jacobian)
    if data.train_stress is not None:
        compile_stress_losses(data.train_stress.strains)


class ForceProducts(Protocol):
    """Forces of batches, their losses, and the derivatives of these, for all members at once; or their stresses."""

    def begin(self, batches: Batches) -> Any:
        """Turn to these batches; return the tensors that `losses` and `predict` get, nested."""

    def losses(
        self, given: Any, batch: tf.Tensor, gradients: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Losses of the forces of one of the batches, and their derivatives, in a graph.

        Args:
            given: what `begin` returned.
            batch: its number.
            gradients: of each member, (n_atoms, n_features) ∂E/∂G.

        Returns:
            (n_members, 2) loss and sum of squared errors; of each member, its derivatives with respect to the
            gradients.
        """

    def predict(
        self, given: Any, batch: int, gradients: Sequence[tf.Tensor]
    ) -> tuple[FloatArray, Float32Array]:
        """Losses (n_members,) and forces (n_members, n_atoms, 3) of a batch, eV/Å, structure after structure.

        Of stresses (n_members, n_structures, 6), eV/Å³.
        """

    def close(self) -> None:
        """End its threads."""


class HostForces:
    """By Numba, on a Jacobian that stays where it is.

    Args:
        scale: error at which the loss turns linear, eV/Å.
        threads: that work at the same time; bits do not depend on it.
    """

    def __init__(self, scale: float, threads: int) -> None:
        self._scale, self._threads = scale, threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._batches: Batches | None = None

    def begin(self, batches: Batches) -> Any:
        """As `ForceProducts.begin`; the graph gets nothing, for it calls back."""
        self._batches = batches
        return ()

    def losses(
        self,
        given: Any,  # noqa: ARG002
        batch: tf.Tensor,
        gradients: Sequence[tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `ForceProducts.losses`."""

        def product(batch: Any, stacked: Float32Array) -> tuple[Float32Array, Float32Array]:
            results, derivatives, _ = self._product(int(batch), stacked)
            return results.astype(np.float32), derivatives

        losses, derivatives = tf.numpy_function(
            product, [batch, tf.stack(gradients)], [tf.float32, tf.float32]
        )
        losses.set_shape((len(gradients), 2))
        derivatives.set_shape((len(gradients), *gradients[0].shape))
        return losses, tf.unstack(derivatives)

    def predict(
        self,
        given: Any,  # noqa: ARG002
        batch: int,
        gradients: Sequence[tf.Tensor],
    ) -> tuple[FloatArray, Float32Array]:
        """As `ForceProducts.predict`."""
        results, _, forces = self._product(batch, np.array([own.numpy() for own in gradients]))
        return results[:, 0], forces

    def _product(self, batch: int, gradients: Float32Array) -> tuple[FloatArray, Float32Array, Float32Array]:
        """As `ForceBatches.product`."""
        assert self._batches is not None, "`begin` comes first"
        own = self._own(self._batches)
        assert own is not None, "there are such labels"
        share = map if self._pool is None else self._pool.map
        return own.product(batch, gradients, self._scale, self._threads, share)

    def _own(self, batches: Batches) -> ForceBatches | StressBatches | None:
        """The labels that it is for."""
        return batches.forces

    def close(self) -> None:
        """End its threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class HostStresses(HostForces):
    """As `HostForces`, of the stresses; `scale` in eV/atom."""

    def _own(self, batches: Batches) -> ForceBatches | StressBatches | None:
        return batches.stress
