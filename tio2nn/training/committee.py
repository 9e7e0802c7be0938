"""The committee of a fit: members in company, which share the order of the structures and differ in first weights.

Sharing the order loses no accuracy, and lets one pass over the Jacobian serve all members. Networks of every
combination of first weights and orders, and committees of them that share an order or have orders apart, on held-out
structures (mean absolute errors, means over all such committees):

================================  ==============  ==============  =================  =================
..                                energies        forces          energies           forces
..                                meV/atom        meV/Å           RMSE, meV/atom     RMSE, meV/Å
================================  ==============  ==============  =================  =================
Si, one network (16)              1.54            59.3            2.54               107.2
Si, four, order shared (4)        1.463           54.83           2.383              95.1
Si, four, orders apart (24)       1.464           54.80           2.383              95.1
Si, four, same first weights (4)  1.54            58.9            2.52               106.3
TiO2, one network (9)             0.97            59.8            1.69               105.8
TiO2, three, order shared (3)     0.847           54.84           1.478              96.7
TiO2, three, orders apart (6)     0.847           54.84           1.482              96.8
================================  ==============  ==============  =================  =================

Si: 43 of 214 structures held out, recipe `auto`; TiO2: 600 of 6,028, 60 epochs of the recipe `forces`. It is the first
weights that make members differ; their spread is the same, too (26.6 and 31.5 meV/Å, either way).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.files.digests import digest_of
from tio2nn.parallel.devices import Device
from tio2nn.parallel.workers import submit_listening, tell
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.fit_parameters import with_effect
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.training.data import TrainingData
from tio2nn.training.devices import configure_threads
from tio2nn.training.fit import Fit, Resumption, run_in_company
from tio2nn.training.history import Epoch
from tio2nn.training.network import BPNN, dense_layers, initial_network
from tio2nn.training.task import FitTask, seed_of


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
    device: Device = "cpu",
) -> list[Fit]:
    """Fit all members, each from its checkpoint if it has one.

    The bits of a member depend neither on `jobs` nor on its company.

    Args:
        parameters: with nothing left to a recipe.
        data: the training data.
        files: working files; the checkpoints are kept.
        jobs: threads that work at the same time; of an executor, members fitted in parallel.
        make_executor: creates a pool of that many worker processes, each of which fits a member by itself; None to fit
            all in company, in this process.
        on_epoch: called after each epoch, with the number of the member from 1.
        device: what to compute on; the workers of an executor each have the derivatives there.

    Raises:
        DoesNotFitError: the derivatives do not fit on the device; nothing has been done.
        FloatingPointError: a loss is not finite.
        InputError: a worker process died, or a fit was begun on another device.
    """
    if make_executor is not None:
        with make_executor(min(jobs, parameters.training.members)) as executor:
            _fit_side_by_side(executor, parameters, data, files, on_epoch, device)
        on_epoch = None  # only the checkpoints remain to be read
    fits, resumptions = [], []
    for member, checkpoint in enumerate(files.checkpoints, start=1):
        network = new_network(parameters, data, seed_of(parameters.training.seed, member))
        fits.append(Fit(network, parameters.training, parameters.training.seed, data, member))
        resumptions.append(Resumption(checkpoint, fingerprint_of(parameters, data, member)))

    def listen(place: int, epoch: Epoch) -> None:
        if on_epoch is not None:
            on_epoch(place + 1, epoch)

    run_in_company(fits, resumptions, listen, jobs, device, copies=True)
    return fits


@dataclass(frozen=True, kw_only=True)
class MemberTask(FitTask):
    """The fit of one member.

    Attributes:
        resumption: where the result of the fit is kept.
    """

    resumption: Resumption


def fit_member(task: MemberTask) -> None:
    """Fit one member up to its final checkpoint, and report each epoch; runs in a worker process."""
    configure_threads(1, task.device)
    task.begin().run(task.resumption, tell, device=task.device)


def _fit_side_by_side(
    executor: Executor,
    parameters: ParameterSet,
    data: TrainingData,
    files: CommitteeFiles,
    on_epoch: Callable[[int, Epoch], None] | None,
    device: Device,
) -> None:
    """Fit all members up to their final checkpoints in worker processes."""
    heard: SimpleQueue[tuple[int, Epoch | None]] = SimpleQueue()  # None: the member is done
    data.save(files.data)
    try:
        running = {}
        for member, checkpoint in enumerate(files.checkpoints, start=1):
            task = MemberTask(
                data=files.data,
                derivatives=data.derivatives_file,
                strains=data.strains_file,
                features=data.features_file,
                elements=parameters.elements,
                n_features=parameters.n_features,
                network=parameters.network,
                training=parameters.training,
                seed=parameters.training.seed,
                member=member,
                resumption=Resumption(checkpoint, fingerprint_of(parameters, data, member)),
                device=device,
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


def fingerprint_of(parameters: ParameterSet, data: TrainingData, member: int) -> str:
    """Digest of everything that the weights of one member depend on."""
    network, training = (part.affecting(Affects.FIT) for part in (parameters.network, parameters.training))
    training = with_effect(training, bool(parameters.training.stress))
    settings = {"network": network, **training, "seed": parameters.training.seed, "member": member}
    return digest_of([data.fingerprint, json.dumps(settings, sort_keys=True), str(data.reference.as_dict())])
