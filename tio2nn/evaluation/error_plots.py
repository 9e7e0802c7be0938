"""Plots of errors of forces and stresses, and of errors against committee spread and distance from the training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from tio2nn.array_types import FloatArray
from tio2nn.evaluation.metrics import correlation
from tio2nn.evaluation.plots import BLUE, DENSITY, GRAY, ORANGE, drawing, full_frame, number, structures
from tio2nn.evaluation.residuals import EvaluatedForces
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE
from tio2nn.structures.stress import GPA

_BINS = 150  # of the histogram of forces, per axis: 0.5 mm each in print
_PARTS = 12  # groups of equal size, whose rms errors are joined by a line
_SMALLEST = 1e-4  # relative to the largest value: lower limit of a logarithmic axis


def plot_forces(true: FloatArray, predicted: FloatArray, figure: Path) -> None:
    """Plot predicted against true force components, and the fraction of errors above each size.

    Args:
        true, predicted: (n_atoms, 3) eV/Å.
        figure: the PNG to write.
    """
    x, y = true.ravel(), predicted.ravel()
    frame = full_frame(np.concatenate([x, y]))
    errors = y - x
    rmse, mae = float(np.sqrt(np.mean(errors**2))), float(np.mean(np.abs(errors)))
    with drawing(figure, height=6.2) as page:
        upper, lower = page.subplots(2, 1, height_ratios=(2.0, 1.0))
        upper.axline((frame[0], frame[0]), slope=1.0, color=GRAY, linewidth=0.8, zorder=1)
        upper.hist2d(
            x, y, bins=_BINS, range=(frame, frame), cmap=DENSITY, norm="log", zorder=2, rasterized=True
        )
        upper.set_xlabel("true force component (eV/Å)")
        upper.set_ylabel("predicted force component (eV/Å)")
        upper.set_title(f"{len(x):,} components, RMSE {number(rmse)} eV/Å, MAE {number(mae)} eV/Å")
        sizes = np.sort(np.abs(errors))
        share = 1.0 - np.arange(len(sizes)) / len(sizes)
        lower.plot(np.maximum(sizes, _SMALLEST * sizes[-1] or 1e-9), share, color=BLUE, linewidth=1.2)
        lower.set_xlim(0.7 * lower.lines[0].get_xdata().min(), 1.4 * lower.lines[0].get_xdata().max())
        lower.set_ylim(0.7 / len(sizes), 1.4)
        lower.set_xscale("log")
        lower.set_yscale("log")
        lower.set_xlabel("error of force component (eV/Å)")
        lower.set_ylabel("fraction with larger error")


def plot_stresses(true: FloatArray, predicted: FloatArray, figure: Path) -> None:
    """Plot predicted against true stress components, tensions and shears apart.

    Args:
        true, predicted: (n_structures, 6) eV/Å³, in Voigt's order.
        figure: the PNG to write.
    """
    x, y = GPA * true, GPA * predicted
    frame = full_frame(np.concatenate([x.ravel(), y.ravel()]))
    errors = y - x
    rmse, mae = float(np.sqrt(np.mean(errors**2))), float(np.mean(np.abs(errors)))
    alpha = float(np.clip(20.0 / np.sqrt(len(x)), 0.05, 0.8))
    with drawing(figure, height=4.4) as page:
        axes = page.subplots()
        axes.axline((frame[0], frame[0]), slope=1.0, color=GRAY, linewidth=0.8, zorder=1)
        for part, color, label in ((slice(0, 3), BLUE, "xx, yy, zz"), (slice(3, 6), ORANGE, "yz, xz, xy")):
            axes.scatter(
                x[:, part],
                y[:, part],
                s=6,
                color=color,
                alpha=alpha,
                linewidths=0,
                rasterized=True,
                label=label,
            )
        axes.set_xlim(frame)
        axes.set_ylim(frame)
        axes.set_xlabel("true stress component (GPa)")
        axes.set_ylabel("predicted stress component (GPa)")
        axes.legend(loc="upper left")
        axes.set_title(f"{structures(len(x))}, RMSE {number(rmse)} GPa, MAE {number(mae)} GPa")


def plot_spread(
    spreads: FloatArray, errors: FloatArray, forces: EvaluatedForces | None, figure: Path
) -> None:
    """Plot errors against the committee spread; if the spread predicts the error, the points follow the diagonal.

    Args:
        spreads, errors: (n_structures,) spreads and absolute errors of energies, meV/atom.
        forces: forces with their spread, or None.
        figure: the PNG to write.
    """
    both = forces is not None and forces.spread is not None
    with drawing(figure, height=6.6 if both else 3.6) as page:
        axes = page.subplots(2 if both else 1, 1, squeeze=False)[:, 0]
        _against(axes[0], spreads, errors)
        axes[0].set_xlabel("committee spread of the energy (meV/atom)")
        axes[0].set_ylabel("error (meV/atom)")
        axes[0].set_title(", ".join([structures(len(spreads)), *_told(spreads, errors)]))
        if both and forces is not None and forces.spread is not None:
            lengths = np.linalg.norm(forces.predicted - forces.true, axis=1)
            _against(axes[1], forces.spread, lengths)
            axes[1].set_xlabel("committee spread of the force on an atom (eV/Å)")
            axes[1].set_ylabel("force error (eV/Å)")
            axes[1].set_title(", ".join([f"{len(lengths):,} atoms", *_told(forces.spread, lengths)]))


def plot_distances(distances: FloatArray, errors: FloatArray, figure: Path) -> None:
    """Plot errors against the distance from the nearest training structure.

    Args:
        distances: (n_structures,) see `tio2nn.evaluation.leakage`.
        errors: (n_structures,) absolute errors, meV/atom.
        figure: the PNG to write.
    """
    with drawing(figure, height=3.6) as page:
        axes = page.subplots()
        _against(axes, distances, errors, diagonal=False)
        axes.set_xlabel("distance from the nearest training structure (1: unrelated)")
        axes.set_ylabel("error (meV/atom)")
        axes.set_title(f"{structures(len(distances))}, median distance {number(float(np.median(distances)))}")


def plot_extrapolation(forces: EvaluatedForces, figure: Path) -> None:
    """Plot force errors against the distance of the atom from the training set, with the limit for warnings.

    Args:
        forces: forces with the distances of the atoms.
        figure: the PNG to write.
    """
    lengths = np.linalg.norm(forces.predicted - forces.true, axis=1)
    with drawing(figure, height=3.6) as page:
        axes = page.subplots()
        _against(axes, forces.distances, lengths, diagonal=False)
        axes.axvline(EXTRAPOLATION_DISTANCE, color=GRAY, linewidth=0.8, label="limit for warnings")
        axes.legend(loc="upper left")
        axes.set_xlabel("distance of the atom from the training set (1: typical)")
        axes.set_ylabel("force error (eV/Å)")
        told = correlation(forces.distances, lengths)["spearman"]
        rank = "" if told is None else f", rank correlation {told:.2f}"
        axes.set_title(f"{len(lengths):,} {'atom' if len(lengths) == 1 else 'atoms'}{rank}")


def _floor(values: FloatArray) -> float:
    """Lower limit of a logarithmic axis that shows nearly all values, but not rounding errors around zero."""
    positive = values[values > 0.0]
    return min(_SMALLEST * float(values.max()), float(np.quantile(positive, 0.01))) if len(positive) else 1e-9


def _told(spread: FloatArray, error: FloatArray) -> list[str]:
    """How well the spread predicts the error, for a title; empty if undetermined."""
    found = correlation(spread, error)
    rank, ratio = found["spearman"], found["error_over_spread"]
    return [
        *([] if rank is None else [f"rank correlation {rank:.2f}"]),
        *([] if ratio is None else [f"error over spread {number(ratio)} (rms)"]),
    ]


def _against(axes: Axes, x: FloatArray, y: FloatArray, *, diagonal: bool = True) -> None:
    """Draw points on logarithmic axes, and the rms of y in groups of equal size along x."""
    x, y = (np.maximum(values, _floor(values)) for values in (x, y))
    alpha = float(np.clip(20.0 / np.sqrt(len(x)), 0.05, 0.8))
    axes.scatter(x, y, s=6, color=BLUE, alpha=alpha, linewidths=0, rasterized=True)
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), min(_PARTS, len(x))) if len(part)]
    axes.plot(
        [float(np.median(x[part])) for part in parts],
        [float(np.sqrt(np.mean(y[part] ** 2))) for part in parts],
        color=ORANGE,
        linewidth=1.2,
        marker="o",
        markersize=3,
        label="root mean square",
    )
    for scale, values in ((axes.set_xlim, x), (axes.set_ylim, y)):
        # margins by a factor, which also work if all values are equal
        scale(0.7 * values.min(), 1.4 * values.max())
    axes.set_xscale("log")
    axes.set_yscale("log")
    if diagonal:
        axes.axline((1.0, 1.0), (10.0, 10.0), color=GRAY, linewidth=0.8, label="error = spread")
    axes.legend(loc="upper left")
