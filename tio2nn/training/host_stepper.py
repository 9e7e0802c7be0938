"""Networks in company on the CPU: they see the same batches in the same order, and share each reading of a Jacobian.

A batch is some calls of compiled loops. What a network gets does not depend on its company, nor on the threads: each
loop works for one subnet of one network, or for one structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.cores import one_blas_thread
from tio2nn.parallel.exchange import Exchange
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.adam import move, step_of
from tio2nn.training.batch_network import dropout_masks
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import FitData
from tio2nn.training.flat_network import Shape
from tio2nn.training.host_networks import HostNetworks
from tio2nn.training.losses import MEV, energy_losses_with_slopes
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
        # a fit to energies alone has none, and needs none
        given = data.whitening_matrices or [np.empty((0, 0))] * shape.n_subnets
        self._whitenings = [np.array(matrix, np.float32, order="C") for matrix in given]
        self._threads, self._exchange = threads, exchange
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._share = map if self._pool is None else self._pool.map

    def train(
        self, batches: Batches, states: Float32Array, first_step: int, keys: Sequence[int]
    ) -> FloatArray:
        """As `Stepper.train`."""
        networks = self._networks(batches, states[0])
        decays = self._shape.decays
        steps = first_step + np.arange(batches.n)
        learning_rates = self._schedule.learning_rates(steps).tolist()
        force_weights = self._schedule.force_weights(steps).tolist()
        averaging = self._schedule.averaging(steps).tolist()
        totals = np.zeros((states.shape[1], 4 if batches.stress is None else 6))
        # a fit that diverges ends after the epoch, when its loss is seen
        with one_blas_thread(), np.errstate(all="ignore"):
            for batch, step in enumerate(steps.tolist()):
                features, segments = batches.atoms(batch)
                energies, gradients = networks.at(
                    features,
                    segments,
                    batches.size,
                    _uses_gradients(batches),
                    self._masks(features, keys, step),
                )
                of_energies = self._of_energies(batches, batch, energies, totals)
                of_gradients = self._of_gradients(batches, batch, gradients, force_weights[batch], totals)
                of_weights = networks.to_weights(of_energies, of_gradients)
                if self._exchange is not None:
                    of_weights = self._exchange.sum(of_weights)
                for m, own in enumerate(of_weights):
                    rates = (learning_rates[batch], averaging[batch])
                    move(states[:, m], own, decays, step_of(step, own, self._parameters, rates))
        return totals

    def predict(self, batches: Batches, weights: Float32Array) -> Predictions:
        """As `Stepper.predict`."""
        networks = self._networks(batches, np.ascontiguousarray(weights))
        predictions = []
        with one_blas_thread(), np.errstate(all="ignore"):
            for batch in range(batches.n):
                features, segments = batches.atoms(batch)
                own, gradients = networks.at(features, segments, batches.size, _uses_gradients(batches))
                found = Predictions.of_energies(own)
                if batches.forces is not None:
                    losses, _, forces = self._forces(batches, batch, gradients)
                    found = replace(found, force_losses=losses[:, 0], forces=forces)
                if batches.stress is not None:
                    losses, _, stresses = self._stresses(batches, batch, gradients)
                    found = replace(found, stress_losses=losses[:, 0], stresses=stresses)
                predictions.append(found)
        return Predictions.of_batches(predictions, batches.whole, batches.n_structures)

    def close(self) -> None:
        """End its threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _networks(self, batches: Batches, weights: Float32Array) -> HostNetworks:
        return HostNetworks(self._shape, self._whitenings, weights, batches.most_atoms, self._share)

    def _of_energies(
        self, batches: Batches, batch: int, energies: Float32Array, totals: FloatArray
    ) -> Float32Array:
        """Derivatives of the loss of the energies; loss and squared errors are added to the totals."""
        target, n_atoms, weights = (
            column[batch] for column in (batches.energies, batches.n_atoms, batches.weights)
        )
        losses, slopes = energy_losses_with_slopes(self._parameters, energies, target, n_atoms)
        errors = np.where(weights > 0.0, (energies - target) / n_atoms, 0.0)
        totals[:, 0] += (weights * losses).sum(axis=1) / batches.size
        totals[:, 1] += (errors * errors).sum(axis=1)
        return np.asarray(weights * slopes / batches.size, np.float32)

    def _of_gradients(
        self,
        batches: Batches,
        batch: int,
        gradients: Float32Array,
        force_weight: float,
        totals: FloatArray,
    ) -> Float32Array:
        """Derivatives of the losses of forces and stresses; losses and squared errors are added to the totals."""
        found = gradients
        if batches.forces is not None:
            of_forces, found, _ = self._forces(batches, batch, gradients)
            totals[:, 2:4] += of_forces * (force_weight, 1.0)
            found *= np.float32(force_weight)
        if batches.stress is not None:
            weight = self._parameters.stress_weight
            of_stress, derivatives, _ = self._stresses(batches, batch, gradients)
            totals[:, 4:6] += of_stress * (weight, 1.0)
            derivatives *= np.float32(weight)
            found = derivatives if batches.forces is None else found + derivatives
        return found

    def _forces(
        self, batches: Batches, batch: int, gradients: Float32Array
    ) -> tuple[FloatArray, Float32Array, Float32Array]:
        assert batches.forces is not None, "there are forces"
        scale = self._parameters.force_huber_scale
        return batches.forces.product(batch, gradients, scale, self._threads, self._share)

    def _stresses(
        self, batches: Batches, batch: int, gradients: Float32Array
    ) -> tuple[FloatArray, Float32Array, Float32Array]:
        assert batches.stress is not None, "there are stresses"
        scale = self._parameters.stress_huber_scale / MEV
        return batches.stress.product(batch, gradients, scale, self._threads, self._share)

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


def _uses_gradients(batches: Batches) -> bool:
    """Whether the loss has forces or stress."""
    return batches.forces is not None or batches.stress is not None
