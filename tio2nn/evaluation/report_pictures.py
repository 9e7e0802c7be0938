"""The figures of a report, each with a title and a text for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tio2nn.array_types import FloatArray
from tio2nn.evaluation.html_report import Picture
from tio2nn.evaluation.inline_svg import inline_svg
from tio2nn.evaluation.report import drawings_of
from tio2nn.evaluation.report_tables import number
from tio2nn.evaluation.residuals import ResidualTable

_TITLES = {
    "parity.png": "Predicted and true energies",
    "residuals.png": "Residuals of total energies",
    "energies.png": "Energies of the data set",
    "forces.png": "Predicted and true forces",
    "stress.png": "Predicted and true stresses",
    "extrapolation.png": "Force errors far from training",
    "spread.png": "Errors and committee spread",
    "distances.png": "Errors and distance from training",
}


def pictures_of(
    table: ResidualTable, metrics: Mapping[str, Any], data_set: FloatArray | None, history: Path | None
) -> list[Picture]:
    """The figures.

    Args:
        table: the evaluated structures.
        metrics: their metrics.
        data_set: (n_all,) cohesive energies of the whole data set, eV/atom, or None.
        history: `history.csv` of the training, or None.
    """
    texts = _texts(metrics, data_set)
    found = []
    for name, draw in drawings_of(table, data_set).items():
        # a figure that is not known here has its name
        title = _TITLES.get(name, Path(name).stem.replace("-", " "))
        found.append(Picture(title, inline_svg(draw, Path(name).stem, texts.get(name, title))))
    if history is not None:
        from tio2nn.evaluation.plots import plot_history

        text = "Loss and root mean square errors of training and validation set against the epoch, from history.csv."
        svg = inline_svg(lambda path: plot_history(history, path), "history", text)
        found.append(Picture("Training", svg))
    return found


def _texts(metrics: Mapping[str, Any], data_set: FloatArray | None) -> dict[str, str]:
    """What can be seen in each figure."""
    energy, n = metrics["energy"], metrics["n_structures"]
    forces, leakage = metrics.get("forces", {}), metrics.get("leakage", {})
    of_all = "" if data_set is None else f", in front of those of all {len(data_set):,} structures"
    return {
        "parity.png": (
            f"Scatter plot of the predicted against the true cohesive energies of {n:,} structures along the diagonal, "
            f"RMSE {number(energy['rmse_meV_per_atom'])} meV/atom, and of the residuals below."
        ),
        "residuals.png": (
            "Histogram of the standardized residuals of total energies; "
            f"{number(energy['outlier_fraction'])} of them lie beyond 1.5 standard deviations."
        ),
        "energies.png": f"Histogram of the cohesive energies of the {n:,} evaluated structures{of_all}.",
        "forces.png": (
            "Density of predicted against true force components along the diagonal, RMSE "
            f"{number(forces.get('rmse_eV_per_A'))} eV/Å, and the fraction of errors above each size."
        ),
        "stress.png": (
            "Scatter plot of predicted against true stress components, tensions and shears apart, along the diagonal, "
            f"RMSE {number(metrics.get('stress', {}).get('rmse_GPa'))} GPa."
        ),
        "extrapolation.png": (
            "Scatter plot of the force error of each atom against its distance from the training set, with its root "
            "mean square and the limit for warnings."
        ),
        "spread.png": "Scatter plot of the error of each structure against the spread of the committee.",
        "distances.png": (
            "Scatter plot of the error of each structure against its distance from the nearest training structure; "
            f"{number(leakage.get('fraction_with_group_in_training', 0.0))} of them have relatives there."
        ),
    }
