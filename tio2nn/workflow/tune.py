"""The verb tune: search for the best network size, learning rate and dropout.

KerasTuner proposes trials, and worker processes run them. Ledgers record every finished trial, so that a killed search
can resume and gives the same result as one without interruption. The parts of a job array search together; the command
without a part runs what they left and writes the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.atomic import write_once
from tio2nn.files.lock import jobs as jobs_at_work
from tio2nn.files.lock import turn
from tio2nn.files.paths import AnyPath
from tio2nn.files.strict_json import format_json
from tio2nn.job_part import JobPart
from tio2nn.memory import memory_for_derivatives
from tio2nn.parallel.workers import trial_workers, worker_count
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.recipes import forces_of
from tio2nn.parameters.schema import to_json
from tio2nn.project.facts import facts_of, resolved
from tio2nn.project.freshness import Snapshot
from tio2nn.project.job_parts import PartNotes
from tio2nn.project.layout import features_beside
from tio2nn.project.project import Project
from tio2nn.project.provenance import versions
from tio2nn.structures.split import LEFT_OUT, Split
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.data import Memory, TrainingData, prepare
from tio2nn.training.splits import FEWEST_TO_VALIDATE
from tio2nn.tuning.ledger import Ledger, of_part
from tio2nn.tuning.oracles import BLIND
from tio2nn.tuning.record import Conditions, Record
from tio2nn.tuning.search import missing_trials, search_blindly, search_guided
from tio2nn.tuning.shared_search import SharedSearch
from tio2nn.tuning.trials import COMPLETED, Candidate, Trial, best_of, ranked, write_best
from tio2nn.wording import counted
from tio2nn.workflow.inputs import SplitRequest, choose_split, keep_split, read_inputs


@dataclass(frozen=True)
class TuneSummary:
    """Result of a search.

    Attributes:
        ranked: all trials, best first.
        best: the content of `best.json`; not the first trial if that is hardly better than the present settings.
        n_known: number of trials taken from the ledgers.
        seconds: wall time.
    """

    ranked: tuple[Trial, ...]
    best: dict[str, Any]
    n_known: int
    seconds: float


@dataclass(frozen=True)
class PartSummary:
    """What one part of a search did.

    Attributes:
        n_run: number of trials that ran here.
        seconds: wall time.
    """

    n_run: int
    seconds: float


def tune(
    project: Project | Snapshot | AnyPath,
    parameters: ParameterSet | None = None,
    *,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = trial_workers,
    split_file: AnyPath | None = None,
    on_data: Callable[[TrainingData, str], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    command: Sequence[str] = (),
) -> TuneSummary:
    """Search on the training set of a project, scored on its validation set, with forces if the fit uses them.

    Args:
        project: project, or its directory, with features and, for a search on forces, derivatives.
        parameters: parameters of the project, with any changes from the command line; their recipe sets what they
            leave open.
        jobs: number of trials to run in parallel; by default one per core. Derivatives that exceed half the memory, or
            TIO2NN_MEMORY in GB, are read in windows, whose size and trials depend on it; so are features.
        make_executor: makes worker processes; if one dies, the others must survive; by default local processes.
        split_file: a split file given by the user.
        on_data: called with the training and validation data of the trials, and with the parts of a job array that have
            left trials to this call, as text.
        on_trial: called after each trial, including those of earlier searches.
        command: the command line to record.

    Raises:
        MissingInputError, StaleError: as for `tio2nn.workflow.inputs.read_inputs`.
        InputError: the features are damaged, a set is empty, or no trial completes.
        UsageError: the variable TIO2NN_MEMORY is no positive number.
        TypeError, ValueError: jobs is no positive whole number.
    """
    begin = time.perf_counter()
    n_workers = worker_count(jobs)
    snapshot = Snapshot.of(project)
    project = snapshot.project
    data_file = project.trial_data_file
    parameters, data, chosen = _prepared(snapshot, parameters, split_file, n_workers, data_file)
    keep_split(snapshot, chosen)
    project.tuning_directory.mkdir(exist_ok=True)
    conditions = Conditions.of(parameters, data, data_file, n_workers)
    ledger = Ledger(project.trial_ledger_file, project.command("tune"))
    record = Record(conditions, ledger, on_trial, project.trials_file)
    notes = _notes(project, conditions)
    is_blind = parameters.tuning.strategy in BLIND
    if on_data is not None:
        missing = missing_trials(record) if notes.are_there and is_blind else []
        on_data(data, notes.undone(missing))
    with _opened(project, conditions, data, make_executor) as executor:
        if is_blind:
            trials = search_blindly(record, executor)
        elif any(line.search == conditions.search for line in ledger.lines):
            trials = SharedSearch(record, _turns(project), lambda: _at_work(project)).run(executor)
        else:
            trials = search_guided(record, executor)
    best = best_of(trials, own_candidate(parameters), len(data.validation.counts))
    if best.status != COMPLETED:
        raise InputError(
            f"none of {counted(len(trials), 'trial')} completed: {best.status}, {best.message}; "
            f"see {project.trials_file}"
        )
    about = {
        "inputs": snapshot.inputs(parameters),
        "strategy": parameters.tuning.strategy,
        "command": list(command),
        "versions": versions(),
    }
    document = write_best(project.best_trial_file, best, about)
    notes.remove()
    if not _at_work(project):
        for left in project.tuning_directory.glob(
            f"{data_file.stem}-*-of-*.npz"
        ):  # by parts that were killed
            left.unlink(missing_ok=True)
            features_beside(left).unlink(missing_ok=True)
    return TuneSummary(
        ranked=ranked(trials),
        best=document,
        n_known=record.n_known,
        seconds=time.perf_counter() - begin,
    )


def tune_part(
    project: Project | Snapshot | AnyPath,
    part: tuple[int, int],
    parameters: ParameterSet | None = None,
    *,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = trial_workers,
    split_file: AnyPath | None = None,
    on_data: Callable[[TrainingData, str], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> PartSummary:
    """Run some trials of a search, while other parts run others; `tune` after all of them writes the result.

    Of a grid or a random search, a part runs the trials of its share. A Bayesian or Hyperband search belongs to all
    parts: each runs the next trial when it has room for one. A part writes only files of its own, in `tuning/`.

    Args:
        part: number and total, such as (3, 20).
        project, parameters, jobs, make_executor, split_file, on_trial: as for `tune`.
        on_data: called with the data, and with the parts that searched with other settings or data, as text.

    Raises:
        InputError: as for `tune`; or the same part or another command is at work, or the file system has no locks.
        MissingInputError, StaleError, TypeError, ValueError: as for `tune`; or no such part.
    """
    begin = time.perf_counter()
    n_workers = worker_count(jobs)
    if (own := JobPart.of(part)) is None:
        raise TypeError("part: expected two whole numbers such as (3, 20), got None")
    snapshot = Snapshot.of(project)
    project = snapshot.project
    with project.joined(f"{_VERB} {own}"):
        data_file = of_part(project.trial_data_file, own)
        parameters, data, _ = _prepared(snapshot, parameters, split_file, n_workers, data_file)
        project.tuning_directory.mkdir(exist_ok=True)
        conditions = Conditions.of(parameters, data, data_file, n_workers)
        ledger = Ledger(of_part(project.trial_ledger_file, own), project.command(f"tune --part {own}"))
        record = Record(conditions, ledger, on_trial)
        notes = _notes(project, conditions)
        notes.write(own)
        if on_data is not None:
            on_data(data, notes.others(own))
        with _opened(project, conditions, data, make_executor) as executor:
            if parameters.tuning.strategy in BLIND:
                trials = search_blindly(record, executor, own)
            else:
                with turn(_turns(project)):
                    for number in range(1, own.total + 1):
                        ledger.expect(of_part(project.trial_ledger_file, JobPart(number, own.total)))
                trials = SharedSearch(record, _turns(project), lambda: _at_work(project)).run(executor)
    return PartSummary(len(trials) - record.n_known, time.perf_counter() - begin)


_VERB = "tune --part"


def _at_work(project: Project) -> set[Path]:
    """The ledgers of the parts that are running."""
    commands = [job.command.rpartition(" ") for job in jobs_at_work(project.root)]
    return {
        of_part(project.trial_ledger_file, JobPart.parse(part)) for verb, _, part in commands if verb == _VERB
    }


def _turns(project: Project) -> Path:
    return project.tuning_directory / ".turns.lock"


def _notes(project: Project, conditions: Conditions) -> PartNotes:
    return PartNotes(project.tuning_directory, "search", conditions.search)


def _prepared(
    snapshot: Snapshot,
    parameters: ParameterSet | None,
    split_file: AnyPath | None,
    n_workers: int,
    data_file: Path,
) -> tuple[ParameterSet, TrainingData, Split]:
    """The parameters completed by their recipe, the data of the trials, and the split that these belong to."""
    if parameters is None:
        parameters = snapshot.parameters
    inputs = read_inputs(snapshot, parameters)
    split = chosen = choose_split(snapshot, parameters, SplitRequest(split_file))
    asked, asked_stress = forces_of(parameters), parameters.training.stress
    parameters = resolved(parameters, inputs.store, split, inputs.selection)
    tuning = parameters.tuning
    if tuning.structures is not None:
        split = subset(split, tuning.structures, tuning.seed)
        drawn = facts_of(parameters, inputs.store, split, inputs.selection)
        if asked == "auto" and not drawn.n_structures_with_forces:
            parameters = parameters.with_overrides(training={"forces": False})
        if asked_stress == "auto" and not drawn.n_structures_with_stress:
            parameters = parameters.with_overrides(training={"stress": False})
    memory = Memory(memory_for_derivatives(), n_workers, features_beside(data_file))
    data = prepare(inputs, parameters, split, memory=memory)
    if not len(data.validation.counts):
        features_beside(data_file).unlink(missing_ok=True)
        raise InputError(
            "expected structures in the validation set to compare trials, got none; data sets of fewer than "
            f"{FEWEST_TO_VALIDATE} structures have no validation set"
        )
    compile_loops(data)
    return parameters, data, chosen


@contextmanager
def _opened(
    project: Project,
    conditions: Conditions,
    data: TrainingData,
    make_executor: Callable[[int], Executor],
) -> Iterator[Executor]:
    """Worker processes, and the files that trials need."""
    # with it, the line of a trial says everything that it takes to repeat it
    write_once(
        project.tuning_directory / f"settings-{conditions.settings}.json",
        format_json(to_json(conditions.parameters)) + "\n",
    )
    data.save(conditions.data_file)
    try:
        with make_executor(conditions.jobs) as executor:
            yield executor
    finally:
        conditions.data_file.unlink(missing_ok=True)
        features_beside(conditions.data_file).unlink(missing_ok=True)


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
