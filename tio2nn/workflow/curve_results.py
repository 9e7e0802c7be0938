"""What the fits of a learning curve show: laws of their errors, as a table, a document and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tio2nn.errors import InputError
from tio2nn.evaluation.power_law import Curve, fit_curve
from tio2nn.files.tables import write_csv, write_json
from tio2nn.tuning.curve_ledger import CURVE_COLUMNS, CurveFit
from tio2nn.tuning.trials import COMPLETED

LEDGER = "fits.csv"
_TABLE, _DOCUMENT, _FIGURE = "curve.csv", "curve.json", "curve.png"
_FORCES = "force_rmse_eV_per_A"
_ERRORS = {
    "energy_rmse_meV_per_atom": ("RMSE of energies", "meV/atom"),
    "energy_mae_meV_per_atom": ("MAE of energies", "meV/atom"),
    _FORCES: ("RMSE of forces", "eV/Å"),
    "stress_rmse_meV_per_A3": ("RMSE of stresses", "meV/Å³"),
}
_NOT_DRAWN = "energy_mae_meV_per_atom"


class CurveResults(NamedTuple):
    """The laws by the column of the errors, the content of `curve.json`, and the files written."""

    curves: dict[str, Curve | None]
    document: dict[str, Any]
    paths: tuple[Path, ...]


def write_results(
    directory: Path, fits: Sequence[CurveFit], judge: Mapping[str, object], *, forces_are_zero: bool
) -> CurveResults:
    """Fit laws, and write table, document and figure.

    Args:
        directory: of the curve.
        fits: all that ended.
        judge: the set that the errors are measured on, and its size, for the document.
        forces_are_zero: forces of that set are zero, so that their errors follow no law.

    Raises:
        InputError: no fit completed.
    """
    from tio2nn.evaluation.curve_plot import Panel, plot_curve

    good = [fit for fit in fits if fit.status == COMPLETED]
    if not good:
        raise InputError(f"none of {len(fits)} fits completed; see {directory / LEDGER}")
    curves: dict[str, Curve | None] = {}
    panels = []
    for name, (what, unit) in _ERRORS.items():
        points = [(fit.n_train, value) for fit in good if (value := getattr(fit, name)) is not None]
        if not points or (name == _FORCES and forces_are_zero):
            continue
        n, errors = zip(*points, strict=True)
        curves[name] = fit_curve(n, errors)
        if name != _NOT_DRAWN:
            panels.append(Panel(what, unit, n, errors, curves[name]))
    largest = max(fit.n_train for fit in good)
    document = {
        "judged_by": dict(judge),
        "laws": {name: None if c is None else _law(c, largest) for name, c in curves.items()},
        "fits": [asdict(fit) for fit in fits],
    }
    rows = [[getattr(fit, name) for name in CURVE_COLUMNS] for fit in fits]
    write_csv(directory / _TABLE, CURVE_COLUMNS, rows)
    plot_curve(panels, directory / _FIGURE)
    write_json(directory / _DOCUMENT, document)
    return CurveResults(curves, document, tuple(directory / name for name in (_TABLE, _FIGURE, _DOCUMENT)))


def _law(curve: Curve, largest: int) -> dict[str, Any]:
    """A law, and what it predicts for the present data and for twice as much."""
    now, twice = curve.at(largest), curve.at(2 * largest)
    return {
        **curve.law.as_dict(),
        "n_train": largest,
        "now": now._asdict(),
        "twice": {"n_train": 2 * largest, **twice._asdict()},
    }
