"""The files of an evaluation: table of residuals, figures and metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.evaluation import kinds
from tio2nn.evaluation.residuals import COLUMNS, ResidualTable
from tio2nn.files.tables import write_csv, write_json

RESIDUALS, METRICS, KINDS = "residuals.csv", "metrics.json", "config_types.csv"
FIGURES = (
    "parity.png",
    "residuals.png",
    "energies.png",
    "forces.png",
    "stress.png",
    "extrapolation.png",
    "spread.png",
    "distances.png",
)


def write_report(
    directory: Path, table: ResidualTable, metrics: dict[str, Any], data_set: FloatArray | None
) -> tuple[Path, ...]:
    """Write tables and figures, and `metrics.json` last; remove files that only an earlier evaluation had.

    Args:
        directory: output directory.
        table: the evaluated structures.
        metrics: their metrics.
        data_set: (n_all,) cohesive energies of the whole data set, eV/atom, or None.

    Returns:
        The files written.
    """
    drawings = drawings_of(table, data_set)
    written = [directory / RESIDUALS]
    write_csv(written[0], COLUMNS, table.lines())
    if table.by_config_type:
        written.append(directory / KINDS)
        write_csv(written[-1], kinds.COLUMNS, kinds.lines(table.by_config_type))
    else:
        (directory / KINDS).unlink(missing_ok=True)
    for name in FIGURES:
        path = directory / name
        if name in drawings:
            drawings[name](path)
            written.append(path)
        else:
            path.unlink(missing_ok=True)
    write_json(directory / METRICS, metrics)
    return (*written, directory / METRICS)


def drawings_of(table: ResidualTable, data_set: FloatArray | None) -> dict[str, Callable[[Path], None]]:
    """Functions that draw the figures for which the table has data; by the name of the PNG."""
    # importing matplotlib takes longer than evaluating a hundred structures
    from tio2nn.evaluation import error_plots, plots

    residuals, errors = table.predicted - table.energies, np.abs(table.residuals_per_atom)
    true = table.cohesive * table.n_atoms
    found: dict[str, Callable[[Path], None]] = {
        "parity.png": lambda path: plots.plot_parity(true, true + residuals, table.n_atoms, path),
        "residuals.png": lambda path: plots.plot_residuals(residuals, path),
        "energies.png": lambda path: plots.plot_energies(table.cohesive, path, data_set),
    }
    if (forces := table.forces) is not None:
        found["forces.png"] = lambda path: error_plots.plot_forces(forces.true, forces.predicted, path)
        found["extrapolation.png"] = lambda path: error_plots.plot_extrapolation(forces, path)
    if (stresses := table.stresses) is not None:
        found["stress.png"] = lambda path: error_plots.plot_stresses(stresses.true, stresses.predicted, path)
    if (spreads := table.spreads) is not None:
        found["spread.png"] = lambda path: error_plots.plot_spread(spreads, errors, forces, path)
    if (distances := table.distances) is not None:
        found["distances.png"] = lambda path: error_plots.plot_distances(distances, errors, path)
    return found
