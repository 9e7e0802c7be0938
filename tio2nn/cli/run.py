"""tio2nn run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tio2nn.cli import console, evaluate, extract, featurize, train, tune
from tio2nn.cli.app import command
from tio2nn.cli.key_options import EnergyKeyOption, ForcesKeyOption, StressKeyOption
from tio2nn.cli.lesson_options import FromOption
from tio2nn.cli.options import (
    DeviceOption,
    ElementsOption,
    EnergyOption,
    EpochsOption,
    ForcesOption,
    ForOption,
    InsecureOption,
    IsolatedAtomsOption,
    JobsOption,
    JsonOption,
    KeepOutliersOption,
    LimitOption,
    MaxEnergyOption,
    MembersOption,
    NewSplitOption,
    NoTestOption,
    PresetOption,
    RecipeOption,
    RunnerUnitsOption,
    RunProjectOption,
    SchedulerOption,
    SeedOption,
    SourcesArgument,
    SplitFileOption,
    SplitKindOption,
    TlsOption,
    WaitOption,
    WhichEnergy,
    XsfForcesOption,
    XsfForcesUnit,
    element_symbols,
)
from tio2nn.cli.pools import Pool, pool
from tio2nn.cli.report_option import Page, ReportOption, page_wanted
from tio2nn.cli.stress_options import StressOption
from tio2nn.parallel.devices import Device, known_device
from tio2nn.workflow.steps import Steps

if TYPE_CHECKING:
    from tio2nn.files.paths import AnyPath
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import FineTuning


@command
def run(
    sources: SourcesArgument,
    project: RunProjectOption = None,
    preset: PresetOption = None,
    elements: ElementsOption = None,
    recipe: RecipeOption = None,
    target: ForOption = None,
    tuning: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--tune/--no-tune", help="Tune before training. Default: only with recipe rili-2024."),
    ] = None,
    forces: ForcesOption = None,
    stress: StressOption = None,
    begin_from: FromOption = None,
    split: SplitFileOption = None,
    split_by: SplitKindOption = None,
    new_split: NewSplitOption = False,
    no_test: NoTestOption = False,
    max_energy: MaxEnergyOption = None,
    keep_outliers: KeepOutliersOption = False,
    epochs: EpochsOption = None,
    members: MembersOption = None,
    seed: SeedOption = None,
    limit: LimitOption = None,
    jobs: JobsOption = None,
    device: DeviceOption = "cpu",
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    xsf_forces: XsfForcesOption = XsfForcesUnit.EV,
    runner_units: RunnerUnitsOption = None,
    energy: EnergyOption = WhichEnergy.AUTO,
    isolated_atoms: IsolatedAtomsOption = False,
    report: ReportOption = None,
    json: JsonOption = False,
) -> bool:
    """Run every step that is missing or out of date."""
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parameters.targets import known_target
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import FineTuning
    from tio2nn.workflow.run import RunSettings
    from tio2nn.workflow.run import run as verb
    from tio2nn.workflow.settings import asks_for_new_split, fields_of_switches

    page = page_wanted(report, Path())
    new = asks_for_new_split(split, split_by, new_split, no_test)
    flags = {"split": split_by, "max_energy": max_energy, "epochs": epochs, "members": members, "seed": seed}
    settings = RunSettings(
        sources=sources,
        directory=project,
        preset=preset,
        elements=element_symbols(elements),
        recipe=recipe,
        target=None if target is None else known_target(target),
        tuning=tuning,
        forces=forces,
        stress=stress,
        split=SplitRequest(split, new),
        lesson=None if begin_from is None else FineTuning(begin_from),
        flags=flags | fields_of_switches(no_test, keep_outliers),
        limit=limit,
        jobs=jobs,
        device=known_device(device, scheduler),
        options=ReadOptions(
            energy_key,
            forces_key,
            xsf_forces.value,
            None if runner_units is None else runner_units.value,
            energy.value,
            stress_key,
        ),
        isolated_atoms=isolated_atoms,
    )
    if device == "gpu":
        # before anything else, as the verb itself; but here TensorFlow's own notes on a missing GPU are hidden
        with console.native_messages_hidden():
            from tio2nn.training.devices import require_gpu

            require_gpu()
    begin = time.perf_counter()
    with pool(jobs, scheduler, tls, insecure, wait) as workers:
        steps = _ShownSteps(workers, page)
        summary = verb(settings, steps)
    made = summary.project
    console.say(
        f"finished in {console.duration(time.perf_counter() - begin)}; the potential is {made.potential_file}; "
        f"next: tio2nn predict -C {shlex.quote(str(made.root))} FILE..."
    )
    if json:
        console.print_json(summary.metrics)
    return summary.used_all and steps.evaluated_all


class _ShownSteps(Steps):
    """The steps of a run with their terminal output.

    Args:
        workers: who does the work.
        page: the report to write, or None.

    Attributes:
        evaluated_all: whether no prediction for the test set was refused.
    """

    def __init__(self, workers: Pool, page: Page | None = None) -> None:
        self._workers, self._page = workers, page
        self.evaluated_all = True

    def created(self, project: Project) -> None:
        console.say(f"created {project.parameters_file}")

    def extract(
        self,
        project: Project,
        sources: AnyPath | Iterable[AnyPath],
        limit: int | None,
        parameters: ParameterSet | Draft | None,
        options: ReadOptions | None,
        *,
        isolated_atoms: bool,
    ) -> bool:
        return extract.perform(project, sources, limit, parameters, options, isolated_atoms=isolated_atoms)

    def featurize(self, snapshot: Snapshot, jobs: int | None) -> None:  # noqa: ARG002
        featurize.perform(snapshot, self._workers)

    def differentiate(self, snapshot: Snapshot, parameters: ParameterSet, jobs: int | None) -> None:  # noqa: ARG002
        featurize.differentiate_if_needed(snapshot, parameters, self._workers)

    def tune(
        self,
        snapshot: Snapshot,
        parameters: ParameterSet,
        jobs: int | None,  # noqa: ARG002
        split_file: Path | None,
    ) -> None:
        tune.perform(snapshot, parameters, self._workers, split_file)
        train.warn_of_stale_search(snapshot)

    def train(
        self,
        snapshot: Snapshot,
        parameters: ParameterSet,
        split: SplitRequest,
        jobs: int | None,  # noqa: ARG002
        device: Device,
        lesson: FineTuning | None,
    ) -> None:
        train.perform(snapshot, parameters, split, self._workers, device, lesson)

    def trained_before(self) -> None:
        console.say("training: nothing to do, the model is up to date with structures, split and settings")

    def evaluate(self, snapshot: Snapshot) -> dict[str, Any]:
        metrics, self.evaluated_all = evaluate.perform(
            snapshot, workers=self._workers.predictors(), report=self._page
        )
        return metrics

    def nothing_to_evaluate(self) -> None:
        console.say("evaluation: nothing to do, the split has no test set")
        if self._page is not None:
            console.warn("no report written: there is no evaluation to report")
