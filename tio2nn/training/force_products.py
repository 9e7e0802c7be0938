"""What a fit asks of products with derivatives that lie on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.training.batches import Batches


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
