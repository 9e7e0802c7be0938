"""The steps of a project, each a verb together with what people see of it; `cli.py` strings them together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn import console
from tio2nn.errors import InputError, ParameterError, UsageError
from tio2nn.parameters import ParameterSet
from tio2nn.project import Project

if TYPE_CHECKING:
    from tio2nn.featurize import Estimate
    from tio2nn.nn.training import Epoch
    from tio2nn.predict import Format
    from tio2nn.training_data import TrainingData
    from tio2nn.trials import Trial

# each trial leaves some 20 MB behind in its process; a new process costs 5 s, as much as a trial
_TRIALS_PER_WORKER = 12
_SHOWN = 10  # rejected files, warnings and trials shown before the rest is only counted


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool(workers: int) -> Executor:
    """Worker processes that start empty: safe with threads, and the same on every system."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def extract(
    project: Project, sources: Sequence[str], limit: int | None, parameters: ParameterSet | None
) -> bool:
    """Extract and show what the audit found; return whether every structure was accepted.

    Without parameters, as for a project that is just being made, every element is welcome.
    """
    from tio2nn.extract import extract

    summary = extract(
        sources,
        energies_csv=project.energies_file,
        rejected_csv=project.rejected_file,
        store=project.structures_file,
        elements=None if parameters is None else parameters.elements,
        reference_energies=None if parameters is None else parameters.reference_energies,
        limit=limit,
        stdin=sys.stdin,
        track=console.track,
    )
    show_rejected(summary.rejected)
    if summary.audit is None:
        raise InputError("expected at least one structure with an energy, got none")
    console.facts(summary.audit.facts())
    if summary.rejected:
        console.say(f"{len(summary.rejected)} rejected, with reasons in {project.rejected_file}")
    return not summary.rejected


def show_rejected(rejected: Iterable[InputError]) -> None:
    """The first of them, and how many there are."""
    errors = list(rejected)
    for rejection in errors[:_SHOWN]:
        console.error(str(rejection))
    if len(errors) > _SHOWN:
        console.error(f"... and {len(errors) - _SHOWN} more")


def featurize(project: Project, jobs: int | None, csv: bool = False) -> None:
    """Compute the features and show what was done."""
    from tio2nn.featurize import featurize

    def announce(estimate: Estimate) -> None:
        console.say(
            f"symmetry functions: {estimate.n_structures} structures, {estimate.n_atoms} atoms, "
            f"{estimate.n_features} functions; about {console.duration(estimate.seconds)} on {estimate.jobs} "
            f"process{'es' if estimate.jobs > 1 else ''}, {console.size(estimate.memory_bytes)} of memory, "
            f"{console.size(estimate.disk_bytes)} of disk"
        )

    summary = featurize(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        csv=csv,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"symmetry functions: {summary.n_computed} structures computed, {summary.n_structures} in all, "
            f"in {console.duration(summary.seconds)}"
        )
    else:
        console.say(f"symmetry functions: nothing to do, all {summary.n_structures} structures are there")
    if summary.csv_files:
        console.say(f"{summary.csv_files} CSV files in {project.features_directory}")


def differentiate(project: Project, jobs: int | None) -> None:
    """Compute the derivatives that a training on forces needs, and show what was done."""
    from tio2nn.differentiate import JacobianEstimate, differentiate

    def announce(estimate: JacobianEstimate) -> None:
        console.say(
            f"derivatives: {estimate.n_structures} structures, {estimate.n_atoms} atoms, {estimate.n_features} "
            f"functions; about {console.duration(estimate.seconds)} on {estimate.jobs} "
            f"process{'es' if estimate.jobs > 1 else ''}, {console.size(estimate.disk_bytes)} of disk"
        )

    summary = differentiate(
        project,
        jobs=jobs or available_cores(),
        make_executor=process_pool,
        jobs_are_fixed=jobs is not None,
        announce=announce,
        track=console.track,
    )
    if summary.n_computed:
        console.say(
            f"derivatives: {summary.n_computed} structures computed, {summary.n_structures} in all, "
            f"{console.size(summary.disk_bytes)}, in {console.duration(summary.seconds)}"
        )
    else:
        console.say(f"derivatives: nothing to do, all {summary.n_structures} structures are there")
    if summary.n_without_forces:
        console.say(f"{summary.n_without_forces} structures have no forces")


def preset_parameters(preset: str | None, elements: Sequence[str] | None) -> ParameterSet:
    """The parameter set that --preset and --elements name.

    Raises:
        UsageError: no such preset, or no chemical symbols.
    """
    from tio2nn import presets

    name = presets.DEFAULT_PRESET if preset is None else preset
    try:
        return presets.preset(name, presets.DEFAULT_ELEMENTS if elements is None else elements)
    except ParameterError as error:
        raise UsageError(str(error)) from None


def training_parameters(
    project: Project,
    recipe: str | None = None,
    tuned: bool = False,
    training: dict[str, Any] | None = None,
) -> ParameterSet:
    """`params.json`, changed by recipe, tuning and flags; the later, the stronger."""
    parameters = project.parameters()
    if recipe is not None:
        from tio2nn.presets import apply_recipe

        parameters = apply_recipe(parameters, recipe)
    if tuned:
        from tio2nn.trials import read_best

        parameters = parameters.with_overrides(**read_best(project.require(project.best_trial_file)))
    return with_flags(parameters, "training", training or {})


def with_flags(parameters: ParameterSet, section: str, flags: Mapping[str, Any]) -> ParameterSet:
    """The parameters with a section's fields as the command line gives them; None for what it does not.

    Raises:
        UsageError: a value that the field does not take.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return parameters.with_overrides(**{section: given})
    except ParameterError as error:
        raise UsageError(str(error)) from None


def _require_features(project: Project) -> None:
    """Say what is missing before TensorFlow takes its seconds to start."""
    project.require(project.structures_file)
    project.require(project.features_manifest)


def trial_processes(workers: int) -> Executor:
    """Worker processes that are replaced now and then, and of which one may die."""
    from tio2nn.workers import WorkerProcesses

    return WorkerProcesses(workers, _TRIALS_PER_WORKER)


def tune(
    project: Project, parameters: ParameterSet, jobs: int | None, split_file: Path | None
) -> dict[str, Any]:
    """Search, show the ranking, and return the best trial."""
    _require_features(project)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.tune import tune

    jobs = jobs or available_cores()

    def on_start(n_train: int, n_validation: int) -> None:
        console.say(
            f"{parameters.tuning.strategy} search: each trial trains on {n_train} structures and is judged by "
            f"{n_validation} others, {jobs} at a time"
        )

    def on_trial(trial: Trial) -> None:
        console.say(f"trial {trial.describe()}")

    summary = tune(
        project,
        parameters,
        jobs=jobs,
        make_executor=trial_processes,
        split_file=split_file,
        on_start=on_start,
        on_trial=on_trial,
        command=sys.argv,
    )
    console.say(
        f"searched for {console.duration(summary.seconds)}; {summary.n_known} of {len(summary.ranked)} trials were "
        "known from before"
    )
    columns = ["rank", "layers", "nodes", "learning rate", "dropout", "epochs", "RMSE meV/atom", "status"]
    rows = [
        [rank, t.layers, t.nodes, t.learning_rate, t.dropout, t.epochs, t.shown_score, t.status]
        for rank, t in enumerate(summary.ranked, start=1)
    ]
    console.table(f"{len(summary.ranked)} trials, best first", columns, rows[:_SHOWN])
    if len(rows) > _SHOWN:
        console.say(f"... all of them in {project.trials_file}")
    console.say(
        f"best settings in {project.best_trial_file}; next: tio2nn train{project.as_option()} --tuned"
    )
    return summary.best


def train(
    project: Project, parameters: ParameterSet, split_file: Path | None = None, new_split: bool = False
) -> dict[str, Any]:
    """Fit the potential and show how it went; return what `model/metrics.json` holds."""
    import json

    _require_features(project)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.train import train

    epochs = parameters.training.epochs
    announced: list[int] = []

    def on_data(data: TrainingData) -> None:
        console.say(
            f"training on {len(data.train.counts)} structures, validating on {len(data.validation.counts)}, "
            f"{len(data.split.indices('test'))} kept for the test; reference energies "
            + ", ".join(f"{element} {value:.6f} eV" for element, value in data.reference.as_dict().items())
        )
        if unknown := data.split.unknown:
            console.warn(
                f"{len(unknown)} names of the given split are of no extracted structure, such as {unknown[0]!r}"
            )
        if data.reference.underdetermined:
            console.warn(
                "the compositions do not determine the reference energies: energies of other compositions "
                "will be off"
            )
        for subnet, functions in data.constant_features.items():
            console.warn(
                f"{len(functions)} symmetry functions do not vary in the training part for {subnet} and are "
                f"ignored: {'; '.join(functions[:3])}{' ...' if len(functions) > 3 else ''}"
            )

    with console.epochs(epochs) as show:

        def on_epoch(member: int, epoch: Epoch) -> None:
            announced.append(member)
            show(member, epoch.epoch, epoch.train_rmse_meV_per_atom, epoch.validation_rmse_meV_per_atom)

        summary = train(
            project,
            parameters,
            split_file=split_file,
            new_split=new_split,
            command=sys.argv,
            on_data=on_data,
            on_epoch=on_epoch,
        )
    console.say(
        f"trained {summary.members} network{'s' if summary.members > 1 else ''} in "
        f"{console.duration(summary.seconds)}; validation RMSE {summary.validation_rmse:.2f}, "
        f"MAE {summary.validation_mae:.2f} meV/atom; {summary.potential}"
    )
    metrics: dict[str, Any] = json.loads(project.training_metrics_file.read_text(encoding="utf-8"))
    return metrics


def evaluate(
    project: Project | None, sources: Sequence[str] = (), potential: Path | None = None
) -> tuple[dict[str, Any], bool]:
    """Evaluate, show the errors; return the metrics and whether every source could be used."""
    from tio2nn.evaluate import evaluate

    summary = evaluate(project, sources, potential_file=potential, stdin=sys.stdin, track=console.track)
    show_rejected(summary.rejected)
    metrics = summary.metrics
    energy = metrics["energy"]
    console.table(
        f"errors on {metrics['n_structures']} structures, {metrics['n_atoms']} atoms",
        ["", "RMSE", "MAE", "p95", "largest"],
        [
            [
                "energy, meV/atom",
                *(f"{energy[f'{key}_meV_per_atom']:.2f}" for key in ("rmse", "mae", "p95", "max")),
            ],
            ["total energy, eV", f"{energy['rmse_eV']:.4f}", f"{energy['mae_eV']:.4f}", "", ""],
        ],
    )
    _show_errors("by cohesive energy, eV/atom", metrics["by_energy"], ["from_eV_per_atom", "to_eV_per_atom"])
    _show_errors("by size", metrics["by_size"], ["n_atoms"])
    _show_errors("by composition", metrics["by_composition"], ["composition"])
    console.say(
        f"residuals of the totals: mean {energy['mean_residual_eV']:.4f} eV, standard error "
        f"{energy['standard_error_eV']:.4f} eV, beyond 1.5 sigma {energy['outlier_fraction']:.3f}"
    )
    if summary.above_max_energy:
        console.say(
            f"{summary.above_max_energy} structures of the test part lie above --max-energy and are left out"
        )
    if summary.extrapolating:
        console.say(
            f"{summary.extrapolating} structures have atoms outside the training range (see residuals.csv)"
        )
    if summary.foreign_compositions:
        console.warn(
            f"{summary.foreign_compositions} structures have compositions that no combination of those in training "
            "makes: their total energies are off by an unknown reference energy"
        )
    if summary.directory is not None:
        console.say(f"figures and tables in {summary.directory}")
    return metrics, not summary.rejected


def _show_errors(title: str, entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Errors of parts of the structures; a single part is all of them, and was shown."""
    if len(entries) < 2:
        return
    columns = [key.removesuffix("_eV_per_atom") for key in keys]
    rows = [
        [
            *(f"{entry[key]:g}" if isinstance(entry[key], float) else entry[key] for key in keys),
            entry["n_structures"],
            f"{entry['rmse_meV_per_atom']:.2f}",
            f"{entry['mae_meV_per_atom']:.2f}",
        ]
        for entry in entries[:_SHOWN]
    ]
    console.table(title, [*columns, "structures", "RMSE meV/atom", "MAE meV/atom"], rows)
    if len(entries) > _SHOWN:
        console.say(f"... and {len(entries) - _SHOWN} more in metrics.json")


def predict(files: Sequence[str], potential_file: Path, form: Format) -> bool:
    """Print one line for each structure; return whether all could be predicted."""
    from tio2nn import predict as verb
    from tio2nn.io import read_structures
    from tio2nn.potential import Potential

    potential = Potential.load(potential_file)
    n_rejected, n_warnings = 0, 0
    if (first := verb.header(form)) is not None:
        console.print_line(first)
    for result in verb.predict_stream(potential, read_structures(files, stdin=sys.stdin)):
        if isinstance(result, InputError):
            n_rejected += 1
            console.error(str(result))
            continue
        console.print_line(verb.line(result, form))
        for message in verb.warnings(result):
            n_warnings += 1
            if n_warnings <= _SHOWN:
                console.warn(message)
    if n_warnings > _SHOWN:
        console.warn(f"... and {n_warnings - _SHOWN} more such warnings")
    return n_rejected == 0


def potential_file(project_option: Path | None, given: Path | None) -> Path:
    """The potential that is named, else that of the project."""
    if given is not None:
        return given
    project = Project.find(project_option)
    return project.require(project.potential_file)
