"""Errors of each kind of structure (`config_type` of its file): energies, forces and stresses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.evaluation.metrics import Entry, force_metrics, rmse_and_mae, stress_metrics

COLUMNS = (
    "config_type",
    "n_structures",
    "rmse_meV_per_atom",
    "mae_meV_per_atom",
    "force_rmse_eV_per_A",
    "force_mae_eV_per_A",
    "stress_rmse_meV_per_A3",
    "stress_mae_meV_per_A3",
    "stress_rmse_GPa",
    "stress_mae_GPa",
)
"""Columns of `config_types.csv`, and keys of the entries."""


class Compared(Protocol):
    """True and predicted forces (n_atoms, 3), or stress (6,)."""

    @property
    def true(self) -> FloatArray: ...

    @property
    def predicted(self) -> FloatArray: ...


def errors_by_config_type(
    kinds: Sequence[str],
    per_atom: FloatArray,
    forces: Sequence[Compared | None],
    stresses: Sequence[Compared | None],
) -> list[Entry]:
    """An entry for each kind, most frequent first; None for errors of forces or stresses that no structure has.

    Args:
        kinds: (n_structures,) "" without one.
        per_atom: (n_structures,) residuals of energies, meV/atom.
        forces, stresses: (n_structures,) None where there are none.

    Returns:
        The entries; none if no structure has a kind.
    """
    by_kind: dict[str, list[int]] = defaultdict(list)
    for k, kind in enumerate(kinds):
        by_kind[kind].append(k)
    if by_kind.keys() <= {""}:
        return []
    entries = []
    for kind, members in by_kind.items():
        own_forces = [each for k in members if (each := forces[k]) is not None]
        own_stresses = [each for k in members if (each := stresses[k]) is not None]
        found: dict[str, Any] = {"config_type": kind, "n_structures": len(members)}
        found |= rmse_and_mae(per_atom[members], "_meV_per_atom")
        if own_forces:
            errors = force_metrics(
                np.concatenate([each.predicted for each in own_forces]),
                np.concatenate([each.true for each in own_forces]),
            )
            found |= {f"force_{name}": value for name, value in errors.items()}
        if own_stresses:
            errors = stress_metrics(
                np.stack([each.predicted for each in own_stresses]),
                np.stack([each.true for each in own_stresses]),
            )
            found |= {f"stress_{name}": value for name, value in errors.items()}
        entries.append({column: found.get(column) for column in COLUMNS})
    return sorted(entries, key=lambda entry: (-int(entry["n_structures"]), entry["config_type"]))


def lines(entries: Iterable[Entry]) -> list[list[object]]:
    """Cells of `config_types.csv`."""
    return [["" if entry[column] is None else entry[column] for column in COLUMNS] for entry in entries]
