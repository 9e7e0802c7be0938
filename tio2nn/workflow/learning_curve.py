"""The verb learning-curve: how errors fall with the number of training structures, and what more would buy.

Each fit is one network, trained on a part of the training set as `train` would with that many structures, and tested on
the same structures. Finished fits are kept in `fits.csv`; a curve resumes after a kill. Nothing else is touched.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.evaluation.baseline import are_zero
from tio2nn.evaluation.power_law import FEWEST_SIZES, Curve
from tio2nn.files.digests import digest_of
from tio2nn.files.paths import AnyPath
from tio2nn.memory import memory_for_derivatives
from tio2nn.parallel.workers import trial_workers, worker_count
from tio2nn.parameters.fit_cost import fit_seconds
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.schema import to_json
from tio2nn.project.facts import facts_of, resolved
from tio2nn.project.freshness import Snapshot
from tio2nn.project.layout import features_beside
from tio2nn.project.project import Project
from tio2nn.structures.split import Split
from tio2nn.training.compiled_loops import compile_loops
from tio2nn.training.data import Inputs, Memory, prepare
from tio2nn.training.splits import FEWEST_TO_TRAIN
from tio2nn.training.subsets import Subsets
from tio2nn.tuning.curve_ledger import CurveFit, CurveLedger
from tio2nn.tuning.record import outcome_of
from tio2nn.tuning.trial import TrialTask, run_trial
from tio2nn.tuning.trials import FAILED, Outcome
from tio2nn.workflow.curve_results import LEDGER, write_results
from tio2nn.workflow.curve_settings import CurveSettings
from tio2nn.workflow.inputs import PROJECTS_OWN, SplitRequest, choose_split, read_inputs


@dataclass(frozen=True)
class Planned:
    """A fit to be made.

    Attributes:
        percent, repeat, fit: as in `CurveFit`.
        n_train: training structures.
        split: its structures.
        parameters: with nothing left to a recipe.
        seconds: of CPU time, about.
    """

    percent: float
    repeat: int
    n_train: int
    split: Split
    parameters: ParameterSet
    seconds: float
    fit: str


@dataclass(frozen=True)
class CurvePlan:
    """What is about to be done.

    Attributes:
        fits: all that belong to the curve.
        missing: those that are not known.
        skipped: parts of the training set that have too few structures.
        judge: "test" or "validation", the set that judges.
        n_judging: its size.
        jobs: fits at a time.
        forces_are_zero: those of the judging set, as by symmetry, so that their errors follow no law.
    """

    fits: tuple[Planned, ...]
    missing: tuple[Planned, ...]
    skipped: tuple[float, ...]
    judge: str
    n_judging: int
    jobs: int
    forces_are_zero: bool

    @property
    def cpu_seconds(self) -> float:
        """Of the missing fits, about."""
        return sum(fit.seconds for fit in self.missing)

    @property
    def wall_seconds(self) -> float:
        """No less than the longest fit takes."""
        return max([self.cpu_seconds / self.jobs, *(fit.seconds for fit in self.missing)], default=0.0)


@dataclass(frozen=True)
class CurveSummary:
    """Result.

    Attributes:
        fits: all fits of the curve.
        curves: laws of the completed ones, by the column that they are about; None for too few. Of forces that are zero
            there is none.
        document: the content of `curve.json`.
        paths: the files written.
        n_known: number of fits from earlier runs.
        seconds: wall time.
    """

    fits: tuple[CurveFit, ...]
    curves: dict[str, Curve | None]
    document: dict[str, Any]
    paths: tuple[Path, ...]
    n_known: int
    seconds: float


def learning_curve(
    project: Project | Snapshot | AnyPath,
    parameters: ParameterSet | None = None,
    settings: CurveSettings | None = None,
    *,
    split: SplitRequest = PROJECTS_OWN,
    jobs: int | None = None,
    make_executor: Callable[[int], Executor] = trial_workers,
    on_plan: Callable[[CurvePlan], None] | None = None,
    on_fit: Callable[[CurveFit], None] | None = None,
) -> CurveSummary:
    """Fit to parts of the training set of a project, and fit a law to the errors.

    Args:
        project: project, or its directory, with features and, for fits to forces and stresses, derivatives.
        parameters: parameters of the project, with any changes from the command line.
        settings: which fits.
        split: split to use instead of that of the project; it is not kept.
        jobs: number of fits at a time; by default one per core.
        make_executor: makes worker processes, as for `tio2nn.workflow.tune.tune`.
        on_plan: called before the first fit.
        on_fit: called after each fit, those of earlier runs included.

    Raises:
        MissingInputError, StaleError: as for `tio2nn.workflow.inputs.read_inputs`.
        InputError: damaged features, too few structures, or no fit completes.
        UsageError, TypeError, ValueError: settings that make no sense.
    """
    begin = time.perf_counter()
    settings, n_workers = settings or CurveSettings(), worker_count(jobs)
    snapshot = Snapshot.of(project)
    project = snapshot.project
    if parameters is None:
        parameters = snapshot.parameters
    # the structures that measure the error must not choose the epoch
    parameters = parameters.with_overrides(training={"early_stopping": 0})
    inputs = read_inputs(snapshot, parameters)
    subsets = Subsets(parameters, inputs.store, choose_split(snapshot, parameters, split))
    ledger = CurveLedger(project.curve_directory / LEDGER, project.command("learning-curve"))
    fits, skipped = _planned(parameters, inputs, subsets, settings)
    plan = CurvePlan(
        fits,
        tuple(fit for fit in fits if fit.fit not in ledger.found),
        skipped,
        subsets.judge,
        subsets.n_judging,
        n_workers,
        _forces_are_zero(inputs, fits[0].split),
    )
    if on_plan is not None:
        on_plan(plan)
    for fit in fits:
        if fit.fit in ledger.found and on_fit is not None:
            on_fit(ledger.found[fit.fit])
    _run(plan, inputs, project.curve_directory, ledger, make_executor, on_fit)
    done = tuple(ledger.found[fit.fit] for fit in fits if fit.fit in ledger.found)
    judge = {"set": plan.judge, "n_structures": plan.n_judging}
    results = write_results(project.curve_directory, done, judge, forces_are_zero=plan.forces_are_zero)
    return CurveSummary(done, *results, len(plan.fits) - len(plan.missing), time.perf_counter() - begin)


def _planned(
    parameters: ParameterSet, inputs: Inputs, subsets: Subsets, settings: CurveSettings
) -> tuple[tuple[Planned, ...], tuple[float, ...]]:
    """The fits of a curve, and the percents that have too few structures."""
    percents = sorted(set(settings.percents))
    skipped = tuple(percent for percent in percents if subsets.size(percent) < FEWEST_TO_TRAIN)
    found: dict[str, Planned] = {}
    # one optimizer for all sizes, that of the most structures: no law holds across a change of it
    of_all = resolved(parameters, inputs.store, subsets.split(percents[-1], 1), inputs.selection).training
    parameters = parameters.with_overrides(training={"members": 1, "optimizer": of_all.optimizer})
    for percent in percents[len(skipped) :]:
        for repeat in range(1, settings.repeats + 1):
            seed = parameters.training.seed + repeat - 1
            own = parameters.with_overrides(training={"seed": seed})
            split = subsets.split(percent, repeat)
            one = resolved(own, inputs.store, split, inputs.selection)
            facts = facts_of(one, inputs.store, split, inputs.selection)
            digest = _digest(one, inputs, split)
            planned = Planned(
                percent, repeat, facts.n_structures, split, one, fit_seconds(one, facts), digest
            )
            found.setdefault(digest, planned)  # of large groups, two parts may be the same
    n_sizes = len({fit.n_train for fit in found.values()})
    if n_sizes < FEWEST_SIZES:
        raise InputError(
            f"expected training sets of at least {FEWEST_SIZES} sizes for a curve, got {n_sizes}, as there are "
            f"{subsets.n_all} training structures; add structures, or name other --fractions"
        )
    return tuple(found.values()), skipped


def _forces_are_zero(inputs: Inputs, split: Split) -> bool:
    """Whether there are forces to judge by, and they are zero."""
    store = inputs.store
    is_judging = np.zeros(len(store), np.bool_)
    is_judging[split.indices("validation")] = True
    forces = store.forces[np.repeat(is_judging & inputs.has_derivatives, store.n_atoms)]
    return inputs.jacobian is not None and len(forces) > 0 and are_zero(float(np.sqrt(np.mean(forces**2))))


def _digest(parameters: ParameterSet, inputs: Inputs, split: Split) -> str:
    """Digest of all that the errors of a fit depend on."""
    store = inputs.store
    training = parameters.training
    settings = {name: value for name, value in to_json(parameters).items() if name != "tuning"}
    labels = {
        "energies": store.digest_of_energies,
        "weights": None if store.weights is None else store.weights.tolist(),
        "forces": store.digest_of_forces if training.forces else None,
        "stresses": store.digest_of_stresses if training.stress else None,
        "derivatives": [
            None if selection is None else selection.digest
            for selection in (inputs.selection, inputs.strain_selection)
        ],
    }
    text = json.dumps([settings, labels], sort_keys=True)
    return digest_of([inputs.fingerprint, *split.parts, text])


def _run(
    plan: CurvePlan,
    inputs: Inputs,
    directory: Path,
    ledger: CurveLedger,
    make_executor: Callable[[int], Executor],
    on_fit: Callable[[CurveFit], None] | None,
) -> None:
    """Make the missing fits, those that take longest first, so that none is left alone at the end."""
    if not plan.missing:
        return
    directory.mkdir(exist_ok=True)
    for left in (*directory.glob("data-*.npz"), *directory.glob("data-*.f32")):
        left.unlink(missing_ok=True)  # by a process that was killed
    waiting = deque(sorted(plan.missing, key=lambda fit: -fit.seconds))
    running: dict[Future[Outcome], tuple[Planned, Path]] = {}
    with make_executor(plan.jobs) as executor:
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                fit = waiting.popleft()
                file = directory / f"data-{fit.fit}.npz"
                running[_submit(executor, fit, inputs, file, plan.jobs)] = fit, file
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: running[future][0].fit):
                fit, file = running.pop(future)
                outcome = outcome_of(future)  # a cluster's looks whether the files of its task are there
                file.unlink(missing_ok=True)
                features_beside(file).unlink(missing_ok=True)
                if outcome.status == FAILED:
                    raise InputError(
                        f"cannot fit to {fit.n_train} structures: {outcome.message}; finished fits are kept; to use "
                        "less memory, run the command again with --jobs 1"
                    )
                ledger.add(found := _fitted(fit, outcome))
                if on_fit is not None:
                    on_fit(found)


def _submit(executor: Executor, fit: Planned, inputs: Inputs, file: Path, jobs: int) -> Future[Outcome]:
    """Prepare the data of a fit, and let a worker process run it."""
    parameters = fit.parameters
    memory = Memory(memory_for_derivatives(), jobs, features_beside(file))
    data = prepare(inputs, parameters, fit.split, memory=memory)
    compile_loops(data)
    data.save(file)
    task = TrialTask(
        data=file,
        derivatives=data.derivatives_file,
        strains=data.strains_file,
        features=data.features_file,
        elements=parameters.elements,
        n_features=parameters.n_features,
        network=parameters.network,
        training=parameters.training,
        seed=parameters.training.seed,
        threads=1 if jobs > 1 else 2,
    )
    return executor.submit(run_trial, task)


def _fitted(fit: Planned, outcome: Outcome) -> CurveFit:
    return CurveFit(
        fit.percent,
        fit.repeat,
        fit.n_train,
        outcome.status,
        outcome.validation_rmse_meV_per_atom,
        outcome.validation_mae_meV_per_atom,
        outcome.validation_force_rmse_eV_per_A,
        outcome.validation_stress_rmse_meV_per_A3,
        outcome.seconds,
        fit.fit,
    )
