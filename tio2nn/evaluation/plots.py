"""Plots of tables and arrays as PNG, or as SVG for a page that has its own colors; equal data give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.evaluation.metrics import OUTLIER, outlier_fraction, residuals_per_atom, standardized
from tio2nn.files.atomic import atomic_write

# two colors of the color-blind safe palette of M. Okabe and K. Ito, and two grays
BLUE = "#0072B2"
ORANGE = "#D55E00"
GRAY = "#6E6E6E"
LIGHT = "#C4C4C4"
# in SVG, of text and frames, and behind an inset; pages replace them by the colors of their own
INK = "#1B1B1B"
PAPER = "#FDFDFD"
# visible on white as on black
DENSITY = LinearSegmentedColormap.from_list(
    "density", [(*mpl.colors.to_rgb(BLUE), alpha) for alpha in (0.35, 1.0)]
)

_STYLE = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
_STYLE_OF_SVG = {
    "figure.facecolor": "none",
    "axes.facecolor": PAPER,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "tio2nn",
}
_WIDTH = 4.8  # inches
_MOST_SHAPES = 2000  # points of an SVG; more become an image in it

# If the values span more than _FAR times the middle 90 % plus _MARGIN of its width on each side, an axis shows only
# that range, so that one extreme value does not squeeze all others together. Normal and Laplace distributions are
# shown in full; the energies of TiO2, half of them within 1 eV/atom and the highest at 30, are not.
_MARGIN = 1.0
_FAR = 2.0
_FEW = 20  # values; for fewer, the middle 90 % is meaningless
_MOST_BINS = 80
# errors beside those of energies, and their names in a figure
_MORE_ERRORS = {
    "force_rmse_eV_per_A": "RMSE of forces (eV/Å)",
    "stress_rmse_meV_per_A3": "RMSE of stress (meV/Å³)",
}


def plot_history(history_csv: Path, figure: Path) -> None:
    """Plot loss and RMSE of the training and validation sets against the epoch, one line per committee member.

    Args:
        history_csv: table with the columns member (from 1), epoch, loss, validation_loss, train_rmse_meV_per_atom,
            validation_rmse_meV_per_atom, and likewise train_ and validation_force_rmse_eV_per_A and
            stress_rmse_meV_per_A3, empty without forces or stress.
        figure: the PNG to write.
    """
    history = pd.read_csv(history_csv)
    members = history.groupby("member")
    known = {
        column: label
        for column, label in _MORE_ERRORS.items()
        if history.filter([f"train_{column}", f"validation_{column}"]).notna().any().any()
    }
    panels = 2 + len(known)
    with drawing(figure, height=2.4 * panels) as page:
        loss, rmse, *others = page.subplots(panels, 1, sharex=True)
        lines = [
            (loss, "loss", BLUE, "training"),
            (loss, "validation_loss", ORANGE, "validation"),
            (rmse, "train_rmse_meV_per_atom", BLUE, "training"),
            (rmse, "validation_rmse_meV_per_atom", ORANGE, "validation"),
        ]
        for other, (column, label) in zip(others, known.items(), strict=True):
            lines += [
                (other, f"train_{column}", BLUE, "training"),
                (other, f"validation_{column}", ORANGE, "validation"),
            ]
            other.set_ylabel(label)
        # without a validation set, omit its lines and legend entries
        for axes, column, color, part in (
            line for line in lines if line[3] == "training" or history[line[1]].notna().any()
        ):
            for member, rows in members:
                axes.plot(
                    rows["epoch"],
                    rows[column],
                    color=color,
                    linewidth=1.2 if members.ngroups == 1 else 0.7,
                    marker="o" if len(rows) == 1 else None,
                    markersize=3,
                    label=part if member == 1 else None,
                )
        for axes in (loss, rmse, *others):
            if any(np.greater(line.get_ydata(), 0).any() for line in axes.lines):
                axes.set_yscale("log")
        loss.set_ylabel("loss")
        rmse.set_ylabel("RMSE (meV/atom)")
        bottom = others[-1] if others else rmse
        bottom.set_xlabel("epoch")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        rmse.legend()


def plot_parity(true: FloatArray, predicted: FloatArray, n_atoms: NDArray[np.integer], figure: Path) -> None:
    """Plot predicted against true cohesive energies, and the residuals below, since small errors are invisible above.

    If some energies lie outside the frame, an inset shows all of them.

    Args:
        true, predicted: (n_structures,) total energies minus reference energies, eV.
        n_atoms: (n_structures,)
        figure: the PNG to write.
    """
    residuals = residuals_per_atom(predicted, true, n_atoms)
    x, y = true / n_atoms, predicted / n_atoms
    both = np.concatenate([x, y])
    frame, everything = _frame(both), full_frame(both)
    limit = max(map(abs, _frame(residuals)))
    shown = (x >= frame[0]) & (x <= frame[1])
    with drawing(figure, height=6.2) as page:
        upper, lower = page.subplots(2, 1, sharex=True, height_ratios=(2.4, 1.0))
        _parity(upper, x[shown], y[shown], frame)
        if everything != frame:
            inset = upper.inset_axes((0.09, 0.62, 0.36, 0.36))
            _parity(inset, x, y, everything)
            inset.tick_params(labelsize=7)
            inset.set_title(
                f"full range, with {np.count_nonzero(~shown):,} outside the frame", fontsize=7, pad=2
            )
        lower.axhline(0.0, color=GRAY, linewidth=0.8, zorder=1)
        _scatter(lower, x[shown], residuals[shown], (-limit, limit))
        if crosses := np.count_nonzero(np.abs(residuals[shown]) > limit):
            upper.text(
                *(0.99, 0.01, f"× {structures(int(crosses))} outside the residual range"),
                transform=upper.transAxes,
                color=ORANGE,
                fontsize=8,
                ha="right",
            )
        lower.xaxis.set_major_locator(MaxNLocator(6))
        upper.set_ylabel("predicted cohesive energy (eV/atom)")
        lower.set_ylabel("residual (meV/atom)")
        lower.set_xlabel("true cohesive energy (eV/atom)")
        rmse, mae = float(np.sqrt(np.mean(residuals**2))), float(np.mean(np.abs(residuals)))
        upper.set_title(f"{structures(len(x))}, RMSE {number(rmse)} meV/atom, MAE {number(mae)} meV/atom")


def plot_residuals(residuals: FloatArray, figure: Path) -> None:
    """Plot a histogram of the standardized residuals, with the fraction beyond ±1.5 standard deviations.

    Args:
        residuals: (n_structures,) predicted − true total energies, eV.
        figure: the PNG to write.
    """
    values = standardized(residuals)
    limit = max(2.0 * OUTLIER, *map(abs, _frame(values)))
    mean, deviation = float(np.mean(residuals)), float(np.std(residuals))
    factor, unit = (1.0, "eV") if deviation >= 1.0 else (1000.0, "meV")
    with drawing(figure, height=3.4) as page:
        axes = page.subplots()
        axes.hist(values, bins=_bins(values, (-limit, limit)), color=BLUE)
        for bound in (-OUTLIER, OUTLIER):
            axes.axvline(bound, color=ORANGE, linewidth=0.9, linestyle="--")
        axes.set_xlim(-limit, limit)
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("standardized residual of the total energy")
        axes.set_ylabel("structures")
        axes.set_title(
            f"mean {number(factor * mean)} {unit}, standard deviation σ {number(factor * deviation)} {unit}\n"
            f"{100 * outlier_fraction(values):.2g} % beyond ±{OUTLIER} σ"
            + _not_shown(values, (-limit, limit))
        )


def plot_energies(evaluated: FloatArray, figure: Path, data_set: FloatArray | None = None) -> None:
    """Plot a histogram of cohesive energies.

    Args:
        evaluated: (n_structures,) energies of the evaluated structures, eV/atom.
        figure: the PNG to write.
        data_set: (n_all,) energies of the whole data set, drawn behind, eV/atom.
    """
    every = evaluated if data_set is None else np.concatenate([evaluated, data_set])
    frame = _frame(every)
    bins = _bins(every, frame)
    with drawing(figure, height=3.4) as page:
        axes = page.subplots()
        if data_set is not None:
            label = f"data set: {structures(len(data_set))}{_not_shown(data_set, frame)}"
            axes.hist(data_set, bins=bins, color=LIGHT, label=label)
        label = f"evaluated: {structures(len(evaluated))}{_not_shown(evaluated, frame)}"
        axes.hist(evaluated, bins=bins, color=BLUE, label=label)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)  # a bar of one structure has a height
        axes.set_xlim(frame)
        axes.set_xlabel("cohesive energy (eV/atom)")
        axes.set_ylabel("structures")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.0)


@contextmanager
def drawing(path: Path, height: float) -> Iterator[Figure]:
    """An empty figure of our style, written when the block ends, as SVG if the name of the file says so."""
    with mpl.rc_context():
        mpl.rcdefaults()  # figures do not depend on a matplotlibrc
        mpl.rcParams.update(_STYLE)
        is_svg = path.suffix == ".svg"
        if is_svg:
            mpl.rcParams.update(_STYLE_OF_SVG)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure
        data = io.BytesIO()
        if is_svg:
            FigureCanvasSVG(figure).print_svg(data, metadata={"Date": None, "Creator": None})
        else:
            # Figure.savefig would draw and lay out everything twice
            canvas.print_png(data, metadata={"Software": None})
    with atomic_write(path, "wb") as handle:
        handle.write(data.getbuffer())


def full_frame(values: FloatArray) -> tuple[float, float]:
    """Limits of an axis that shows all values."""
    return _padded(float(values.min()), float(values.max()))


def _frame(values: FloatArray) -> tuple[float, float]:
    """Limits of an axis that shows all values, except those far from the others."""
    low, high = float(values.min()), float(values.max())
    center = np.quantile(values, (0.05, 0.95))
    margin = _MARGIN * float(center[1] - center[0])
    lowest, highest = float(center[0]) - margin, float(center[1]) + margin
    if len(values) >= _FEW and high - low > _FAR * (highest - lowest) > 0.0:
        low, high = max(low, lowest), min(high, highest)
    return _padded(low, high)


def _padded(low: float, high: float) -> tuple[float, float]:
    # a single value needs a width, too
    pad = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + pad


def _bins(values: FloatArray, frame: tuple[float, float]) -> list[float]:
    """Edges of equal bins that fill a frame, by the Freedman-Diaconis rule."""
    quartiles = np.quantile(values, (0.25, 0.75))
    width = 2.0 * float(np.ptp(quartiles)) / len(values) ** (1.0 / 3.0)
    span = frame[1] - frame[0]
    count = _MOST_BINS if width * _MOST_BINS <= span else max(1, round(span / width))
    return [float(edge) for edge in np.linspace(*frame, count + 1)]


def _parity(axes: Axes, x: FloatArray, y: FloatArray, frame: tuple[float, float]) -> None:
    axes.axline((frame[0], frame[0]), slope=1.0, color=GRAY, linewidth=0.8, zorder=1)
    _scatter(axes, x, y, frame)
    axes.set_xlim(frame)


def _scatter(axes: Axes, x: FloatArray, y: FloatArray, y_frame: tuple[float, float]) -> None:
    """Draw points; those above or below the frame become crosses on its border."""
    inside = (y >= y_frame[0]) & (y <= y_frame[1])
    # transparent if there are many, to show their density
    alpha = float(np.clip(20.0 / np.sqrt(len(x)), 0.15, 0.8))
    many = len(x) > _MOST_SHAPES
    axes.scatter(x[inside], y[inside], s=7, color=BLUE, alpha=alpha, linewidths=0, zorder=2, rasterized=many)
    border = np.clip(y[~inside], *y_frame)
    axes.scatter(x[~inside], border, s=16, marker="x", color=ORANGE, linewidths=0.8, clip_on=False, zorder=3)
    axes.set_ylim(y_frame)


def _not_shown(values: FloatArray, frame: tuple[float, float]) -> str:
    count = int(np.count_nonzero((values < frame[0]) | (values > frame[1])))
    return f", {count:,} outside this range" if count else ""


def number(value: float) -> str:
    """A number to three digits, without an exponent if it is large."""
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")


def structures(count: int) -> str:
    return "1 structure" if count == 1 else f"{count:,} structures"
