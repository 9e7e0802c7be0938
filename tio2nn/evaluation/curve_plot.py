"""The figure of a learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from tio2nn.evaluation.plots import BLUE, GRAY, ORANGE, drawing, number
from tio2nn.evaluation.power_law import Curve, PowerLaw

_POINTS = 60  # of a curve


class Panel(NamedTuple):
    """What is drawn of one error.

    Attributes:
        what: such as "RMSE of energies".
        unit: its unit.
        n: number of training structures of each fit.
        errors: of each.
        curve: the fitted law; None for too few points.
    """

    what: str
    unit: str
    n: Sequence[int]
    errors: Sequence[float]
    curve: Curve | None


def plot_curve(panels: Sequence[Panel], figure: Path) -> None:
    """Plot errors against the number of training structures, the law with its interval, and twice the data.

    Args:
        panels: one or two.
        figure: the PNG to write.
    """
    with drawing(figure, height=0.6 + 2.6 * len(panels)) as page:
        for panel, axes in zip(
            panels, np.atleast_1d(page.subplots(len(panels), 1, sharex=True)), strict=True
        ):
            _draw(axes, panel)
        axes.set_xlabel("training structures")


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    largest = max(panel.n)
    if panel.curve is not None:
        n = np.geomspace(min(panel.n), 2.0 * largest, _POINTS)
        found = [panel.curve.at(float(one)) for one in n]
        axes.fill_between(
            n, [e.low for e in found], [e.high for e in found], color=BLUE, alpha=0.15, linewidth=0
        )
        inside = np.searchsorted(n, largest)
        values = np.array([e.value for e in found])
        axes.plot(
            n[: inside + 1], values[: inside + 1], color=BLUE, linewidth=1.2, label=_formula(panel.curve.law)
        )
        axes.plot(n[inside:], values[inside:], color=BLUE, linewidth=1.2, linestyle=":")
        twice = panel.curve.at(2.0 * largest)
        axes.errorbar(
            [2.0 * largest],
            [twice.value],
            yerr=[[twice.value - twice.low], [twice.high - twice.value]],
            color=ORANGE,
            marker="D",
            markersize=4,
            linewidth=1.0,
            capsize=2.5,
            label=f"twice the data: {number(twice.value)} {panel.unit}",
        )
    axes.plot(panel.n, panel.errors, "o", color=GRAY, markersize=4, alpha=0.8, label="fits")
    axes.set_ylabel(f"{panel.what} ({panel.unit})")
    ticks = sorted({*panel.n, *([2 * largest] if panel.curve is not None else [])})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=30)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    places = [m * 10.0**e for e in range(-9, 9) for m in (1, 1.5, 2, 3, 5, 7) if low <= m * 10.0**e <= high]
    axes.set_yticks(places)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend()


def _formula(law: PowerLaw) -> str:
    before, _, exponent = law.formula().partition(" N^")
    return f"{before} $N^{{{exponent}}}$"
