"""The tables of a report, from the metrics of an evaluation. Whatever has errors in the metrics gets its rows here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tio2nn.evaluation.baseline import Comparison
from tio2nn.evaluation.html_report import Table
from tio2nn.evaluation.residuals import COLUMNS, ResidualTable

_ERROR = re.compile(r"(rmse|mae|p95|max)_(\w+)")
_NAMES = {"forces": "force component", "stress": "stress component"}
_TITLES = {
    "by_energy": "Errors by cohesive energy",
    "by_size": "Errors by number of atoms",
    "by_composition": "Errors by composition",
    "by_config_type": "Errors by kind of structure (config_type)",
    "by_element": "Force errors by element",
    "by_distance_of_atom": "Force errors by distance of the atom from training (1: typical)",
    "by_distance": "Errors by distance from the nearest training structure (1: unrelated)",
}
_HEADS = {"rmse": "RMSE", "mae": "MAE", "p95": "95 % below", "max": "largest"}
_WORDS = {
    "n_structures": "structures",
    "n_atoms": "atoms",
    "from_distance": "from",
    "to_distance": "to",
    "reference_rmse_meV_per_atom": "RMSE of reference energies alone, meV/atom",
}
_UNITS = re.compile(r"_(meV_per_atom|eV_per_atom|meV_per_A3|eV_per_A3|eV_per_A|meV|eV|GPa)$")
_MOST_ROWS = 20  # of a table by composition, and of the largest residuals
_SHOWN = (
    *("structure", "file", "composition", "energy_eV", "residual_meV_per_atom", "largest_distance"),
    "force_rmse_eV_per_A",
)


def error_tables(metrics: Mapping[str, Any], comparison: Comparison, table: ResidualTable) -> list[Table]:
    """All tables of errors."""
    return [
        _errors(metrics),
        *_baseline(comparison),
        *_parts(metrics),
        *_statistics(metrics),
        _largest(table),
    ]


def number(value: object) -> str:
    """A cell: numbers to four digits, "" for none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _unit(key: str) -> str:
    return key.replace("_per_", "/").replace("A3", "Å³").replace("/A", "/Å")


def _head(key: str) -> str:
    """The head of a column, such as `RMSE, meV/atom`."""
    if key in _WORDS:
        return _WORDS[key]
    unit = _UNITS.search(key)
    word = key[: unit.start()] if unit is not None else key
    word = " ".join(_HEADS.get(part, part) for part in word.split("_"))
    return word if unit is None else f"{word}, {_unit(unit[1])}"


def _errors(metrics: Mapping[str, Any]) -> Table:
    rows = []
    for name, values in metrics.items():
        if not isinstance(values, Mapping):
            continue
        by_unit: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            if (found := _ERROR.fullmatch(key)) is not None:
                by_unit.setdefault(found[2], {})[found[1]] = value
        for unit, errors in by_unit.items():
            what = "total energy" if (name, unit) == ("energy", "eV") else _NAMES.get(name, name)
            rows.append([f"{what}, {_unit(unit)}", *(number(errors.get(kind)) for kind in _HEADS)])
    title = f"Errors on {metrics['n_structures']:,} structures with {metrics['n_atoms']:,} atoms"
    return Table(title, ["of", *_HEADS.values()], rows)


def _baseline(comparison: Comparison) -> list[Table]:
    rows = [
        [
            "energy, meV/atom",
            number(comparison.rmse),
            number(comparison.reference_rmse),
            number(comparison.factor),
        ]
    ]
    if comparison.force_rmse is not None:
        rows.append(
            [
                "force component, eV/Å",
                number(comparison.force_rmse),
                number(comparison.zero_force_rmse),
                number(comparison.force_factor),
            ]
        )
    return [
        Table(
            "Against the baseline",
            ["RMSE of", "potential", "baseline", "factor"],
            rows,
            "The baseline is one reference energy for each element, and zero forces.",
        )
    ]


def _parts(metrics: Mapping[str, Any]) -> list[Table]:
    """A table for each list of errors of parts, wherever it stands in the metrics."""
    found = []
    for key, entries in _lists(metrics):
        if not entries:
            continue
        # not every part has all errors
        columns = list(dict.fromkeys(column for entry in entries for column in entry))
        rows = [[number(entry.get(column)) for column in columns] for entry in entries[:_MOST_ROWS]]
        more = len(entries) - _MOST_ROWS
        note = f"{more} more in metrics.json." if more > 0 else ""
        title = _TITLES.get(key, f"Errors {key.replace('_', ' ')}")
        found.append(Table(title, [_head(column) for column in columns], rows, note))
    return found


def _lists(metrics: Mapping[str, Any]) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    found: list[tuple[str, Sequence[Mapping[str, Any]]]] = []
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found += _lists(value)
        elif key.startswith("by_"):
            found.append((key, value))
    return found


def _statistics(metrics: Mapping[str, Any]) -> list[Table]:
    energy = metrics["energy"]
    rows = [
        ["mean residual of total energies, eV", number(energy["mean_residual_eV"])],
        ["standard error of it, eV", number(energy["standard_error_eV"])],
        ["fraction of residuals beyond 1.5 standard deviations", number(energy["outlier_fraction"])],
    ]
    for name, told in metrics.get("spread", {}).items():
        of = _NAMES.get(name, name)
        rows += [
            [f"committee spread of the {of}: rank correlation with the error", number(told["spearman"])],
            [f"committee spread of the {of}: error over spread (rms)", number(told["error_over_spread"])],
        ]
    if "leakage" in metrics:
        share = metrics["leakage"]["fraction_with_group_in_training"]
        rows.append(["fraction of structures with relatives in the training set", number(share)])
    return [Table("Residuals", ["of", "value"], rows)]


def _largest(table: ResidualTable) -> Table:
    places = [COLUMNS.index(column) for column in _SHOWN]
    order = np.argsort(-np.abs(table.residuals_per_atom), kind="stable")[:_MOST_ROWS].tolist()
    wanted, rows = set(order), {}
    for k, cells in enumerate(table.lines()):
        if k in wanted:
            rows[k] = [number(cells[place]) for place in places]
    return Table(
        "Largest residuals",
        [_head(column) for column in _SHOWN],
        [rows[k] for k in order],
        "All are in residuals.csv.",
    )
