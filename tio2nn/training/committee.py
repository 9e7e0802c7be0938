"""The committee of a fit: its members one after the other, or side by side in worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.parallel.remote import is_remote
from tio2nn.parallel.workers import submit_listening, tell
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.feature_store import digest_of
from tio2nn.training.data import TrainingData
from tio2nn.training.fit import Fit, configure_threads
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN, dense_layers, initial_network
from tio2nn.training.task import FitTask


class CommitteeFiles(NamedTuple):
    """The working files of a committee.

    Attributes:
        checkpoints: one per member.
        data: read by worker processes; removed at the end.
    """

    checkpoints: Sequence[Path]
    data: Path


def new_network(parameters: ParameterSet, data: TrainingData, seed: int) -> BPNN:
    """A network with the whitening of the data and initial weights drawn from the seed."""
    network = initial_network(parameters.network, parameters.elements, parameters.n_features, data, seed)
    for subnet in network.subnets.values():
        dense_layers(subnet)  # fail now for layers that a potential cannot store
    network.set_whitenings(data.whitenings)
    return network


def fit_committee(
    parameters: ParameterSet,
    data: TrainingData,
    files: CommitteeFiles,
    *,
    jobs: int = 1,
    make_executor: Callable[[int], Executor] | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> list[Fit]:
    """Fit all members, each from its checkpoint if it has one.

    The bits do not depend on `jobs`.

    Args:
        parameters: with nothing left to a recipe.
        data: the training data.
        files: working files; the checkpoints are kept.
        jobs: members fitted in parallel.
        make_executor: creates a pool of that many worker processes; needed for more than one.
        on_epoch: called after each epoch, with the number of the member from 1.

    Raises:
        FloatingPointError: a loss is not finite.
        InputError: a worker process died.
    """
    jobs = min(jobs, parameters.training.members)
    if make_executor is not None and (jobs > 1 or is_remote(make_executor)):
        with make_executor(jobs) as executor:
            _fit_side_by_side(executor, parameters, data, files, on_epoch)
        on_epoch = None  # only the checkpoints remain to be read
    fits = []
    for member, checkpoint in enumerate(files.checkpoints, start=1):
        seed = _seed_of(parameters, member)
        fit = Fit(new_network(parameters, data, seed), parameters.training, seed, data)
        listen = None if on_epoch is None else partial(on_epoch, member)
        fit.run(checkpoint, _fingerprint(parameters, data, seed), listen)
        fits.append(fit)
    return fits


@dataclass(frozen=True, kw_only=True)
class MemberTask(FitTask):
    """The fit of one member.

    Attributes:
        checkpoint: receives the result of the fit.
        fingerprint: of everything that the fit depends on.
    """

    checkpoint: Path
    fingerprint: str


def fit_member(task: MemberTask) -> None:
    """Fit one member up to its final checkpoint, and report each epoch; runs in a worker process."""
    configure_threads()
    task.begin().run(task.checkpoint, task.fingerprint, tell)


def _fit_side_by_side(
    executor: Executor,
    parameters: ParameterSet,
    data: TrainingData,
    files: CommitteeFiles,
    on_epoch: Callable[[int, Epoch], None] | None,
) -> None:
    """Fit all members up to their final checkpoints in worker processes."""
    heard: SimpleQueue[tuple[int, Epoch | None]] = SimpleQueue()  # None: the member is done
    data.save(files.data)
    try:
        running = {}
        for member, checkpoint in enumerate(files.checkpoints, start=1):
            seed = _seed_of(parameters, member)
            task = MemberTask(
                data=files.data,
                derivatives=data.derivatives_file,
                elements=parameters.elements,
                n_features=parameters.n_features,
                network=parameters.network,
                training=parameters.training,
                seed=seed,
                checkpoint=checkpoint,
                fingerprint=_fingerprint(parameters, data, seed),
            )

            def listen(epoch: Epoch, member: int = member) -> None:
                heard.put((member, epoch))

            def end(_: object, member: int = member) -> None:
                heard.put((member, None))

            running[member] = submit_listening(executor, listen, fit_member, task)
            running[member].add_done_callback(end)
        while running:
            member, epoch = heard.get()
            if epoch is not None:
                if on_epoch is not None:
                    on_epoch(member, epoch)
                continue
            try:
                running.pop(member).result()
            except BrokenExecutor as error:
                raise InputError(
                    f"cannot train committee member {member}: {error}; its checkpoint is kept; "
                    "to use less memory, run the command again with --jobs 1"
                ) from None
    finally:
        files.data.unlink(missing_ok=True)


def _seed_of(parameters: ParameterSet, member: int) -> int:
    return parameters.training.seed + member - 1


def _fingerprint(parameters: ParameterSet, data: TrainingData, seed: int) -> str:
    """Digest of everything that the weights of one member depend on."""
    network, training = (part.affecting(Affects.FIT) for part in (parameters.network, parameters.training))
    settings = {"network": network, **training, "seed": seed}
    return digest_of([data.fingerprint, json.dumps(settings, sort_keys=True), str(data.reference.as_dict())])
