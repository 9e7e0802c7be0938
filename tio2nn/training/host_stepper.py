"""Networks in company on the CPU: they see the same batches in the same order, and share each reading of a Jacobian.

A batch is some calls of compiled loops for each of its pieces, which threads share. What a network gets does not depend
on its company, nor on the threads: each loop works for one subnet of one network in one piece, or for one structure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.cores import one_blas_thread
from tio2nn.parallel.exchange import Exchange
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batch_network import dropout_masks
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import FitData
from tio2nn.training.flat_network import Shape
from tio2nn.training.host_batch import HostBatch
from tio2nn.training.host_networks import HostNetworks
from tio2nn.training.host_optimizer import HostOptimizer
from tio2nn.training.pieces import Pieces, n_pieces
from tio2nn.training.predictions import Predictions
from tio2nn.training.schedule import Schedule


class HostStepper:
    """Steps and predictions of networks of one shape, as `Stepper`; close it at the end.

    Args:
        shape: of the networks.
        data: of the fit.
        parameters: training settings.
        schedule: of the steps.
        threads: that work at the same time; the bits do not depend on it.
        exchange: with processes that have other shares of the batches; None if there are none.
    """

    def __init__(
        self,
        shape: Shape,
        data: FitData,
        parameters: TrainingParameters,
        schedule: Schedule,
        threads: int = 1,
        exchange: Exchange | None = None,
    ) -> None:
        self._shape, self._parameters, self._schedule = shape, parameters, schedule
        given: Sequence[FloatArray] = data.whitening_matrices or []
        self._whitenings = [np.array(matrix, np.float32, order="C") for matrix in given]
        self._threads, self._exchange = threads, exchange
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._optimizer = HostOptimizer(shape, parameters)

    def train(
        self, batches: Batches, states: Float32Array, first_step: int, keys: Sequence[int]
    ) -> FloatArray:
        """As `Stepper.train`."""
        pieces = Pieces(batches, n_pieces(self._shape, batches))
        networks = self._networks(batches, pieces, states[0])
        steps = first_step + np.arange(batches.n)
        learning_rates = self._schedule.learning_rates(steps).tolist()
        force_weights = self._schedule.force_weights(steps).tolist()
        averaging = self._schedule.averaging(steps).tolist()
        totals = np.zeros((states.shape[1], 4 if batches.stress is None else 6))
        # a fit that diverges ends after the epoch, when its loss is seen
        with one_blas_thread(), np.errstate(all="ignore"):
            for batch, step in enumerate(steps.tolist()):
                networks.begin()
                own = HostBatch(
                    batches, batch, networks, pieces.of_batch(batch), self._parameters, force_weights[batch]
                )
                own.masks = self._masks(own.features, keys, step)
                self._compute(own, pieces.n, differentiate=True)
                totals += own.totals()
                of_weights = networks.of_weights()
                if self._exchange is not None:
                    of_weights = self._exchange.sum(of_weights)
                rates = (learning_rates[batch], averaging[batch])
                self._optimizer.move(states, of_weights, step, rates, self._do_all)
        return totals

    def predict(self, batches: Batches, weights: Float32Array) -> Predictions:
        """As `Stepper.predict`."""
        pieces = Pieces(batches, n_pieces(self._shape, batches))
        networks = self._networks(batches, pieces, np.ascontiguousarray(weights))
        predictions = []
        with one_blas_thread(), np.errstate(all="ignore"):
            networks.begin()
            for batch in range(batches.n):
                own = HostBatch(batches, batch, networks, pieces.of_batch(batch), self._parameters)
                self._compute(own, pieces.n, differentiate=False)
                predictions.append(own.predictions())
        return Predictions.of_batches(predictions, batches.whole, batches.n_structures)

    def close(self) -> None:
        """End its threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _networks(self, batches: Batches, pieces: Pieces, weights: Float32Array) -> HostNetworks:
        whitenings = self._whitenings if batches.uses_gradients else []
        return HostNetworks(self._shape, whitenings, weights, pieces.most_atoms, pieces.n)

    def _compute(self, batch: HostBatch, n_pieces: int, *, differentiate: bool) -> None:
        """Compute all pieces: each by one thread, or one step after the other by all if there are more threads."""
        numbers = range(n_pieces)
        if self._pool is None:
            batch.compute(numbers, differentiate=differentiate)
        elif self._threads > n_pieces:
            n_slices = -(-self._threads // n_pieces)
            batch.compute(numbers, self._pool.map, n_slices, differentiate=differentiate)
        else:
            work = partial(batch.compute, differentiate=differentiate)
            for _ in self._pool.map(work, [[p] for p in numbers]):
                pass

    @property
    def _do_all(self) -> Callable[..., Iterable[Any]]:
        """`map`, by its threads."""
        return map if self._pool is None else self._pool.map

    def _masks(
        self, features: Sequence[Float32Array], keys: Sequence[int], step: int
    ) -> list[list[Float32Array]] | None:
        """Factors of the nodes of all hidden layers, of each network and subnet; None without dropout."""
        if self._shape.dropout == 0.0:
            return None
        return [
            [
                np.concatenate(
                    [mask.numpy() for mask in dropout_masks(self._shape, k, (len(part),), (key, step))],
                    axis=1,
                )
                for k, part in enumerate(features)
            ]
            for key in keys
        ]
