"""Networks in company: they see the same batches in the same order, so each Jacobian is read once for all of them.

One graph of TensorFlow runs all batches of an epoch. On the CPU, the operations of a network do not depend on its
company, nor do its bits. On a GPU, where an operation takes some microseconds to start, each is done for all networks
at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.parallel.exchange import Exchange
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batch_atoms import BatchAtoms
from tio2nn.training.batch_network import BatchNetwork
from tio2nn.training.batches import Batches
from tio2nn.training.dataset import FitData
from tio2nn.training.flat_network import Shape
from tio2nn.training.force_products import ForceProducts
from tio2nn.training.losses import energy_losses
from tio2nn.training.predictions import Predictions
from tio2nn.training.schedule import Schedule

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]


class Stepper:
    """Steps and predictions of networks of one shape; close it at the end.

    Args:
        shape: of the networks.
        data: of the fit.
        parameters: training settings.
        schedule: of the steps.
        forces: products with the Jacobian; None for a fit to energies.
        stress: products with the derivatives with respect to strain; None for a fit without.
        stacked: whether each operation is done for all members at once.
        compiled: whether XLA compiles an epoch, which needs batches with padding.
        exchange: with processes that have other shares of the batches; None if there are none.
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
        stacked: bool = False,
        compiled: bool = False,
        exchange: Exchange | None = None,
    ) -> None:
        self.shape, self.parameters, self._schedule = shape, parameters, schedule
        self.exchange = exchange
        self.forces, self.stress, self.stacked, self.compiled = forces, stress, stacked, compiled
        self.whitenings = [tf.constant(matrix, tf.float32) for matrix in data.whitening_matrices]
        self._batches: Batches | None = None
        self._graphs: dict[int, _EpochGraph] = {}
        self._predict = tf.function(self._predict_graph, reduce_retracing=True)

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
        energies = []
        forces = [np.empty((len(weights), 0, 3), np.float32)]
        stresses = [np.empty((len(weights), 0, 6), np.float32)]
        losses, stress_losses = np.zeros(len(weights)), np.zeros(len(weights))
        given = self.begin(batches)
        for batch in range(batches.n):
            features, segments = batches.atoms(batch)
            found = [
                self._predict(tf.constant(own), features, segments, batches.width)
                for own in self.split(weights)
            ]
            of_batch = np.concatenate([own.numpy().reshape(-1, batches.width) for own, _ in found])
            energies.append(of_batch[:, : batches.size])
            if not self.uses_gradients:
                continue
            gradients = self.members_of([own for _, own in found])
            if self.forces is not None:
                own_losses, own_forces = self.forces.predict(given[0], batch, gradients)
                losses += own_losses
                forces.append(own_forces)
            if self.stress is not None:
                own_losses, own_stresses = self.stress.predict(given[1], batch, gradients)
                stress_losses += own_losses
                stresses.append(own_stresses)
        size, n_structures = batches.whole
        per_structure = size / n_structures
        return Predictions(
            np.concatenate(energies, axis=1)[:, : batches.n_structures],
            np.concatenate(forces, axis=1),
            losses * per_structure,
            np.concatenate(stresses, axis=1),
            stress_losses * per_structure,
        )

    def read(self, batch: tf.Tensor, n_subnets: int) -> list[tf.Tensor]:
        """Features of the atoms of a batch that are read window by window, in the graph."""

        def call(batch: Any) -> list[Float32Array]:
            assert self._batches is not None, "`begin` comes first"
            return self._batches.read(int(batch))

        found = tf.numpy_function(call, [batch], [tf.float32] * n_subnets)
        for own in found:
            own.set_shape((None, self.shape.widths[0]))
        return list(found)

    def begin(self, batches: Batches) -> tuple[Any, Any]:
        """Turn to these batches; what the products with derivatives get."""
        self._batches = batches
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
        """Energies (size,) and, with forces or stress, ∂E/∂G (n_atoms, n_features) of a batch."""
        network = BatchNetwork(self.shape, self.whitenings, weights, features, segments, size)
        return network.energies, network.gradients() if self.uses_gradients else tf.zeros(())

    def split(self, of_members: Float32Array) -> list[Float32Array]:
        """What belongs to each variable."""
        return [of_members] if self.stacked else list(of_members)

    def members_of(self, found: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """What was found for each member, if that is stacked."""
        return tf.unstack(found[0]) if self.stacked else list(found)

    def stack(self, of_members: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The inverse of `members_of`."""
        return [tf.stack(of_members)] if self.stacked else list(of_members)

    def close(self) -> None:
        """End its threads."""
        for products in (self.forces, self.stress):
            if products is not None:
                products.close()


class _EpochGraph:
    """Variables of so many members, and the graph that moves them."""

    def __init__(self, stepper: Stepper, n_members: int, n_weights: int) -> None:
        self._stepper, self._n_members = stepper, n_members
        # on the CPU a variable for each member: what an operation does to a number may depend on its place
        shape, n = ((n_members, n_weights), 1) if stepper.stacked else ((n_weights,), n_members)
        zeros = np.zeros(shape, np.float32)
        self._weights = [keras.Variable(zeros) for _ in range(n)]
        self._averages = [tf.Variable(zeros, trainable=False) for _ in range(n)]
        self._optimizer = keras.optimizers.Adam()
        self._optimizer.build(self._weights)
        _, _, *moments = (
            self._optimizer.variables
        )  # after steps done and learning rate; two for each variable
        self._state = [self._weights, moments[::2], moments[1::2], self._averages]
        # None leaves it to TensorFlow, which compiles nothing
        self._run = tf.function(self._epoch, jit_compile=True if stepper.compiled else None)
        self._is_traced = False

    def train(
        self, batches: Batches, states: Float32Array, first_step: int, rates: FloatArray, keys: Sequence[int]
    ) -> FloatArray:
        """As `Stepper.train`; `rates` (n_batches, 3) are learning rate, weight of the forces, decay of the average."""
        for variables, state in zip(self._state, states, strict=True):
            for variable, own in zip(variables, self._stepper.split(state), strict=True):
                variable.assign(own)
        given = (
            batches.in_graph,
            (batches.energies, batches.n_atoms, batches.weights),
            tf.constant(rates, tf.float32),
            tf.constant(first_step),
            tf.constant(list(keys), tf.int32),
            self._stepper.begin(batches),
        )
        if self._stepper.exchange is not None and not self._is_traced:
            # a share has other numbers of atoms in each epoch; all of them go through the graph that is traced here
            any_features, any_segments = (
                [tf.TensorSpec([None, *own.shape[1:]], own.dtype) for own in parts]
                for parts in (batches.in_graph.features, batches.in_graph.segments)
            )
            any_atoms = batches.in_graph._replace(features=any_features, segments=any_segments)
            self._run.get_concrete_function(any_atoms, *given[1:])
            self._is_traced = True
        totals = self._run(*given)
        for variables, state in zip(self._state, states, strict=True):
            state[:] = np.concatenate(
                [variable.numpy().reshape(-1, state.shape[1]) for variable in variables]
            )
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
            if not atoms.features:
                own_features = self._stepper.read(batch, len(own_segments))
            of_batch = [column[batch] for column in labels]
            rate = rates[batch]
            networks = [
                BatchNetwork(
                    self._stepper.shape,
                    self._stepper.whitenings,
                    weights.value,
                    own_features,
                    own_segments,
                    of_batch[0].shape[0],
                    tf.stack([keys[member], step]),
                )
                for member, weights in enumerate(self._weights)
            ]
            found, gradients = self._losses(given, batch, networks, of_batch, rate[1])
            totals += found
            self._move(self._summed(gradients), step, rate)
        return totals

    def _losses(
        self,
        given: Any,
        batch: tf.Tensor,
        networks: Sequence[BatchNetwork],
        labels: Sequence[tf.Tensor],
        force_weight: tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Losses and errors as in `Stepper.train`, and of each member the derivatives (n_weights,)."""
        target, n_atoms, weight = labels
        parameters = self._stepper.parameters
        totals, of_energies = [], []
        for network in networks:
            with tf.GradientTape() as tape:
                tape.watch(network.energies)
                losses = energy_losses(parameters, network.energies, target, n_atoms)
                loss = tf.reduce_sum(weight * losses, axis=-1) / target.shape[0]
            of_energies.append(tape.gradient(loss, network.energies))
            errors = (network.energies - target) / n_atoms
            squares = tf.reduce_sum(tf.where(weight > 0.0, errors * errors, 0.0), axis=-1)
            totals.append(tf.reshape(tf.stack([loss, squares], axis=-1), (-1, 2)))
        of_structures = tf.concat(totals, axis=0)
        forces, stress = self._stepper.forces, self._stepper.stress
        if not self._stepper.uses_gradients:
            return tf.pad(of_structures, ((0, 0), (0, 2))), [
                network.to_weights(own) for network, own in zip(networks, of_energies, strict=True)
            ]
        gradients = self._stepper.members_of([network.gradients() for network in networks])
        found = [of_structures]
        of_gradients: list[tf.Tensor] = []
        if forces is None:
            found.append(tf.zeros_like(of_structures))
        else:
            force_losses, derivatives = forces.losses(given[0], batch, gradients)
            found.append(force_losses * tf.stack([force_weight, 1.0]))
            of_gradients = [force_weight * own for own in self._stepper.stack(derivatives)]
        if stress is not None:
            weight_of_stress = parameters.stress_weight
            stress_losses, derivatives = stress.losses(given[1], batch, gradients)
            found.append(stress_losses * tf.constant([weight_of_stress, 1.0]))
            by_stress = [weight_of_stress * own for own in self._stepper.stack(derivatives)]
            of_gradients = list(map(tf.add, of_gradients, by_stress)) if of_gradients else by_stress
        return tf.concat(found, axis=1), [
            network.to_weights(own, own_gradients)
            for network, own, own_gradients in zip(networks, of_energies, of_gradients, strict=True)
        ]

    def _summed(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients, with those of other processes."""
        exchange = self._stepper.exchange
        if exchange is None:
            return gradients
        summed = tf.numpy_function(exchange.sum, [tf.stack(gradients)], tf.float32)
        summed.set_shape((len(gradients), *gradients[0].shape))
        return tf.unstack(summed)  # type: ignore[no-any-return]

    def _move(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, rate: tf.Tensor) -> None:
        """One step of the optimizer."""
        parameters = self._stepper.parameters
        clip = parameters.gradient_clip
        if clip is not None:
            gradients = [tf.clip_by_norm(gradient, clip, axes=[-1]) for gradient in gradients]
        if parameters.weight_decay:
            decays = tf.constant(self._stepper.shape.decays) * (parameters.weight_decay * rate[0])
            for weights in self._weights:
                weights.assign_sub(weights * decays)
        self._optimizer.iterations.assign(tf.cast(step, self._optimizer.iterations.dtype))
        self._optimizer.learning_rate.assign(rate[0])
        self._optimizer.apply(gradients, self._weights)
        for average, weights in zip(self._averages, self._weights, strict=True):
            average.assign(rate[2] * average + (1.0 - rate[2]) * weights)
