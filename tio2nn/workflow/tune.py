"""The verb tune: search for the best network size, learning rate and dropout.

KerasTuner proposes trials, and worker processes run them. A ledger records every finished trial, so that a killed
search can resume and gives the same result as one without interruption.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.parallel.workers import trial_workers, worker_count
from tio2nn.parameters.fields import Affects
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import forces_of
from tio2nn.parameters.schema import fields
from tio2nn.parameters.validation import Section
from tio2nn.project.facts import facts_of, resolved
from tio2nn.project.feature_store import digest_of
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.project.provenance import versions
from tio2nn.structures.split import LEFT_OUT, Split
from tio2nn.training.data import TrainingData, prepare
from tio2nn.training.force_kernels import compile_force_losses
from tio2nn.training.splits import FEWEST_TO_VALIDATE
from tio2nn.tuning.oracles import BLIND, Oracle, candidates
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import (
    COMPLETED,
    FAILED,
    Candidate,
    Ledger,
    Outcome,
    Trial,
    best_of,
    ranked,
    write_best,
    write_trials,
)
from tio2nn.wording import counted
from tio2nn.workflow.inputs import SplitRequest, choose_split, keep_split, read_inputs


@dataclass(frozen=True)
class TuneSummary:
    """Result of a search.

    Attributes:
        ranked: all trials, best first.
        best: the content of `best.json`; not the first trial if that is hardly better than the present settings.
        n_known: number of trials taken from the ledger.
        seconds: wall time.
    """

    ranked: tuple[Trial, ...]
    best: dict[str, Any]
    n_known: int
    seconds: float


def tune(
    project: Project | Snapshot | AnyPath,
    parameters: ParameterSet | None = None,
    *,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = trial_workers,
    split_file: AnyPath | None = None,
    on_data: Callable[[TrainingData], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    command: Sequence[str] = (),
) -> TuneSummary:
    """Search on the training set of a project, scored on its validation set, with forces if the fit uses them.

    Args:
        project: project, or its directory, with features and, for a search on forces, derivatives.
        parameters: parameters of the project, with any changes from the command line; their recipe sets what they
            leave open.
        jobs: number of trials to run in parallel; by default one per core.
        make_executor: makes worker processes; if one dies, the others must survive; by default local processes.
        split_file: a split file given by the user.
        on_data: called with the training and validation data of the trials.
        on_trial: called after each trial, including those of earlier searches.
        command: the command line to record.

    Raises:
        MissingInputError, StaleError: as for `tio2nn.workflow.inputs.read_inputs`.
        InputError: the features are damaged, a set is empty, or no trial completes.
        TypeError, ValueError: jobs is no positive whole number.
    """
    begin = time.perf_counter()
    n_workers = worker_count(jobs)
    snapshot = Snapshot.of(project)
    project = snapshot.project
    if parameters is None:
        parameters = snapshot.parameters
    inputs = read_inputs(snapshot, parameters)
    split = chosen = choose_split(snapshot, parameters, SplitRequest(split_file))
    asked = forces_of(parameters)
    parameters = resolved(parameters, inputs.store, split, inputs.selection)
    tuning = parameters.tuning
    if tuning.structures is not None:
        split = subset(split, tuning.structures, tuning.seed)
        drawn = facts_of(parameters, inputs.store, split, inputs.selection)
        if asked == "auto" and not drawn.n_structures_with_forces:
            parameters = parameters.with_overrides(training={"forces": False})
    data = prepare(inputs, parameters, split)
    if not len(data.validation.counts):
        raise InputError(
            "expected structures in the validation set to compare trials, got none; data sets of fewer than "
            f"{FEWEST_TO_VALIDATE} structures have no validation set"
        )
    keep_split(snapshot, chosen)
    if data.train_forces is not None:
        compile_force_losses(data.train_forces.jacobian)
    if on_data is not None:
        on_data(data)
    project.tuning_directory.mkdir(exist_ok=True)
    search = _Search(project, parameters, data, n_workers, on_trial)
    data.save(project.trial_data_file)
    try:
        with make_executor(n_workers) as executor:
            trials = search.blind(executor) if tuning.strategy in BLIND else search.guided(executor)
    finally:
        project.trial_data_file.unlink(missing_ok=True)
    best = best_of(trials, own_candidate(parameters), len(data.validation.counts))
    if best.status != COMPLETED:
        raise InputError(
            f"none of {counted(len(trials), 'trial')} completed: {best.status}, {best.message}; "
            f"see {project.trials_file}"
        )
    about = {
        "inputs": snapshot.inputs(parameters),
        "strategy": tuning.strategy,
        "command": list(command),
        "versions": versions(),
    }
    return TuneSummary(
        ranked=ranked(trials),
        best=write_best(project.best_trial_file, best, about),
        n_known=search.n_known,
        seconds=time.perf_counter() - begin,
    )


def own_candidate(parameters: ParameterSet) -> Candidate | None:
    """The settings of a fit without a search; None for layers of different widths, which trials cannot have.

    Args:
        parameters: completed by their recipe.
    """
    layers = parameters.network.hidden_layers
    if len(set(layers)) != 1:
        return None
    return Candidate(
        layers=len(layers),
        nodes=layers[0],
        learning_rate=parameters.training.learning_rate,
        dropout=parameters.network.dropout,
        epochs=parameters.tuning.epochs,
    )


def subset(split: Split, n_structures: int, seed: int) -> Split:
    """A random subset of the training and validation sets, in proportion to their sizes."""
    sizes = {part: len(split.indices(part)) for part in ("train", "validation")}
    total = sum(sizes.values())
    if n_structures >= total:
        return split
    n_validation = min(max(1, round(n_structures * sizes["validation"] / total)), n_structures - 1)
    wanted = {"train": n_structures - n_validation, "validation": n_validation}
    rng = np.random.default_rng([seed, 0x70BE])
    parts = [LEFT_OUT] * len(split.parts)
    for part, size in wanted.items():
        for index in rng.permutation(split.indices(part))[:size]:
            parts[index] = part
    return replace(split, parts=tuple(parts))


class _Search:
    """Runs the trials that are not in the ledger."""

    def __init__(
        self,
        project: Project,
        parameters: ParameterSet,
        data: TrainingData,
        jobs: int,
        on_trial: Callable[[Trial], None] | None,
    ) -> None:
        self.n_known = 0
        self._parameters = parameters
        self._jobs = jobs
        self._on_trial = on_trial
        self._ledger = Ledger(project.trial_ledger_file)
        self._trials_file = project.trials_file
        self._data_file = project.trial_data_file
        self._derivatives_file = data.derivatives_file
        self._settings = _settings(parameters, data)
        self._trials: dict[int, Trial] = {}

    def blind(self, executor: Executor) -> list[Trial]:
        """Run all trials of a strategy that does not depend on results, as workers become free."""
        waiting = dict(candidates(self._parameters.tuning))
        for number in list(waiting):
            if self._known(number, waiting[number]):
                del waiting[number]
        futures = {self._submit(executor, candidate): number for number, candidate in waiting.items()}
        for future in _as_completed(futures):
            number = futures[future]
            self._finish(number, waiting[number], _outcome(future))
        return list(self._trials.values())

    def guided(self, executor: Executor) -> list[Trial]:
        """Run all trials of a strategy that learns from results.

        Results are passed to the oracle in the order of its proposals, and the oldest of `jobs` running trials must
        finish before the next is proposed. Proposals therefore depend on results and on `jobs`, not on the speed of
        the workers.
        """
        with Oracle(self._parameters.tuning) as oracle:
            running: dict[int, tuple[Candidate, Future[Outcome] | None]] = {}
            while True:
                while len(running) < self._jobs and (proposal := oracle.ask()) is not None:
                    number, candidate = proposal
                    known = self._known(number, candidate)
                    running[number] = candidate, None if known else self._submit(executor, candidate)
                if not running:
                    return list(self._trials.values())
                number = min(running)
                candidate, future = running.pop(number)
                if future is not None:
                    self._finish(number, candidate, _outcome(future))
                oracle.tell(number, self._trials[number])

    def _known(self, number: int, candidate: Candidate) -> bool:
        trial = self._ledger.find(self._settings, candidate, number)
        if trial is None:
            return False
        self.n_known += 1
        self._record(trial)
        return True

    def _finish(self, number: int, candidate: Candidate, outcome: Outcome) -> None:
        trial = Trial.of(number, candidate, outcome)
        self._ledger.add(self._settings, trial)
        self._record(trial)

    def _record(self, trial: Trial) -> None:
        self._trials[trial.trial] = trial
        write_trials(self._trials_file, self._trials.values())
        if self._on_trial is not None:
            self._on_trial(trial)

    def _submit(self, executor: Executor, candidate: Candidate) -> Future[Outcome]:
        tuning = self._parameters.tuning
        changed = self._parameters.with_overrides(**candidate.overrides)
        training = replace(
            changed.training,
            epochs=candidate.epochs,
            batch_size=tuning.batch_size or changed.training.batch_size,
        )
        task = TrialTask(
            data=self._data_file,
            derivatives=self._derivatives_file,
            elements=changed.elements,
            n_features=changed.n_features,
            network=changed.network,
            training=training,
            seed=tuning.seed,
            # parallel trials share the cores; a single one may use two
            parallel_operations=1 if self._jobs > 1 else 2,
        )
        return executor.submit(run_trial, task)


def _settings(parameters: ParameterSet, data: TrainingData) -> str:
    """Digest of all that determines the outcome of a trial besides the candidate."""
    fixed: Mapping[str, Any] = {
        "network": _without_searched(parameters.network, Affects.FIT),
        # as 0.1.0 has it, which named the members
        "training": {**_without_searched(parameters.training, Affects.DATA | Affects.FIT), "members": None},
        **parameters.tuning.affecting(Affects.TRIAL),
        "reference_energies": data.reference.as_dict(),
    }
    return digest_of([data.fingerprint, json.dumps(fixed, sort_keys=True)])


def _without_searched(section: Section, part: Affects) -> dict[str, Any]:
    """As JSON, what a part depends on, with null for what the candidate decides."""
    return {
        **section.affecting(part),
        **{field.key: None for field in fields(type(section)) if field.about.searched},
    }


def _as_completed(futures: Mapping[Future[Outcome], int]) -> Iterator[Future[Outcome]]:
    """Like `concurrent.futures.as_completed`, but in order of number if several are ready."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from sorted(done, key=lambda future: futures[future])


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenExecutor as error:
        return Outcome(status=FAILED, message=str(error))
