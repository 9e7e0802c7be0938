"""The losses of whole batches, on the CPU."""

from __future__ import annotations

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.training.force_batches import ForceBatches
from tio2nn.training.stress_batches import StressBatches


def losses_of(
    own: ForceBatches | StressBatches, batch: int, gradients: Float32Array, scale: float
) -> tuple[FloatArray, Float32Array, Float32Array]:
    """Losses and squared errors of a batch, derivatives with respect to the gradients, and what is predicted."""
    found = own.of_batch(batch, gradients, scale)
    found.compute(slice(0, own.size))
    return found.totals(), found.derivatives, found.predicted
