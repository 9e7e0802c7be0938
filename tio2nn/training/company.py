"""The epochs of networks that have everything in common but their weights: batches, steps, validation.

Several processes may share the work, each with its part of every batch (`tio2nn.parallel.exchange`). Their gradients
are added once a batch, the predictions for the validation set once an epoch. Each epoch begins with the weights of the
first process, and what follows from the loss of the validation set follows from the loss that it found: other
processors may round otherwise.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace

import numpy as np
import tensorflow as tf

from tio2nn.array_types import Float32Array, FloatArray
from tio2nn.job_part import JobPart
from tio2nn.parallel.devices import Device
from tio2nn.parallel.exchange import Exchange
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.batches import Batches, Part, Readers, shuffled
from tio2nn.training.dataset import FitData
from tio2nn.training.devices import force_products, padding_for, stress_products, without_xla
from tio2nn.training.flat_network import Shape
from tio2nn.training.history import Epoch, Validation
from tio2nn.training.host_stepper import HostStepper
from tio2nn.training.losses import MEV, energy_losses
from tio2nn.training.padding import Padding
from tio2nn.training.predictions import Predictions
from tio2nn.training.schedule import Schedule
from tio2nn.training.stepper import Stepper

_VALIDATION_BATCH = 128  # structures; each atom takes some 5 kB


class Company:
    """The epochs of networks in company; close it at the end.

    Args:
        shape: of the networks.
        data: of the fit.
        parameters: training settings.
        seed: of the order of the structures, and of the forces that count.
        threads: that work at the same time.
        device: what to compute on.
        exchange: with other processes that share the work, on the CPU.

    Attributes:
        n_batches: of an epoch.
    """

    def __init__(
        self,
        shape: Shape,
        data: FitData,
        parameters: TrainingParameters,
        seed: int,
        threads: int = 1,
        device: Device = "cpu",
        exchange: Exchange | None = None,
    ) -> None:
        self._parameters, self._seed, self._exchange = parameters, seed, exchange
        self._train = Part(data.train, data.train_labels, data.train_forces, data.train_stress)
        self._validation = Part(
            data.validation, data.validation_labels, data.validation_forces, data.validation_stress
        )
        self._batch_size = min(parameters.batch_size, len(self._train))
        self.n_batches = math.ceil(len(self._train) / self._batch_size)
        self._schedule = Schedule(parameters, self.n_batches)
        self._rank = JobPart(1, 1) if exchange is None else exchange.rank
        n = len(self._validation)
        size = -(-min(n, _VALIDATION_BATCH) // self._rank.total) * self._rank.total
        self._stepper: Stepper | HostStepper
        self._padding: Padding | None = None
        padding: Padding | None = None
        if device == "cpu":
            self._stepper = HostStepper(shape, data, parameters, self._schedule, threads, exchange)
        else:
            sizes = (self._batch_size, _VALIDATION_BATCH)
            forces, stress = force_products(data, parameters, sizes), stress_products(data, parameters)
            compiled = without_xla() is None
            self._stepper = Stepper(
                shape, data, parameters, self._schedule, forces, stress, compiled=compiled
            )
            orders = (self._random(epoch).permutation(len(self._train)) for epoch in range(parameters.epochs))
            self._padding = padding_for(self._train, self._batch_size, orders, forces, stress)
            if n:
                padding = padding_for(self._validation, size, [np.arange(n)], forces, stress)
        self._readers = Readers.of(data) if device == "cpu" else None
        self._validation_batches: Batches | None = None
        # some processes have none of a small set
        if n and self._rank.number <= n:
            self._validation_batches = Batches(
                self._validation, np.arange(n), size, self._readers, rank=self._rank, padding=padding
            )

    def _random(self, number: int) -> np.random.Generator:
        """What the order of an epoch is drawn with."""
        return np.random.default_rng([self._seed, number])

    def epoch(self, number: int, states: Float32Array, members: Sequence[tuple[int, int]]) -> list[Epoch]:
        """Train networks that are at the epoch of this number, from 0, and validate them.

        Args:
            number: of the epoch.
            states: (4, n_members, n_weights) as for `Stepper.train`; changed in place.
            members: seed and number of each, which set them apart in what else is drawn.

        Raises:
            InputError: another process is gone, or a file cannot be read.
        """
        begin = time.perf_counter()
        batches = self.batches(number)
        # the masks of dropout differ between processes, too
        own = () if self._rank.number == 1 else (self._rank.number,)
        keys = [_key(*member, *own) for member in members]
        with self._errors_in_the_open():
            if self._exchange is not None:
                states[:] = self._exchange.from_first(states)
            totals = self._stepper.train(batches, states, number * self.n_batches, keys)
            if self._exchange is not None:
                totals = self._exchange.sum(totals)
        found = self._validate(states[3])
        last_step = np.array([(number + 1) * self.n_batches - 1])
        learning_rate = float(self._schedule.learning_rates(last_step)[0])
        n_components, n_of_stress = batches.n_components
        epochs = []
        for m in range(len(members)):
            losses, squares, force_losses, force_squares, *of_stress = totals[m].tolist()
            stress_losses, stress_squares = of_stress or (0.0, 0.0)
            epochs.append(
                Epoch(
                    epoch=number + 1,
                    learning_rate=learning_rate,
                    loss=(losses + force_losses + stress_losses) / self.n_batches,
                    validation_loss=found[m].loss,
                    train_rmse_meV_per_atom=MEV * math.sqrt(squares / len(self._train)),
                    validation_rmse_meV_per_atom=found[m].rmse_meV_per_atom,
                    validation_mae_meV_per_atom=found[m].mae_meV_per_atom,
                    train_force_rmse_eV_per_A=math.sqrt(force_squares / n_components)
                    if n_components
                    else None,
                    validation_force_rmse_eV_per_A=found[m].force_rmse_eV_per_A,
                    validation_force_mae_eV_per_A=found[m].force_mae_eV_per_A,
                    seconds=time.perf_counter() - begin,
                    train_stress_rmse_meV_per_A3=MEV * math.sqrt(stress_squares / n_of_stress)
                    if n_of_stress
                    else None,
                    validation_stress_rmse_meV_per_A3=found[m].stress_rmse_meV_per_A3,
                    validation_stress_mae_meV_per_A3=found[m].stress_mae_meV_per_A3,
                )
            )
        return epochs

    @contextmanager
    def _errors_in_the_open(self) -> Iterator[None]:
        """What ends an epoch in a graph is raised as it is, and not as the graph wraps it."""
        with ExitStack() as stack:
            for own in (self._readers, self._exchange):
                if own is not None:
                    stack.enter_context(own.errors_in_the_open())
            yield

    def close(self) -> None:
        """End its threads."""
        self._stepper.close()
        if self._readers is not None:
            self._readers.close()

    def batches(self, number: int) -> Batches:
        """Those of an epoch, in which the forces of some structures may not count."""
        train, n = self._train, len(self._train)
        fraction = self._parameters.force_fraction
        if train.forces is not None and fraction < 1.0:
            left_out = np.random.default_rng([self._seed, number, 1]).random(n) >= fraction
            train = train.without_forces(left_out)
        random = self._random(number)
        return shuffled(train, self._batch_size, random, self._readers, self._rank, self._padding)

    def _validate(self, average: Float32Array) -> list[Validation]:
        """Errors of averaged weights (n_members, n_weights) on the validation set."""
        n_members = len(average)
        if not len(self._validation):
            return [Validation()] * n_members
        own = None
        if self._validation_batches is not None:
            own = self._stepper.predict(self._validation_batches, average)
        if self._exchange is None:
            assert own is not None, "there is a validation set"
            return [self._errors(own, m) for m in range(n_members)]
        with self._errors_in_the_open():
            whole = self._joined(self._exchange, own, n_members)
            found = [self._errors(whole, m) for m in range(n_members)]
            losses = self._exchange.from_first(np.array([validation.loss for validation in found]))
        return [
            replace(validation, loss=loss) for validation, loss in zip(found, losses.tolist(), strict=True)
        ]

    def _joined(self, exchange: Exchange, own: Predictions | None, n_members: int) -> Predictions:
        """The predictions of all processes: each one fills in its own, and zeros do not change a sum."""
        n, forces, stress = len(self._validation), self._validation.forces, self._validation.stress
        n_atoms = np.zeros(n, np.int64) if forces is None else forces.n_atoms
        whole = Predictions(
            np.zeros((n_members, n), np.float32),
            np.zeros((n_members, int(n_atoms.sum()), 3), np.float32),
            np.zeros(n_members),
            np.zeros((n_members, 0 if stress is None else n, 6), np.float32),
            np.zeros(n_members),
        )
        if own is not None and self._validation_batches is not None:
            is_own = np.zeros(n, np.bool_)
            is_own[self._validation_batches.order] = True
            whole.energies[:, is_own] = own.energies
            whole.forces[:, np.repeat(is_own, n_atoms)] = own.forces
            whole.force_losses[:], whole.stress_losses[:] = own.force_losses, own.stress_losses
            if stress is not None:
                whole.stresses[:, is_own] = own.stresses
        return Predictions(*(exchange.sum(getattr(whole, field.name)) for field in fields(whole)))

    def _errors(self, predictions: Predictions, member: int) -> Validation:
        settings = self._parameters
        labels, forces = self._validation.labels, self._validation.forces
        n_atoms = self._validation.table.n_atoms
        energies = predictions.energies[member].astype(np.float64)
        losses = energy_losses(settings, *map(tf.constant, (energies, labels.energies, n_atoms * 1.0)))
        loss, errors = float(np.mean(losses)), np.empty(0)
        if forces is not None:
            known = np.repeat(forces.has_forces, forces.n_atoms)
            errors = (predictions.forces[member] - forces.forces)[known].astype(np.float64).ravel()
            loss += (settings.final_force_weight or settings.force_weight) * predictions.force_losses[member]
        stress, of_stress = self._validation.stress, np.empty(0)
        if stress is not None:
            known = predictions.stresses[member].astype(np.float64) - stress.stresses
            of_stress = known[stress.has_stress].ravel()
            of_stress = of_stress[np.isfinite(stress.stresses[stress.has_stress].ravel())]
            loss += settings.stress_weight * predictions.stress_losses[member]
        residuals = (energies - labels.energies) / n_atoms
        return Validation(
            loss,
            MEV * _rms(residuals),
            MEV * float(np.mean(np.abs(residuals))),
            _rms(errors) if len(errors) else None,
            float(np.mean(np.abs(errors))) if len(errors) else None,
            MEV * _rms(of_stress) if len(of_stress) else None,
            MEV * float(np.mean(np.abs(of_stress))) if len(of_stress) else None,
        )


def _key(*numbers: int) -> int:
    """A key of the dropout, another one for other numbers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)


def _rms(errors: FloatArray) -> float:
    return math.sqrt(float(np.mean(np.square(errors))))
