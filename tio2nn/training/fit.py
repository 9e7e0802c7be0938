"""The fit of one network: epochs, batches, validation, and the choice of weights.

One compiled graph runs a whole epoch: with 10⁵ atoms an epoch of 94 batches takes 0.10 s this way, and 0.45 s with
`keras.Model.fit` on the same flat layout. The atoms of an epoch are gathered once, in the order of its batches, so each
batch is a slice.

All randomness in epoch n follows from the seed and n, or from variables in the checkpoint: a fit that was killed and
resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.checkpoint import Checkpoint
from tio2nn.training.dataset import AtomTable, FitData
from tio2nn.training.forces import ForceTerm
from tio2nn.training.history import Epoch, Validation
from tio2nn.training.losses import MEV, energy_losses
from tio2nn.training.network import BPNN
from tio2nn.training.schedule import Schedule

FloatArray = NDArray[np.float64]

_CHECKPOINT_SECONDS = 5.0  # work lost by a kill, at most; writing a checkpoint takes about 10 ms


def configure_threads(parallel_operations: int = 2) -> None:
    """Run this many operations in parallel, each on one thread, deterministically.

    The matrices of a batch are too small to share between threads: an epoch takes 0.10 s this way, 0.28 s with two
    threads per operation and one operation at a time, 0.14 s with two and two. It also fixes the order of every sum.
    GPUs stay hidden: TensorFlow would use the first one for everything, round products to ten bits (TF32), and take
    all its memory in each worker process; a fit would give other numbers where there is one. Call it before TensorFlow
    computes anything.
    """
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_inter_op_parallelism_threads(parallel_operations)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    tf.config.list_logical_devices()  # start the runtime now, while its notices about hardware are hidden


class Fit:
    """Fits one network to a table of whitened features.

    Args:
        network: receives the weights; its whitening is not used here.
        parameters: training settings.
        seed: of the batches.
        data: training and validation data.
    """

    def __init__(self, network: BPNN, parameters: TrainingParameters, seed: int, data: FitData) -> None:
        self.network = network
        self.parameters = parameters
        self.seed = seed
        self.history: list[Epoch] = []
        self._train, self._train_labels = data.train, data.train_labels
        self._validation, self._validation_labels = data.validation, data.validation_labels
        self._batch_size = min(parameters.batch_size, len(data.train.counts))
        self._n_batches = math.ceil(len(data.train.counts) / self._batch_size)
        self._schedule = Schedule(parameters, self._n_batches)
        self._optimizer = keras.optimizers.AdamW(
            parameters.learning_rate, weight_decay=parameters.weight_decay
        )
        self._optimizer.exclude_from_weight_decay(var_names=["bias"])
        self._weights = network.trainable_variables
        self._optimizer.build(self._weights)
        self._average = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._chosen_weights = [np.asarray(weight) for weight in self._weights]
        self._best_loss = math.inf
        self._since_best = 0
        self._run_epoch = tf.function(self._epoch_graph)
        self._predict = tf.function(self._predict_graph)
        self._validation_inputs = _inputs(data.validation, np.arange(len(data.validation.counts)))
        self._forces = (
            None
            if data.train_forces is None
            else ForceTerm(data, parameters.force_huber_scale, parameters.force_fraction, seed)
        )

    @property
    def finished(self) -> bool:
        patience = self.parameters.early_stopping
        stopped = patience > 0 and self._since_best >= patience
        return stopped or len(self.history) >= self.parameters.epochs

    @property
    def n_steps(self) -> int:
        """Optimizer steps so far."""
        return len(self.history) * self._n_batches

    @property
    def chosen(self) -> Epoch:
        """The epoch whose averaged weights are returned: the last, or with early stopping the best.

        The schedule itself leads to the best weights, and a few hundred structures cannot find better ones: weights
        chosen by the validation RMSE of 271 TiO2 structures came from the middle of the schedule and had a test MAE of
        1.39 meV/atom; the last ones had 1.08.
        """
        losses = [epoch.validation_loss for epoch in self.history]
        if self.parameters.early_stopping == 0 or None in losses:
            return self.history[-1]
        return self.history[int(np.argmin(np.array(losses, dtype=np.float64)))]

    def run(
        self,
        checkpoint: Path | None = None,
        fingerprint: str = "",
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        """Train to the end, from a checkpoint of the same fit if there is one; then set the chosen weights.

        Args:
            checkpoint: file of the checkpoint, not removed here.
            fingerprint: of everything that the fit depends on; a checkpoint with another one is ignored.
            on_epoch: called after each epoch of this run.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        if checkpoint is not None:
            self._load(checkpoint, fingerprint)
        saved = time.monotonic()
        while not self.finished:
            epoch = self._epoch()
            self.history.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            if checkpoint is not None and (self.finished or time.monotonic() - saved > _CHECKPOINT_SECONDS):
                self._save(checkpoint, fingerprint)
                saved = time.monotonic()
        for weight, chosen in zip(self._weights, self._chosen_weights, strict=True):
            weight.assign(chosen)

    def _epoch(self) -> Epoch:
        begin = time.perf_counter()
        number = len(self.history)
        inputs, n_components = self._epoch_inputs(number)
        loss, squares, force_squares = self._run_epoch(*inputs, tf.constant(number * self._n_batches))
        _check_finite("loss", number + 1, float(loss))
        found = self._validate()
        improved = found.loss is None or found.loss < self._best_loss
        if found.loss is not None:
            # no batch loss includes the last step of an epoch
            _check_finite("validation loss", number + 1, found.loss)
            self._best_loss = min(self._best_loss, found.loss)
        self._since_best = 0 if improved else self._since_best + 1
        if improved or self.parameters.early_stopping == 0:
            self._chosen_weights = [average.numpy() for average in self._average]
        return Epoch(
            epoch=number + 1,
            learning_rate=float(
                self._schedule.learning_rate(tf.constant((number + 1) * self._n_batches - 1))
            ),
            loss=float(loss),
            validation_loss=found.loss,
            train_rmse_meV_per_atom=MEV * math.sqrt(float(squares) / len(self._train.counts)),
            validation_rmse_meV_per_atom=found.rmse_meV_per_atom,
            validation_mae_meV_per_atom=found.mae_meV_per_atom,
            train_force_rmse_eV_per_A=math.sqrt(float(force_squares) / n_components)
            if n_components
            else None,
            validation_force_rmse_eV_per_A=found.force_rmse_eV_per_A,
            validation_force_mae_eV_per_A=found.force_mae_eV_per_A,
            seconds=time.perf_counter() - begin,
        )

    def _validate(self) -> Validation:
        """Errors of the averaged weights on the validation set."""
        if not len(self._validation.counts):
            return Validation()
        current = [weight.numpy() for weight in self._weights]
        for weight, average in zip(self._weights, self._average, strict=True):
            weight.assign(average)
        predicted, gradients = self._predict(*self._validation_inputs, len(self._validation.counts))
        for weight, value in zip(self._weights, current, strict=True):
            weight.assign(value)
        energies, labels = np.asarray(predicted, np.float64), self._validation_labels.energies
        n_atoms = self._validation.n_atoms
        residuals = (energies - labels) / n_atoms
        loss, errors = 0.0, np.empty(0)
        if self._forces is not None:
            force_loss, force_errors = self._forces.validation_errors(gradients)
            settings, errors = self.parameters, np.asarray(force_errors, np.float64)
            loss = (settings.final_force_weight or settings.force_weight) * force_loss
        return Validation(
            loss
            + float(
                np.mean(energy_losses(self.parameters, *map(tf.constant, (energies, labels, n_atoms * 1.0))))
            ),
            MEV * _rms(residuals),
            MEV * float(np.mean(np.abs(residuals))),
            _rms(errors) if len(errors) else None,
            float(np.mean(np.abs(errors))) if len(errors) else None,
        )

    def _epoch_inputs(self, number: int) -> tuple[tuple[Any, ...], int]:
        """Inputs of the epoch graph, with atoms in the order of the batches, and the number of force components; the
        last batch is padded with structures without atoms and weight."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self._train.counts))
        shape = (self._n_batches, self._batch_size)
        fill = (0, shape[0] * shape[1] - len(order))
        counts = np.pad(self._train.counts[order], (fill, (0, 0))).reshape(*shape, -1).sum(axis=1)
        edges = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(counts, axis=0)])
        features, segments = _inputs(self._train, order)
        labels = self._train_labels
        columns = (
            np.pad(labels.energies[order], fill),
            np.pad(self._train.n_atoms[order], fill, constant_values=1),
            np.pad(labels.weights[order], fill),
        )
        inputs = (
            features,
            [segment % self._batch_size for segment in segments],
            tf.constant(edges),
            *(tf.constant(column.reshape(shape), tf.float32) for column in columns),
        )
        return inputs, 0 if self._forces is None else self._forces.start_epoch(
            number, order, self._batch_size
        )

    def _epoch_graph(
        self,
        features: list[tf.Tensor],
        segments: list[tf.Tensor],
        edges: tf.Tensor,
        energies: tf.Tensor,
        n_atoms: tf.Tensor,
        weights: tf.Tensor,
        first_step: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Run all batches of an epoch; mean loss, sum of squared errors of energies per atom, (eV/atom)², and of
        forces, (eV/Å)²."""
        loss, squares, force_squares = 0.0, 0.0, 0.0
        for batch in tf.range(self._n_batches):
            begin, end = edges[batch], edges[batch + 1]
            step = first_step + batch
            self._optimizer.learning_rate.assign(self._schedule.learning_rate(step))
            part = [f[begin[k] : end[k]] for k, f in enumerate(features)]
            owners = [s[begin[k] : end[k]] for k, s in enumerate(segments)]
            target, n, weight = energies[batch], n_atoms[batch], weights[batch]
            with tf.GradientTape() as tape:
                batch_loss, predicted, batch_squares = self._batch_loss(
                    batch, step, part, owners, target, n, weight
                )
            gradients = tape.gradient(batch_loss, self._weights)
            if self.parameters.gradient_clip is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, self.parameters.gradient_clip)
            self._optimizer.apply(gradients, self._weights)
            decay = self._schedule.averaging(step)
            for average, weight_variable in zip(self._average, self._weights, strict=True):
                average.assign(decay * average + (1.0 - decay) * weight_variable)
            loss += batch_loss / self._n_batches
            force_squares += batch_squares
            squares += tf.reduce_sum(tf.where(weight > 0.0, ((predicted - target) / n) ** 2, 0.0))
        return loss, squares, force_squares

    def _batch_loss(
        self,
        batch: tf.Tensor,
        step: tf.Tensor,
        features: list[tf.Tensor],
        segments: list[tf.Tensor],
        target: tf.Tensor,
        n_atoms: tf.Tensor,
        weight: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Loss of a batch, its energies, and the sum of its squared force errors."""
        size = self._batch_size
        if self._forces is None:
            predicted = self.network.whitened_energies(features, segments, size, training=True)
            loss, squares = 0.0, tf.zeros(())
        else:
            predicted, gradients = self._with_gradients(features, segments, size, training=True)
            force_loss, squares = self._forces.loss(batch, gradients)
            loss = self._schedule.force_weight(step) * force_loss
        return (
            loss + tf.reduce_sum(weight * energy_losses(self.parameters, predicted, target, n_atoms)) / size,
            predicted,
            squares,
        )

    def _with_gradients(
        self, features: list[tf.Tensor], segments: list[tf.Tensor], n_structures: Any, training: bool
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Energies of structures, and their derivatives with respect to the features."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            energies = self.network.whitened_energies(features, segments, n_structures, training=training)
        return energies, tape.gradient(energies, features)

    def _predict_graph(
        self, features: Any, segments: Any, n_structures: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        if self._forces is None:
            return self.network.whitened_energies(features, segments, n_structures), []
        return self._with_gradients(features, segments, n_structures, training=False)

    def _state(self) -> list[Any]:
        """Every variable that the next epoch depends on."""
        return [*self.network.variables, *self._optimizer.variables, *self._average]

    def _save(self, path: Path, fingerprint: str) -> None:
        variables = [np.asarray(variable) for variable in self._state()]
        state = (variables, self._chosen_weights, self.history, self._best_loss, self._since_best)
        Checkpoint(*state).write(path, fingerprint)

    def _load(self, path: Path, fingerprint: str) -> None:
        """Resume from a checkpoint of the same fit, if there is one."""
        variables = self._state()
        found = Checkpoint.read(path, fingerprint, len(variables), len(self._chosen_weights))
        if found is None:
            return
        for variable, value in zip(variables, found.variables, strict=True):
            variable.assign(value)
        self._chosen_weights, self.history = list(found.chosen), list(found.history)
        self._best_loss, self._since_best = found.best_loss, found.since_best


def _check_finite(name: str, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the {name} of epoch {epoch} is {loss}")


def _rms(errors: FloatArray) -> float:
    return math.sqrt(float(np.mean(np.square(errors))))


def _inputs(table: AtomTable, order: NDArray[np.int64]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Features and structures of the atoms, copied one subnet at a time to save memory."""
    features = [tf.constant(part[table.rows(k, order)]) for k, part in enumerate(table.features)]
    owners = np.arange(len(order), dtype=np.int32)
    return features, [tf.constant(np.repeat(owners, counts)) for counts in table.counts[order].T]
