from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tio2nn.evaluation.error_plots import (
    plot_distances,
    plot_extrapolation,
    plot_forces,
    plot_spread,
    plot_stresses,
)
from tio2nn.evaluation.residuals import EvaluatedForces
from tio2nn.potential.prediction import EXTRAPOLATION_DISTANCE


def errors(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Spreads, and errors drawn from normal distributions of that width."""
    rng = np.random.default_rng(n)
    spreads = rng.lognormal(size=n)
    return spreads, np.abs(spreads * rng.normal(size=n))


@pytest.mark.parametrize("n", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 40)), 3000])
def test_every_figure_can_be_drawn_for_few_and_many(tmp_path: Path, n: int) -> None:
    spreads, found = errors(n)
    true = np.random.default_rng(0).normal(size=(n, 3))
    forces = EvaluatedForces(true, true + 0.1, np.full(n, 0.1), spreads)
    plot_forces(forces.true, forces.predicted, tmp_path / "forces.png")
    plot_stresses(true[:, [0, 1, 2, 0, 1, 2]], true[:, [0, 1, 2, 1, 1, 1]], tmp_path / "stress.png")
    plot_spread(spreads, found, forces, tmp_path / "spread.png")
    plot_distances(spreads, found, tmp_path / "distances.png")
    plot_extrapolation(forces, tmp_path / "extrapolation.png")
    figures = sorted(tmp_path.iterdir())
    assert [figure.name for figure in figures] == [
        "distances.png",
        "extrapolation.png",
        "forces.png",
        "spread.png",
        "stress.png",
    ]
    for figure in figures:
        assert figure.read_bytes().startswith(b"\x89PNG\r\n")


def test_exact_predictions_can_be_drawn(tmp_path: Path) -> None:
    nothing = np.zeros(5)
    plot_forces(np.ones((5, 3)), np.ones((5, 3)), tmp_path / "forces.png")
    exact = EvaluatedForces(np.ones((5, 3)), np.ones((5, 3)), nothing, nothing)
    plot_spread(nothing, nothing, exact, tmp_path / "spread.png")
    plot_extrapolation(exact, tmp_path / "extrapolation.png")
    plot_distances(nothing, nothing, tmp_path / "distances.png")
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_captions_say_what_errors_there_are(tmp_path: Path, drawn: list[Figure]) -> None:
    true = np.zeros((100, 3))
    true[:, 0] = np.linspace(-1, 1, 100)
    plot_forces(true, true + np.array([0.3, 0.0, 0.0]), tmp_path / "forces.png")
    assert drawn[0].axes[0].get_title(loc="left") == "300 components, RMSE 0.173 eV/Å, MAE 0.1 eV/Å"


def test_tensions_and_shears_are_told_apart_in_gigapascals(tmp_path: Path, drawn: list[Figure]) -> None:
    true = np.tile(np.arange(6.0), (4, 1)) / 160.21766208
    plot_stresses(true, 1.5 * true, tmp_path / "stress.png")
    axes = drawn[0].axes[0]
    tensions, shears = axes.collections
    np.testing.assert_allclose(sorted(set(np.round(tensions.get_offsets()[:, 0], 9))), [0.0, 1.0, 2.0])
    np.testing.assert_allclose(sorted(set(np.round(shears.get_offsets()[:, 1], 9))), [4.5, 6.0, 7.5])
    assert axes.get_title(loc="left") == "4 structures, RMSE 1.51 GPa, MAE 1.25 GPa"


def test_the_line_of_mean_errors_follows_a_spread_that_tells_them(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    spreads, found = errors(3000)
    plot_spread(spreads, found, None, tmp_path / "spread.png")
    line = drawn[0].axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata(), rtol=0.5)


def test_the_figure_of_distances_shows_each_structure_and_the_errors_that_grow(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    distances = np.geomspace(0.01, 1.0, 200)
    plot_distances(distances, 3.0 * distances, tmp_path / "distances.png")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(
        axes.collections[0].get_offsets(), np.stack([distances, 3.0 * distances], axis=1), rtol=0.05
    )
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 3.0 * axes.lines[0].get_xdata(), rtol=0.1)
    assert axes.get_title(loc="left") == "200 structures, median distance 0.1"


def test_the_figure_of_extrapolation_shows_lengths_of_errors_and_where_the_warning_begins(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    distances = np.geomspace(0.1, 10.0, 100)
    true = np.ones((100, 3))
    wrong = true + distances[:, None] * np.array([0.3, 0.0, 0.4])
    plot_extrapolation(EvaluatedForces(true, wrong, None, distances), tmp_path / "extrapolation.png")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(
        axes.collections[0].get_offsets(), np.stack([distances, 0.5 * distances], axis=1), rtol=0.05
    )
    assert [line.get_xdata() for line in axes.lines if line.get_label() == "limit for warnings"] == [
        [EXTRAPOLATION_DISTANCE] * 2
    ]
    assert axes.get_title(loc="left") == "100 atoms, rank correlation 1.00"
