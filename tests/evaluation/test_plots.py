from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from tio2nn.evaluation.plots import plot_energies, plot_history, plot_parity, plot_residuals

HEADER = (
    "member,epoch,learning_rate,loss,validation_loss,train_rmse_meV_per_atom,validation_rmse_meV_per_atom,"
    "validation_mae_meV_per_atom,train_force_rmse_eV_per_A,validation_force_rmse_eV_per_A,"
    "validation_force_mae_eV_per_A,seconds\n"
)


def energies(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Total energies minus reference energies, predictions 3 meV/atom off, and sizes."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.choice([6, 24, 46], size=n)
    true = rng.normal(0.0, 0.3, size=n) * n_atoms
    return true, true + rng.normal(0.0, 3e-3, size=n) * n_atoms, n_atoms


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n")


def history(path: Path, members: int, epochs: int, forces: bool = False) -> Path:
    rows = [
        f"{member},{epoch},0.001,{10 / epoch},{11 / epoch},{100 / epoch},{(110 + member) / epoch},{80 / epoch},"
        + (f"{3 / epoch},{4 / epoch},{2 / epoch},0.5\n" if forces else ",,,0.5\n")
        for member in range(1, members + 1)
        for epoch in range(1, epochs + 1)
    ]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("n", [1, 2, 30, 3000])
def test_every_figure_can_be_drawn_for_few_and_many_structures(tmp_path: Path, n: int) -> None:
    true, predicted, n_atoms = energies(n)
    plot_parity(true, predicted, n_atoms, tmp_path / "parity.png")
    plot_residuals(predicted - true, tmp_path / "residuals.png")
    plot_energies(true / n_atoms, tmp_path / "energies.png")
    assert all(is_png(tmp_path / f"{name}.png") for name in ("parity", "residuals", "energies"))
    assert len(list(tmp_path.iterdir())) == 3


def test_energies_and_predictions_that_are_all_alike_can_be_drawn(tmp_path: Path) -> None:
    zeros, ones = np.zeros(30), np.ones(30, dtype=int)
    plot_parity(zeros, zeros, ones, tmp_path / "parity.png")
    plot_residuals(zeros, tmp_path / "residuals.png")
    plot_energies(zeros, tmp_path / "energies.png", zeros)
    assert is_png(tmp_path / "energies.png")


def test_the_same_numbers_give_the_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    true, predicted, n_atoms = energies(200)
    plot_parity(true, predicted, n_atoms, tmp_path / "first.png")
    with mpl.rc_context({"font.size": 20.0, "axes.grid": True, "figure.facecolor": "black"}):
        plot_parity(true, predicted, n_atoms, tmp_path / "second.png")
        assert mpl.rcParams["font.size"] == 20.0
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_parity_shows_the_errors_per_atom_and_all_residuals(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_parity(np.array([-2.0, -6.0]), np.array([-1.9, -6.3]), np.array([2, 3]), tmp_path / "parity.png")
    upper, lower = drawn[0].axes
    assert upper.get_title(loc="left") == "2 structures, RMSE 79.1 meV/atom, MAE 75 meV/atom"
    points = np.concatenate([c.get_offsets() for c in lower.collections])
    np.testing.assert_allclose(points, [[-1.0, 50.0], [-2.0, -100.0]])
    assert "eV/atom" in upper.get_ylabel()
    assert "meV/atom" in lower.get_ylabel()


def test_a_single_wild_residual_is_marked_on_the_border_instead_of_flattening_the_others(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    true, predicted, n_atoms = energies(500)
    predicted[17] += 3.0 * n_atoms[17]
    plot_parity(true, predicted, n_atoms, tmp_path / "parity.png")
    upper, lower = drawn[0].axes[:2]
    limit = lower.get_ylim()[1]
    assert 5.0 < limit < 50.0
    points, crosses = (c.get_offsets() for c in lower.collections)
    assert (len(points), len(crosses)) == (499, 1)
    np.testing.assert_allclose(crosses[0], [true[17] / n_atoms[17], limit])
    assert [text.get_text() for text in upper.texts] == ["× 1 structure outside the residual range"]


def test_energies_far_above_the_others_get_an_inset(tmp_path: Path, drawn: list[Figure]) -> None:
    true, predicted, n_atoms = energies(500)
    true[:3] += 30.0 * n_atoms[:3]
    predicted[:3] += 30.0 * n_atoms[:3]
    plot_parity(true, predicted, n_atoms, tmp_path / "parity.png")
    upper, _ = drawn[0].axes
    (inset,) = upper.child_axes
    assert upper.get_xlim()[1] < 5.0 < 30.0 < inset.get_xlim()[1]
    assert "3 outside" in inset.get_title(loc="left")
    assert sum(len(c.get_offsets()) for c in upper.collections) == 497
    assert sum(len(c.get_offsets()) for c in inset.collections) == 500


def test_an_ordinary_spread_of_energies_needs_no_inset(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_parity(*energies(2000), tmp_path / "parity.png")
    upper, lower = drawn[0].axes
    assert upper.child_axes == []
    assert sum(len(c.get_offsets()) for c in lower.collections) == 2000


def test_the_histogram_of_residuals_names_the_papers_statistics(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_residuals(np.array([-1.0, 3.0, -1.0, 3.0]), tmp_path / "plain.png")
    # one of ten lies three standard deviations from the mean
    plot_residuals(np.array([0.0] * 9 + [1.0]), tmp_path / "outlier.png")
    plain, outlier = (figure.axes[0].get_title(loc="left") for figure in drawn)
    assert plain == "mean 1 eV, standard deviation σ 2 eV\n0 % beyond ±1.5 σ"
    assert outlier == "mean 100 meV, standard deviation σ 300 meV\n10 % beyond ±1.5 σ"
    assert sorted(line.get_xdata()[0] for line in drawn[0].axes[0].lines) == [-1.5, 1.5]


def test_bars_count_every_structure_that_the_caption_does_not_call_outside(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    shown = np.random.default_rng(0).normal(size=1000)
    data_set = np.concatenate([shown, shown, [200.0, 300.0]])
    plot_energies(shown, tmp_path / "energies.png", data_set)
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["data set: 2,002 structures, 2 outside this range", "evaluated: 1,000 structures"]
    assert [sum(bar.get_height() for bar in bars) for bars in axes.containers] == [2000, 1000]


def test_the_history_of_a_committee_has_a_line_for_each_member_and_one_legend_entry_a_part(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_history(history(tmp_path / "history.csv", 3, 20), tmp_path / "history.png")
    loss, rmse = drawn[0].axes
    assert (len(loss.lines), len(rmse.lines)) == (6, 6)
    assert [text.get_text() for text in rmse.get_legend().get_texts()] == ["training", "validation"]
    assert {loss.get_yscale(), rmse.get_yscale()} == {"log"}
    np.testing.assert_allclose(rmse.lines[4].get_ydata(), 112 / np.arange(1, 21))
    assert is_png(tmp_path / "history.png")


def test_the_history_of_a_training_on_forces_shows_their_errors_too(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_history(history(tmp_path / "history.csv", 2, 20, forces=True), tmp_path / "history.png")
    assert len(drawn[0].axes) == 3
    np.testing.assert_allclose(drawn[0].axes[2].lines[0].get_ydata(), 3 / np.arange(1, 21))


def test_the_history_of_a_training_on_stress_shows_its_errors_too(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    file = history(tmp_path / "history.csv", 1, 20)
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    stress = [f"{5 / epoch},{6 / epoch}" for epoch in range(1, 21)]
    columns = "train_stress_rmse_meV_per_A3,validation_stress_rmse_meV_per_A3"
    lines = [f"{row},{own}" for row, own in zip([header, *rows], [columns, *stress], strict=True)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot_history(file, tmp_path / "history.png")
    assert [axes.get_ylabel() for axes in drawn[0].axes][2:] == ["RMSE of stress (meV/Å³)"]
    np.testing.assert_allclose(drawn[0].axes[2].lines[1].get_ydata(), 6 / np.arange(1, 21))


def test_the_history_of_one_epoch_is_a_visible_point(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_history(history(tmp_path / "history.csv", 1, 1), tmp_path / "history.png")
    assert {line.get_marker() for axes in drawn[0].axes for line in axes.lines} == {"o"}


def test_a_history_that_diverged_can_be_drawn(tmp_path: Path) -> None:
    rows = "1,1,0.1,nan,nan,nan,nan,nan,,,,0.5\n1,2,0.1,nan,nan,nan,nan,nan,,,,0.5\n"
    (tmp_path / "history.csv").write_text(HEADER + rows, encoding="utf-8")
    plot_history(tmp_path / "history.csv", tmp_path / "history.png")
    assert is_png(tmp_path / "history.png")


def test_drawing_leaves_the_state_of_pyplot_alone() -> None:
    code = "import sys, tio2nn.evaluation.plots; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
