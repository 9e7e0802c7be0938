"""tio2nn evaluate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tio2nn.cli import console
from tio2nn.cli.app import command
from tio2nn.cli.key_options import EnergyKeyOption, ForcesKeyOption, StressKeyOption
from tio2nn.cli.options import (
    EnergyOption,
    InsecureOption,
    JsonOption,
    PotentialOption,
    ProjectOption,
    RunnerUnitsOption,
    SchedulerOption,
    StrictOption,
    TlsOption,
    WaitOption,
    WhichEnergy,
    XsfForcesOption,
    XsfForcesUnit,
)
from tio2nn.cli.pools import pool
from tio2nn.cli.report_option import Page, ReportOption, page_wanted
from tio2nn.wording import counted, digits

if TYPE_CHECKING:
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parallel.remote import RemotePool
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project

# Quantiles and correlations of fewer structures are chance.
_FEWEST_FOR_STATISTICS = 10
_WIDEST = 4  # columns of errors by kind of structure that 80 characters have room for


@command
def evaluate(
    sources: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="SOURCE",
            help="Labeled structures, as for extract. Default: the test set of the project.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    potential: PotentialOption = None,
    strict: StrictOption = False,
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
    report: ReportOption = None,
    json: JsonOption = False,
) -> bool:
    """Measure the errors on structures held out of training."""
    from tio2nn.io.labels import ReadOptions
    from tio2nn.project.project import Project

    options = ReadOptions(
        energy_key,
        forces_key,
        xsf_forces.value,
        None if runner_units is None else runner_units.value,
        energy.value,
        stress_key,
    )

    found = None if potential is not None and project is None else Project.find(project)
    page = page_wanted(report, None if found is None else found.evaluation_directory)
    lock = nullcontext() if found is None else found.locked("evaluate")
    with lock, pool(None, scheduler, tls, insecure, wait) as workers:
        metrics, good = perform(found, sources or [], potential, strict, options, workers.predictors(), page)
    if json:
        console.print_json(metrics)
    return good


def perform(
    project: Project | Snapshot | None,
    sources: Sequence[str] = (),
    potential: Path | None = None,
    strict: bool = False,
    options: ReadOptions | None = None,
    workers: RemotePool | None = None,
    report: Page | None = None,
) -> tuple[dict[str, Any], bool]:
    """Evaluate and show the errors; return the metrics and whether every source could be used.

    With `strict`, a structure that the potential extrapolates to counts as unusable.
    """
    from tio2nn.cli.plans import show_comparison
    from tio2nn.workflow.evaluate import evaluate

    with console.compile_notice("the symmetry functions"):
        summary = evaluate(
            project,
            sources,
            potential_file=potential,
            stdin=sys.stdin,
            options=options,
            workers=workers,
            track=console.track,
        )
    console.rejected(summary.rejected)
    for remark in summary.remarks:
        console.warn(remark)
    metrics = summary.metrics
    energy = metrics["energy"]
    console.table(
        f"errors on {counted(metrics['n_structures'], 'structure')}, {counted(metrics['n_atoms'], 'atom')}",
        ["", "RMSE", "MAE", "p95", "largest"],
        [
            [
                "energy, meV/atom",
                *(digits(energy[f"{key}_meV_per_atom"], 2) for key in ("rmse", "mae", "p95", "max")),
            ],
            ["total energy, eV", digits(energy["rmse_eV"], 4), digits(energy["mae_eV"], 4), "", ""],
            *_force_row(metrics.get("forces")),
            *_stress_rows(metrics.get("stress")),
        ],
    )
    _show_parts(metrics)
    _show_kinds(metrics.get("by_config_type", []))
    _show_errors("by cohesive energy, eV/atom", metrics["by_energy"], ["from_eV_per_atom", "to_eV_per_atom"])
    _show_errors("by size", metrics["by_size"], ["n_atoms"])
    _show_errors("by composition", metrics["by_composition"], ["composition"])
    if "leakage" in metrics:
        _show_leakage(metrics["leakage"], summary.n_groups)
    if metrics["n_structures"] >= _FEWEST_FOR_STATISTICS:
        _show_statistics(metrics)
    show_comparison(
        "evaluation",
        metrics["n_structures"],
        summary.comparison,
        summary.facts,
        mostly_far=2 * summary.extrapolating > metrics["n_structures"],
    )
    if summary.outliers_left_out:
        console.say(
            counted(
                summary.outliers_left_out,
                "gross outlier is left out of the test set, as in training",
                "gross outliers are left out of the test set, as in training",
            )
        )
    if summary.above_max_energy:
        console.say(
            counted(
                summary.above_max_energy,
                "structure above --max-energy is left out of the test set",
                "structures above --max-energy are left out of the test set",
            )
        )
    if summary.extrapolating:
        console.say(
            counted(summary.extrapolating, "structure has", "structures have")
            + " atoms far from all training atoms (largest_distance in residuals.csv)"
        )
    for found in summary.other_orders:
        console.warn(found.message())
    if summary.trained_on:
        console.warn(
            counted(summary.trained_on, "structure is", "structures are")
            + " in the training set of this potential; errors on them say nothing about new structures"
        )
    if summary.foreign_compositions:
        console.warn(
            counted(
                summary.foreign_compositions,
                "structure has a composition that is not a combination of the training compositions: its total energy "
                "may be",
                "structures have compositions that are not combinations of the training compositions: their total "
                "energies may be",
            )
            + " off by an unknown reference energy"
        )
    if summary.directory is not None:
        console.say(f"wrote figures and tables to {summary.directory}")
    if report is not None:
        report.write(summary, project)
    doubtful = summary.extrapolating + summary.foreign_compositions
    return metrics, not (summary.rejected or (strict and doubtful))


def _show_statistics(metrics: Mapping[str, Any]) -> None:
    """Show how well the spread predicts the errors, and how the residuals are distributed."""
    _show_spread(metrics.get("spread", {}))
    energy = metrics["energy"]
    console.say(
        f"residuals of total energies: mean {digits(energy['mean_residual_eV'], 4)} eV, standard error "
        f"{digits(energy['standard_error_eV'], 4)} eV, beyond 1.5 sigma {energy['outlier_fraction']:.3f}"
    )


def _force_row(errors: Mapping[str, float] | None) -> list[list[str]]:
    if errors is None:
        return []
    rmse, mae, most = (errors[f"{key}_eV_per_A"] for key in ("rmse", "mae", "max"))
    return [["force component, eV/Å", digits(rmse, 4), digits(mae, 4), "", digits(most, 2)]]


def _stress_rows(errors: Mapping[str, float] | None) -> list[list[str]]:
    if errors is None:
        return []
    units = (("meV_per_A3", "meV/Å³", 2), ("GPa", "GPa", 3))
    return [
        [
            f"stress component, {unit}",
            digits(errors[f"rmse_{key}"], decimals),
            digits(errors[f"mae_{key}"], decimals),
            "",
            digits(errors[f"max_{key}"], decimals),
        ]
        for key, unit, decimals in units
    ]


def _show_parts(metrics: Mapping[str, Any]) -> None:
    """Say how many structures have a stress, if some but not all have one."""
    found = metrics.get("stress")
    if found is not None and found["n_structures"] < metrics["n_structures"]:
        n = counted(found["n_structures"], "structure has", "structures have")
        console.say(f"{n} a stress to compare with")


def _show_kinds(entries: Sequence[Mapping[str, Any]]) -> None:
    """Show the errors of each kind of structure, with forces and stresses where there are any."""
    columns = [
        ("rmse_meV_per_atom", "RMSE meV/atom", 2),
        ("mae_meV_per_atom", "MAE meV/atom", 2),
        ("force_rmse_eV_per_A", "RMSE eV/Å", 4),
        ("force_mae_eV_per_A", "MAE eV/Å", 4),
        ("stress_rmse_meV_per_A3", "RMSE meV/Å³", 2),
        ("stress_rmse_GPa", "RMSE GPa", 3),
    ]
    shown = [column for column in columns if any(entry[column[0]] is not None for entry in entries)]
    if len(shown) > _WIDEST:
        # config_types.csv has all
        shown = [column for column in shown if not column[1].startswith("MAE")]
    rows = [
        [
            entry["config_type"] or "(none)",
            entry["n_structures"],
            *("" if entry[key] is None else f"{entry[key]:.{digits}f}" for key, _, digits in shown),
        ]
        for entry in entries[: console.SHOWN]
    ]
    if rows:
        console.table("by config_type", ["", "structures", *(title for _, title, _ in shown)], rows)
    if len(entries) > console.SHOWN:
        console.say(f"... and {len(entries) - console.SHOWN} more in config_types.csv")


def _show_leakage(leakage: Mapping[str, Any], n_groups: int) -> None:
    """Show how close the test set is to the training set."""
    _show_errors(
        "by distance from the nearest training structure",
        leakage["by_distance"],
        ["from_distance", "to_distance"],
    )
    share = leakage["fraction_with_group_in_training"]
    if share > 0:
        advice = "train with --split-by grouped" if n_groups > 1 else "add structures that are unrelated"
        console.say(
            f"{100 * share:.0f} % of these structures have relatives in the training set (frames of the same run or "
            f"scans of the same geometry); to measure errors on unrelated structures, {advice}"
        )


def _show_spread(spread: Mapping[str, Any]) -> None:
    for name, found in spread.items():
        rank, ratio = found["spearman"], found["error_over_spread"]
        told = [
            *([] if rank is None else [f"rank correlation with the error {rank:.2f}"]),
            *([] if ratio is None else [f"error over spread {ratio:.2f} (rms)"]),
        ]
        if told:
            console.say(f"committee spread, {name}: {', '.join(told)}")


def _show_errors(title: str, entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Show errors by subset; a single subset holds all structures, whose errors were shown before."""
    if len(entries) < 2:
        return
    columns = [key.removesuffix("_eV_per_atom") for key in keys]
    rows = [
        [
            *(f"{entry[key]:g}" if isinstance(entry[key], float) else entry[key] for key in keys),
            entry["n_structures"],
            digits(entry["rmse_meV_per_atom"], 2),
            digits(entry["mae_meV_per_atom"], 2),
        ]
        for entry in entries[: console.SHOWN]
    ]
    console.table(title, [*columns, "structures", "RMSE meV/atom", "MAE meV/atom"], rows)
    if len(entries) > console.SHOWN:
        console.say(f"... and {len(entries) - console.SHOWN} more in metrics.json")
