"""The fits of learning curves, and the file that keeps them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from tio2nn.errors import InputError
from tio2nn.files.tables import write_csv

ERRORS = (
    "energy_rmse_meV_per_atom",
    "energy_mae_meV_per_atom",
    "force_rmse_eV_per_A",
    "stress_rmse_meV_per_A3",
)


@dataclass(frozen=True)
class CurveFit:
    """A fit and its errors; the fields are the columns of the tables.

    Attributes:
        percent: of the training set.
        repeat: from 1.
        n_train: training structures.
        status: "completed" or "diverged".
        energy_rmse_meV_per_atom, energy_mae_meV_per_atom, force_rmse_eV_per_A, stress_rmse_meV_per_A3: of those that
            judge; None where there is none.
        seconds: wall time.
        fit: digest of all that the errors depend on.
    """

    percent: float
    repeat: int
    n_train: int
    status: str
    energy_rmse_meV_per_atom: float | None
    energy_mae_meV_per_atom: float | None
    force_rmse_eV_per_A: float | None
    stress_rmse_meV_per_A3: float | None
    seconds: float
    fit: str


CURVE_COLUMNS = tuple(field.name for field in fields(CurveFit))


class CurveLedger:
    """The finished fits of a project, by their digest; each change writes a whole file.

    Raises:
        InputError: the file is no ledger.
    """

    def __init__(self, path: Path, command: str) -> None:
        self._path = path
        self.found: dict[str, CurveFit] = {}
        if not path.exists():
            return
        try:
            with path.open(encoding="utf-8", newline="") as handle:
                for row in csv.DictReader(handle, strict=True):
                    fit = _parsed(row)
                    self.found[fit.fit] = fit
        except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError, KeyError) as error:
            reason = f'expected a table of fits, got: {error}; delete it and run "{command}" again'
            raise InputError(reason, file=str(path)) from None

    def add(self, fit: CurveFit) -> None:
        """Keep a fit."""
        self.found[fit.fit] = fit
        rows = [[getattr(one, name) for name in CURVE_COLUMNS] for one in self.found.values()]
        write_csv(self._path, CURVE_COLUMNS, rows)


def _parsed(row: dict[str, str]) -> CurveFit:
    energy_rmse, energy_mae, force_rmse, stress_rmse = (
        None if row[name] == "" else float(row[name]) for name in ERRORS
    )
    return CurveFit(
        float(row["percent"]),
        int(row["repeat"]),
        int(row["n_train"]),
        row["status"],
        energy_rmse,
        energy_mae,
        force_rmse,
        stress_rmse,
        float(row["seconds"]),
        row["fit"],
    )
