"""tio2nn learning-curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.options import (
    EpochsOption,
    ForcesOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    ProjectOption,
    RecipeOption,
    SchedulerOption,
    SeedOption,
    SplitFileOption,
    SplitKindOption,
    TlsOption,
    TunedOption,
    WaitOption,
)
from tio2nn.cli.pools import Pool, pool
from tio2nn.cli.stress_options import StressOption
from tio2nn.errors import UsageError
from tio2nn.wording import counted, digits

if TYPE_CHECKING:
    from tio2nn.evaluation.power_law import Curve
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.tuning.curve_ledger import CurveFit
    from tio2nn.workflow.curve_settings import CurveSettings
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.learning_curve import CurvePlan

_OF = {
    "energy_rmse_meV_per_atom": ("energy RMSE", "meV/atom"),
    "energy_mae_meV_per_atom": ("energy MAE", "meV/atom"),
    "force_rmse_eV_per_A": ("force RMSE", "eV/Å"),
    "stress_rmse_meV_per_A3": ("stress RMSE", "meV/Å³"),
}


@command
def learning_curve(
    project: ProjectOption = None,
    fractions: Annotated[
        str,
        typer.Option("--fractions", metavar="LIST", help="Parts of the training set, in percent."),
    ] = "5,10,20,50,100",
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", min=1, metavar="N", help="Fits to each part, each to newly drawn structures."
        ),
    ] = 2,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    tls: TlsOption = None,
    insecure: InsecureOption = False,
    wait: WaitOption = None,
    recipe: RecipeOption = None,
    tuned: TunedOption = False,
    split: SplitFileOption = None,
    split_by: SplitKindOption = None,
    forces: ForcesOption = None,
    stress: StressOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    json: JsonOption = False,
) -> None:
    """Fit to parts of the training set to see how errors fall.

    Says what twice the data would buy. An interrupted curve is resumed.
    """
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.curve_settings import CurveSettings
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.settings import asks_for_new_split, training_parameters

    new = asks_for_new_split(split, split_by, False, False)
    settings = CurveSettings(_percents(fractions), repeats)
    found = Project.find(project)
    snapshot = Snapshot(found)
    flags = {"split": split_by, "epochs": epochs, "seed": seed}
    parameters = training_parameters(snapshot, recipe, tuned, flags, forces, stress)
    with found.locked("learning-curve"), pool(jobs, scheduler, tls, insecure, wait) as workers:
        document = perform(snapshot, parameters, SplitRequest(split, new), settings, workers)
    if json:
        console.print_json(document)


def _percents(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--fractions: expected numbers such as 5,10,100, got {text!r}") from None


def perform(
    snapshot: Snapshot,
    parameters: ParameterSet,
    split: SplitRequest,
    settings: CurveSettings,
    workers: Pool,
) -> dict[str, Any]:
    """Make the fits, show the curve and return its document."""
    from tio2nn.workflow.settings import require_features

    require_features(snapshot, parameters, split.path)
    console.say("starting TensorFlow ...")
    with console.native_messages_hidden():
        from tio2nn.workflow.learning_curve import learning_curve

    number = 0
    total = 0

    def on_plan(plan: CurvePlan) -> None:
        nonlocal total
        total = len(plan.fits)
        _say_plan(plan)

    def on_fit(fit: CurveFit) -> None:
        nonlocal number
        number += 1
        console.say(f"fit {number} of {total}: {_told(fit)}")

    with console.compile_notice("the loops of the fit"):
        summary = learning_curve(
            snapshot,
            parameters,
            settings,
            split=split,
            jobs=workers.jobs,
            make_executor=workers.trials(snapshot.project),
            on_plan=on_plan,
            on_fit=on_fit,
        )
    console.say(
        f"fitted for {console.duration(summary.seconds)}; {summary.n_known} of "
        f"{counted(len(summary.fits), 'fit')} from an earlier run"
    )
    if diverged := [fit for fit in summary.fits if fit.status != "completed"]:
        console.warn(counted(len(diverged), "fit diverged and is ignored", "fits diverged and are ignored"))
    largest = max(fit.n_train for fit in summary.fits)
    for name, curve in summary.curves.items():
        console.say(_line(*_OF[name], curve, largest))
    console.say(f"wrote {', '.join(map(str, summary.paths))}")
    return summary.document


def _say_plan(plan: CurvePlan) -> None:
    """What is about to be done, and how long it may take."""
    for percent in plan.skipped:
        console.warn(f"{percent:g} % of the training set is too small for a fit; left out")
    sizes = sorted({fit.n_train for fit in plan.fits})
    n_known = len(plan.fits) - len(plan.missing)
    known = f", {n_known} of them known from earlier runs" if n_known else ""
    trainings = [fit.parameters.training for fit in plan.fits]
    labels = {
        (False, False): "energies alone",
        (True, False): "energies and forces",
        (False, True): "energies and stresses",
        (True, True): "energies, forces and stresses",
    }[any(t.forces is True for t in trainings), any(t.stress for t in trainings)]
    console.say(
        f"{counted(len(plan.fits), 'fit')} of one network each to {labels} of {', '.join(map(str, sizes))} "
        f"structures{known}, tested on the {plan.n_judging} of the {plan.judge} set"
    )
    if plan.forces_are_zero:
        console.say(
            f"the forces of the {plan.judge} set are zero, as by symmetry: their errors say nothing about more data"
        )
    if plan.missing:
        console.say(
            f"{console.estimated(plan.cpu_seconds)} of CPU time, {plan.jobs} at a time: "
            f"{console.estimated(plan.wall_seconds)}"
        )


def _told(fit: CurveFit) -> str:
    what = f"{fit.percent:g} %, {counted(fit.n_train, 'structure')}, draw {fit.repeat}: "
    if fit.energy_rmse_meV_per_atom is None:
        return what + fit.status
    forces = "" if fit.force_rmse_eV_per_A is None else f", {digits(fit.force_rmse_eV_per_A, 4)} eV/Å"
    stress = "" if fit.stress_rmse_meV_per_A3 is None else f", {digits(fit.stress_rmse_meV_per_A3, 2)} meV/Å³"
    return f"{what}RMSE {digits(fit.energy_rmse_meV_per_atom, 2)} meV/atom{forces}{stress}"


def _line(what: str, unit: str, curve: Curve | None, largest: int) -> str:
    """What twice the data would buy."""
    if curve is None:
        return f"{what}: too few training-set sizes to fit a law"
    now, twice = curve.at(largest), curve.at(2 * largest)
    exponent = curve.law.exponent_interval
    law = (
        f"{what}: {curve.law.formula()} {unit}, exponent {exponent.value:.2f} ({exponent.low:.2f} to "
        f"{exponent.high:.2f})"
    )
    if not curve.falls:
        law += ", so it may not fall at all"
    return (
        f"{law}; twice the data ({2 * largest} structures): {twice.value:.3g} {unit} ({twice.low:.3g} to "
        f"{twice.high:.3g}) instead of {now.value:.3g}, {_change(now.value, twice.value)}"
    )


def _change(now: float, twice: float) -> str:
    """From an error to another: "36 % less"."""
    percent = round(100.0 * (twice / now - 1.0))
    if percent == 0:
        return "the same"
    return f"{abs(percent)} % {'more' if percent > 0 else 'less'}"
