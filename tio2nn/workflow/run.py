"""The verb run: every missing or stale step from structure files to an evaluated potential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tio2nn.errors import InputError, UsageError
from tio2nn.files.paths import AnyPath
from tio2nn.io.labels import ReadOptions
from tio2nn.parallel.devices import Device, known_device
from tio2nn.parallel.workers import worker_count
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import in_published_order
from tio2nn.parameters.recipes import SEARCHING_RECIPES, known_recipe
from tio2nn.parameters.targets import Target
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import BROKEN, FRESH, SPLIT
from tio2nn.project.project import Project
from tio2nn.structures.split import read_parts
from tio2nn.training.origin import Origin
from tio2nn.training.splits import FEWEST_TO_TRAIN, drawn_split, given_split
from tio2nn.workflow.fine_tune import begun_from, parameters_of, read_origin, resolved_from
from tio2nn.workflow.init import init, preset_parameters
from tio2nn.workflow.inputs import SplitRequest, own_split
from tio2nn.workflow.lessons import FineTuning
from tio2nn.workflow.settings import (
    require_stress,
    set_target,
    split_request,
    training_parameters,
    with_flags,
)
from tio2nn.workflow.steps import Steps

DEFAULT_DIRECTORY = Path("tio2nn-project")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        sources: structure files, as for `tio2nn.io.read.read_structures`.
        directory: project directory; by default the current directory if it has a `params.json`, else a new
            directory in it.
        preset: preset of a new project; an existing project must match it.
        elements: elements of a new project, by default those of the sources; an existing project must match them.
        recipe: recipe to use instead of that of the parameters.
        target: program that the potential is made for; None to keep the setting.
        tuning: tune before training; None to let the recipe decide.
        forces: train on forces, or on energies alone; None to keep the setting.
        stress: train on the stress, or without it; None to keep the setting.
        split: split to use instead of that of the project, or its file.
        lesson: potential to begin from; a new project has its symmetry functions, its elements and those of the
            sources. None for random weights.
        flags: fields of the training section from the command line; None for those not given.
        limit: number of structures to use.
        jobs: number of worker processes.
        device: what to train on.
        options: how to read structure files.
        isolated_atoms: as for `tio2nn.workflow.extract.extract`.
    """

    sources: AnyPath | Iterable[AnyPath]
    directory: AnyPath | None = None
    preset: str | None = None
    elements: tuple[str, ...] | None = None
    recipe: str | None = None
    target: Target | None = None
    tuning: bool | None = None
    forces: bool | None = None
    stress: bool | None = None
    split: SplitRequest | AnyPath | None = None
    lesson: FineTuning | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    jobs: int | None = None
    device: Device = "cpu"
    options: ReadOptions | None = None
    isolated_atoms: bool = False


class RunSummary(NamedTuple):
    """Result of a run.

    Attributes:
        project: project with a trained potential.
        metrics: metrics of the evaluation; empty if there is no test set.
        used_all: whether every source could be used.
    """

    project: Project
    metrics: dict[str, Any]
    used_all: bool


def run(settings: RunSettings, steps: Steps | None = None) -> RunSummary:
    """Extract, since the files may have changed, then run each step whose result is missing or out of date.

    Args:
        settings: what to run on, and how.
        steps: carries out the steps and reports on them; by default in silence.

    Raises:
        UsageError: a name does not exist, or an existing project does not match; raised before any work.
        InputError: a step failed.
        TypeError, ValueError: a setting of a wrong kind.
    """
    steps = steps or Steps()
    split = split_request(settings.split)
    worker_count(settings.jobs)
    if known_device(settings.device) == "gpu":
        # TensorFlow takes seconds to start
        from tio2nn.training.devices import require_gpu

        require_gpu()
    origin = None if settings.lesson is None else read_origin(settings.lesson.potential)
    here = Project(Path()).parameters_file.exists()
    project = Project(settings.directory or (Path() if here else DEFAULT_DIRECTORY))
    parameters = _check(project, settings, split, origin)
    project.root.mkdir(parents=True, exist_ok=True)
    jobs = settings.jobs
    with project.locked("run"):
        if settings.target is not None:
            if project.parameters_file.exists():
                set_target(project, settings.target)
            if parameters is not None:
                parameters = parameters.for_target(settings.target)
        # a draft is written when it is complete, unless something has to be written to it before
        is_written = isinstance(parameters, ParameterSet) or settings.isolated_atoms
        if parameters is not None and is_written and not project.parameters_file.exists():
            _create(project, settings, parameters.elements, steps)
        used_all = steps.extract(
            project,
            settings.sources,
            settings.limit,
            parameters,
            settings.options,
            isolated_atoms=settings.isolated_atoms,
        )
        snapshot = Snapshot(project)
        if parameters is None:
            # a named preset, with the elements of the structures
            elements = in_published_order(snapshot.structures.elements)
            _require_elements(snapshot, origin)
            setup = None if origin is None else parameters_of(origin, elements)
            _create(project, settings, elements, steps, setup)
        if (n := len(snapshot.structures)) < FEWEST_TO_TRAIN:
            raise InputError(
                f"expected at least {FEWEST_TO_TRAIN} structures to train on, got {n}; add structures"
            )
        fitted = _fitted(snapshot, settings, tuned=False)
        require_stress(snapshot, fitted)
        _require_elements(snapshot, origin, fitted)
        steps.featurize(snapshot, jobs)
        steps.differentiate(snapshot, fitted, jobs)
        if settings.recipe in SEARCHING_RECIPES if settings.tuning is None else settings.tuning:
            steps.tune(snapshot, fitted, jobs, split.path)
            fitted = _fitted(snapshot, settings, tuned=True)
        if _is_trained(snapshot, fitted, split, origin):
            steps.trained_before()
        else:
            steps.train(snapshot, fitted, split, jobs, settings.device, settings.lesson)
        metrics: dict[str, Any] = {}
        if "test" in read_parts(project.split_file).values():
            metrics = steps.evaluate(snapshot)
        else:
            steps.nothing_to_evaluate()
    return RunSummary(project, metrics, used_all)


def _fitted(snapshot: Snapshot, settings: RunSettings, *, tuned: bool) -> ParameterSet:
    return training_parameters(
        snapshot, settings.recipe, tuned, settings.flags, settings.forces, settings.stress
    )


def _require_elements(
    snapshot: Snapshot, origin: Origin | None, parameters: ParameterSet | None = None
) -> None:
    """Refuse a fit to structures without one of its elements, before anything is computed for it.

    Args:
        snapshot: of a project with structures.
        origin: the potential to begin from, all of whose elements the fit has; None for random weights.
        parameters: of the fit; None to look at the potential alone.
    """
    of_potential = () if origin is None else origin.potential.elements
    there = snapshot.structures.elements
    missing = [element for element in of_potential if element not in there]
    if missing and origin is not None:
        raise InputError(
            f"expected structures with all elements of the potential to begin from ({', '.join(of_potential)}), got "
            f"none with {' or '.join(missing)}; add some that it was trained on",
            file=origin.file,
        )
    elements = () if parameters is None else parameters.elements
    if missing := [element for element in elements if element not in there]:
        raise InputError(
            f"expected structures with all elements ({', '.join(elements)}), got none with {' or '.join(missing)}; add "
            "structures, or take the elements out of it",
            file=str(snapshot.project.parameters_file),
        )


def _check(
    project: Project, settings: RunSettings, split: SplitRequest, origin: Origin | None
) -> ParameterSet | Draft | None:
    """Check at the start what would otherwise fail in a later step.

    Returns:
        The parameters for extraction: those of the project, else those of the preset and elements; None if a named
        preset, or the functions of a potential to begin from, must wait for the elements of the structures.
    """
    preset, elements = settings.preset, settings.elements
    if origin is not None and (preset is not None or elements is not None):
        raise UsageError(
            "--from takes functions and elements from the potential: expected no --preset or --elements"
        )
    if origin is not None and settings.tuning:
        raise UsageError("--from takes the networks of the potential: expected no --tune")
    if origin is not None and settings.isolated_atoms:
        raise UsageError(
            "--from takes the reference energies from the potential: expected no --isolated-atoms"
        )
    wanted = preset_parameters(preset, elements)
    with_flags(wanted.settings if isinstance(wanted, Draft) else wanted, "training", settings.flags)
    if settings.recipe is not None:
        known_recipe(settings.recipe)
    if split.path is not None:
        read_parts(split.path)
    if project.root.exists() and not project.root.is_dir():
        raise UsageError(f"{project.root}: expected a project directory, got a file")
    if not project.parameters_file.exists():
        if origin is not None:
            return None
        if isinstance(wanted, Draft) or elements is not None:
            return wanted
        if settings.isolated_atoms:
            raise UsageError(f"--isolated-atoms: expected --elements beside --preset {preset}, got none")
        return None
    there = project.parameters_or_draft()
    if origin is not None:
        if isinstance(there, Draft):
            raise UsageError(
                f"{project.parameters_file}: expected the symmetry functions of the potential to begin from, got none "
                "yet; tio2nn init --from FILE makes a project with them"
            )
        begun_from(with_flags(there, "training", settings.flags), origin)
    if isinstance(wanted, Draft):
        # auto accepts any functions that have been chosen before
        same = elements is None or there.elements in (None, elements)
    elif isinstance(there, Draft):
        same = False
    else:
        named = preset_parameters(preset, elements or there.elements)
        same = isinstance(named, ParameterSet) and named.fingerprint == there.fingerprint
    if not same:
        raise UsageError(
            f"{project.parameters_file}: expected the parameter set of --preset and --elements, got a different "
            "one; choose another directory with -C"
        )
    if isinstance(there, Draft) and there.elements is None and elements is not None:
        return replace(there, elements=elements)
    return there


def _create(
    project: Project,
    settings: RunSettings,
    elements: tuple[str, ...] | None,
    steps: Steps,
    setup: ParameterSet | None = None,
) -> None:
    init(project.root, settings.preset, elements, settings.target, setup)
    steps.created(project)


def _is_trained(
    snapshot: Snapshot, parameters: ParameterSet, request: SplitRequest, origin: Origin | None
) -> bool:
    found = snapshot.state(SPLIT).kind
    if found == BROKEN:
        read_parts(snapshot.project.split_file)  # raise, so as not to ignore what the user edited
    if found != FRESH:
        return False
    split, store = own_split(snapshot), snapshot.structures
    selection = snapshot.derivatives().selection if snapshot.needs_derivatives(parameters) else None
    fitted = resolved_from(parameters, store, split, selection, origin)
    if snapshot.model(fitted, selection, None if origin is None else origin.digest).kind != FRESH:
        return False
    if request.path is not None:
        return given_split(request.path, parameters, store) == split
    return not request.new or drawn_split(parameters, store) == split
