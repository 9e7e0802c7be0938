"""The fit of networks: epochs, batches, validation, and the choice of weights.

Networks in company go through the same batches.

All randomness in epoch n follows from the seed and n: a fit that was killed and resumed ends with the same bits as one
that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tio2nn.errors import InputError
from tio2nn.memory import free_memory
from tio2nn.parallel.devices import Device
from tio2nn.parallel.exchange import Exchange
from tio2nn.parameters.fit_parameters import TrainingParameters
from tio2nn.training.checkpoint import Checkpoint
from tio2nn.training.company import Company
from tio2nn.training.dataset import FitData
from tio2nn.training.devices import on
from tio2nn.training.flat_network import FlatNetwork
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN
from tio2nn.wording import counted

_OF_FREE_MEMORY = 0.5  # what copies of derivatives may take; other programs need some, too
_CHECKPOINT_SECONDS = 5.0  # work lost by a kill, at most; writing a checkpoint takes about 10 ms


@dataclass(frozen=True)
class Resumption:
    """Where the state of a fit is kept.

    Attributes:
        checkpoint: the file, not removed by the fit.
        fingerprint: of everything that the fit depends on; a checkpoint with another one is ignored.
    """

    checkpoint: Path
    fingerprint: str


class Fit:
    """Fits one network to a table of whitened features.

    Args:
        network: receives the weights; its whitening is not used here.
        parameters: training settings.
        seed: of the order of the structures, and of the forces that count.
        data: training and validation data.
        member: sets networks with the same seed apart in what else is drawn.
    """

    def __init__(
        self, network: BPNN, parameters: TrainingParameters, seed: int, data: FitData, member: int = 1
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.seed, self.member = seed, member
        self.data = data
        self.history: list[Epoch] = []
        self.flat_network = FlatNetwork(network)
        weights = self.flat_network.weights()
        if data.first_weights is not None:
            weights = data.first_weights.of(member, weights)
        # what the next epoch depends on: weights, first and second moment of their gradient, average of the weights
        self.state = np.array([weights, np.zeros_like(weights), np.zeros_like(weights), weights])
        self._chosen_weights = weights
        self._best_loss = math.inf
        self._since_best = 0
        self._saved = 0.0
        self._device: Device | None = None  # of the epochs so far

    @property
    def n_batches(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.data.train.counts) / self.batch_size)

    @property
    def batch_size(self) -> int:
        return min(self.parameters.batch_size, len(self.data.train.counts))

    @property
    def finished(self) -> bool:
        patience = self.parameters.early_stopping
        stopped = patience > 0 and self._since_best >= patience
        return stopped or len(self.history) >= self.parameters.epochs

    @property
    def n_steps(self) -> int:
        """Optimizer steps so far."""
        return len(self.history) * self.n_batches

    @property
    def progress(self) -> tuple[float, float, float]:
        """Epochs so far, smallest validation loss, epochs since then."""
        return len(self.history), self._best_loss, self._since_best

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
        resumption: Resumption | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        threads: int = 1,
        device: Device = "cpu",
    ) -> None:
        """Train to the end, from a checkpoint of the same fit if there is one; then set the chosen weights.

        Args:
            resumption: where the state is kept, if it is.
            on_epoch: called after each epoch of this run.
            threads: that work at the same time; the bits do not depend on it.
            device: what to compute on.

        Raises:
            As for `run_in_company`.
        """

        def listen(_: int, epoch: Epoch) -> None:
            if on_epoch is not None:
                on_epoch(epoch)

        run_in_company([self], None if resumption is None else [resumption], listen, threads, device)

    def begin(self, resumption: Resumption | None) -> None:
        """Continue from a checkpoint of the same fit, if there is one."""
        self._saved = time.monotonic()
        if resumption is None:
            return
        found = Checkpoint.read(resumption.checkpoint, resumption.fingerprint)
        if found is None:
            return
        self.state, self._chosen_weights = found.state, found.chosen
        self._device = found.device
        self.history = list(found.history)
        self._best_loss, self._since_best = found.best_loss, found.since_best

    def require(self, device: Device, checkpoint: Path) -> None:
        """Refuse to go on with the epochs of another device.

        Raises:
            InputError: they are of another one.
        """
        if self._device not in (None, device):
            raise InputError(
                f"expected a fit begun on the {device}, got one of {counted(len(self.history), 'epoch')} on the "
                f"{self._device}; --device {self._device} continues it; to start over, remove the file",
                file=str(checkpoint),
            )
        self._device = device

    def end_epoch(self, epoch: Epoch) -> None:
        """Note an epoch, whose weights are in the state.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        _check_finite("loss", epoch.epoch, epoch.loss)
        loss = epoch.validation_loss
        improved = loss is None or loss < self._best_loss
        if loss is not None:
            # no batch loss includes the last step of an epoch
            _check_finite("validation loss", epoch.epoch, loss)
            self._best_loss = min(self._best_loss, loss)
        self._since_best = 0 if improved else self._since_best + 1
        if improved or self.parameters.early_stopping == 0:
            self._chosen_weights = self.state[3].copy()
        self.history.append(epoch)

    def save_now_and_then(self, resumption: Resumption) -> None:
        """Write a checkpoint at the end of the fit, and if the last one is old."""
        if self.finished or time.monotonic() - self._saved > _CHECKPOINT_SECONDS:
            Checkpoint(
                self.state,
                self._chosen_weights,
                self.history,
                self._best_loss,
                self._since_best,
                self._device or "cpu",
            ).write(resumption.checkpoint, resumption.fingerprint)
            self._saved = time.monotonic()

    def end(self) -> None:
        """Set the chosen weights."""
        self.flat_network.assign(self._chosen_weights)


def run_in_company(
    fits: Sequence[Fit],
    resumptions: Sequence[Resumption] | None,
    on_epoch: Callable[[int, Epoch], None],
    threads: int = 1,
    device: Device = "cpu",
    exchange: Exchange | None = None,
    *,
    copies: bool = False,
) -> None:
    """Train networks with the same data, settings and seed to the end, as `Fit.run` does each.

    Fits that resume from earlier epochs catch up first; one that stops early leaves.

    Args:
        fits: of the networks.
        resumptions: one for each fit, or None.
        on_epoch: called after each epoch with the place of the fit, from 0.
        threads: that work at the same time.
        device: what to compute on.
        exchange: with processes that share the work, all with the same fits and the same checkpoints, which the first
            process alone writes.
        copies: whether to copy the derivatives into memory where there is room; for one process at a time.

    Raises:
        DoesNotFitError: the derivatives do not fit on the device; nothing has been done.
        FloatingPointError: a loss is not finite.
        InputError: a fit was begun on another device, or another process is gone or sees other checkpoints.
    """
    for place, fit in enumerate(fits):
        fit.begin(None if resumptions is None else resumptions[place])
    if exchange is not None:
        _require_same(exchange, fits)
    if not all(fit.finished for fit in fits):
        like = fits[0]
        data = like.data
        if copies and device == "cpu":
            data = data.with_copied_derivatives(_OF_FREE_MEMORY * free_memory())
        with (
            on(device),
            closing(
                Company(like.flat_network.shape, data, like.parameters, like.seed, threads, device, exchange)
            ) as company,
        ):
            if resumptions is not None:
                for fit, resumption in zip(fits, resumptions, strict=True):
                    if not fit.finished:
                        fit.require(device, resumption.checkpoint)
            kept = resumptions if exchange is None or exchange.is_first else None
            _train(company, fits, kept, on_epoch)
    for fit in fits:
        fit.end()


def _require_same(exchange: Exchange, fits: Sequence[Fit]) -> None:
    """Refuse to share epochs with a process that would begin with others."""
    own = np.array([fit.progress for fit in fits])
    if not np.array_equal(exchange.from_first(own), own):
        raise InputError(
            f"rank 1 has read other checkpoints than rank {exchange.rank.number}; make sure that all ranks share the "
            "project"
        )


def _train(
    company: Company,
    fits: Sequence[Fit],
    resumptions: Sequence[Resumption] | None,
    on_epoch: Callable[[int, Epoch], None],
) -> None:
    while behind := [len(fit.history) for fit in fits if not fit.finished]:
        number = min(behind)
        present = [place for place, fit in enumerate(fits) if not fit.finished and len(fit.history) == number]
        states = np.stack([fits[place].state for place in present], axis=1)
        epochs = company.epoch(number, states, [(fits[place].seed, fits[place].member) for place in present])
        for m, (place, epoch) in enumerate(zip(present, epochs, strict=True)):
            fits[place].state = states[:, m].copy()
            fits[place].end_epoch(epoch)
            on_epoch(place, epoch)
            if resumptions is not None:
                fits[place].save_now_and_then(resumptions[place])


def _check_finite(name: str, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the {name} of epoch {epoch} is {loss}")
