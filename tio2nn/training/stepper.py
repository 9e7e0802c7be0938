"""Networks in company on a GPU: they see the same batches in the same order.

One graph of TensorFlow runs all batches of an epoch. An operation takes some microseconds to start, so each is done for
all networks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batch_atoms import BatchAtoms
from tio2nn.training.batch_network import BatchNetwork
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import FitData
from tio2nn.training.flat_network import Shape
from tio2nn.training.force_products import ForceProducts
from tio2nn.training.graph_optimizer import GraphOptimizer
from tio2nn.training.losses import energy_losses
from tio2nn.training.predictions import Predictions
from tio2nn.training.schedule import Schedule


class Stepper:
    """Steps and predictions of networks of one shape; close it at the end.

    Args:
        shape: of the networks.
        data: of the fit.
        parameters: training settings.
        schedule: of the steps.
        forces: products with the Jacobian; None for a fit to energies.
        stress: products with the derivatives with respect to strain; None for a fit without.
        compiled: whether XLA compiles an epoch.
    """

    def __init__(
        self,
        shape: Shape,
        data: FitData,
        parameters: TrainingParameters,
        schedule: Schedule,
        forces: ForceProducts | None,
        stress: ForceProducts | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self.shape, self.parameters, self._schedule = shape, parameters, schedule
        self.forces, self.stress, self.compiled = forces, stress, compiled
        self.optimizer = GraphOptimizer(shape, parameters)
        self.whitenings = [tf.constant(matrix, tf.float32) for matrix in data.whitening_matrices]
        self._graphs: dict[int, _EpochGraph] = {}
        self._predict = tf.function(self._predict_graph)

    def train(
        self, batches: Batches, states: Float32Array, first_step: int, keys: Sequence[int]
    ) -> FloatArray:
        """Work through all batches.

        Args:
            batches: of an epoch.
            states: (4, n_members, n_weights) weights, first and second moments of their gradients, average of the
                weights; changed in place.
            first_step: number of the first batch among all steps of the fit, from 0.
            keys: (n_members,) set the dropout of members apart.

        Returns:
            (n_members, 4) sums over the batches: loss of the energies, their squared errors per atom, (eV/atom)²;
            weighted loss of the forces, squared errors of their components, (eV/Å)². With stress (n_members, 6): its
            weighted loss, and squared errors of its components, (eV/Å³)².
        """
        n_members, n_weights = states.shape[1:]
        if n_members not in self._graphs:
            self._graphs[n_members] = _EpochGraph(self, n_members, n_weights)
        steps = first_step + np.arange(batches.n)
        rates = np.stack(
            [
                self._schedule.learning_rates(steps),
                self._schedule.force_weights(steps),
                self._schedule.averaging(steps),
            ],
            axis=1,
        )
        return self._graphs[n_members].train(batches, states, first_step, rates, keys)

    def predict(self, batches: Batches, weights: Float32Array) -> Predictions:
        """Energies, forces and stresses of all structures.

        Args:
            batches: of the structures.
            weights: (n_members, n_weights)
        """
        predictions = []
        given, atoms = self.begin(batches), _atoms_of(batches)
        for batch in range(batches.n):
            features, segments = atoms.of_batch(batch)
            energies, stacked = self._predict(tf.constant(weights), features, segments, batches.width)
            found, gradients = (
                Predictions.of_energies(energies.numpy()[:, : batches.size]),
                tf.unstack(stacked),
            )
            if self.forces is not None:
                losses, forces = self.forces.predict(given[0], batch, gradients)
                found = replace(found, force_losses=losses, forces=forces)
            if self.stress is not None:
                losses, stresses = self.stress.predict(given[1], batch, gradients)
                found = replace(found, stress_losses=losses, stresses=stresses)
            predictions.append(found)
        return Predictions.of_batches(predictions, batches.whole, batches.n_structures)

    def begin(self, batches: Batches) -> tuple[Any, Any]:
        """Turn to these batches; what the products with derivatives get."""
        forces, stress = (
            () if products is None else products.begin(batches) for products in (self.forces, self.stress)
        )
        return forces, stress

    @property
    def uses_gradients(self) -> bool:
        """Whether the loss has forces or stress."""
        return self.forces is not None or self.stress is not None

    def _predict_graph(
        self, weights: tf.Tensor, features: list[tf.Tensor], segments: list[tf.Tensor], size: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Energies (n_members, size) and, with forces or stress, ∂E/∂G (n_members, n_atoms, n_features) of a batch."""
        network = BatchNetwork(self.shape, self.whitenings, weights, features, segments, size)
        return network.energies, network.gradients() if self.uses_gradients else tf.zeros((len(weights),))

    def close(self) -> None:
        """End its threads."""
        for products in (self.forces, self.stress):
            if products is not None:
                products.close()


class _EpochGraph:
    """Variables of so many members, and the graph that moves them."""

    def __init__(self, stepper: Stepper, n_members: int, n_weights: int) -> None:
        self._stepper, self._n_members = stepper, n_members
        zeros = np.zeros((n_members, n_weights), np.float32)
        self._state = [tf.Variable(zeros, trainable=False) for _ in range(4)]
        # None leaves it to TensorFlow, which compiles nothing
        self._run = tf.function(self._epoch, jit_compile=True if stepper.compiled else None)

    def train(
        self, batches: Batches, states: Float32Array, first_step: int, rates: FloatArray, keys: Sequence[int]
    ) -> FloatArray:
        """As `Stepper.train`; `rates` (n_batches, 3) are learning rate, weight of the forces, decay of the average."""
        for variable, own in zip(self._state, states, strict=True):
            variable.assign(own)
        given = (
            _atoms_of(batches),
            tuple(map(tf.constant, (batches.energies, batches.n_atoms, batches.weights))),
            tf.constant(rates, tf.float32),
            tf.constant(first_step),
            tf.constant(list(keys), tf.int32),
            self._stepper.begin(batches),
        )
        totals = self._run(*given)
        for variable, own in zip(self._state, states, strict=True):
            own[:] = variable.numpy()
        return totals.numpy().astype(np.float64)  # type: ignore[no-any-return]

    def _epoch(
        self,
        atoms: BatchAtoms,
        labels: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        rates: tf.Tensor,
        first_step: tf.Tensor,
        keys: tf.Tensor,
        given: Any,
    ) -> tf.Tensor:
        totals = tf.zeros((self._n_members, 4 if self._stepper.stress is None else 6))
        for batch in tf.range(tf.shape(rates)[0]):
            step = first_step + batch
            own_features, own_segments = atoms.of_batch(batch)
            of_batch = [column[batch] for column in labels]
            rate = rates[batch]
            network = BatchNetwork(
                self._stepper.shape,
                self._stepper.whitenings,
                self._state[0],
                own_features,
                own_segments,
                of_batch[0].shape[0],
                tf.stack([keys[0], step]),
            )
            found, gradient = self._losses(given, batch, network, of_batch, rate[1])
            totals += found
            self._stepper.optimizer.move(self._state, gradient, step, tf.gather(rate, [0, 2]))
        return totals

    def _losses(
        self,
        given: Any,
        batch: tf.Tensor,
        network: BatchNetwork,
        labels: Sequence[tf.Tensor],
        force_weight: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Losses and errors as in `Stepper.train`, and the derivatives (n_members, n_weights)."""
        target, n_atoms, weight = labels
        parameters = self._stepper.parameters
        with tf.GradientTape() as tape:
            tape.watch(network.energies)
            losses = energy_losses(parameters, network.energies, target, n_atoms)
            loss = tf.reduce_sum(weight * losses, axis=-1) / target.shape[0]
        of_energies = tape.gradient(loss, network.energies)
        errors = (network.energies - target) / n_atoms
        squares = tf.reduce_sum(tf.where(weight > 0.0, errors * errors, 0.0), axis=-1)
        of_structures = tf.stack([loss, squares], axis=-1)
        forces, stress = self._stepper.forces, self._stepper.stress
        if not self._stepper.uses_gradients:
            return tf.pad(of_structures, ((0, 0), (0, 2))), network.to_weights(of_energies)
        gradients = tf.unstack(network.gradients())
        found = [of_structures]
        of_gradients = 0.0
        if forces is None:
            found.append(tf.zeros_like(of_structures))
        else:
            force_losses, derivatives = forces.losses(given[0], batch, gradients)
            found.append(force_losses * tf.stack([force_weight, 1.0]))
            of_gradients += force_weight * tf.stack(derivatives)
        if stress is not None:
            weight_of_stress = parameters.stress_weight
            stress_losses, derivatives = stress.losses(given[1], batch, gradients)
            found.append(stress_losses * tf.constant([weight_of_stress, 1.0]))
            of_gradients += weight_of_stress * tf.stack(derivatives)
        return tf.concat(found, axis=1), network.to_weights(of_energies, of_gradients)


def _atoms_of(batches: Batches) -> BatchAtoms:
    """The atoms of batches with padding."""
    assert batches.in_graph is not None, "batches on a GPU have padding"
    return batches.in_graph
