"""Error metrics of predicted energies, forces and stresses. A residual is predicted − true.

RMSE is the root mean square error, MAE the mean absolute error. Every structure has the same weight, whatever its
number of atoms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tio2nn.structures.stress import GPA

FloatArray: TypeAlias = NDArray[np.float64]
Entry: TypeAlias = dict[str, Any]

OUTLIER = 1.5
"""Standard deviations from the mean beyond which a residual counts as an outlier (J. P. Rili, 2024)."""

_MEV = 1000.0  # meV in an eV
_STRESS_UNITS = (("meV_per_A3", _MEV), ("GPa", GPA))
_DIGITS = 8  # significant digits reported: more than any error is known to, fewer than rounding affects

# Quantiles for the edges of energy bins; the few highest energies, which are hard to fit, have bins of their own
_QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
_FEWEST = 2  # structures beyond the outermost edges at least, so that small data sets have fewer bins
_DECIMALS = 6  # of the edges, eV/atom; no reference method is more precise
_ROUND = (1.0, 2.0, 5.0)

# Edges of bins for the distance of an atom from the training set, see tio2nn.potential.familiarity
_DISTANCES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)

_FEWEST_RANKED = 3  # values at least for a meaningful rank correlation
_QUARTERS = 4  # groups of equal size by distance from the training set


def energy_metrics(predicted: ArrayLike, true: ArrayLike, n_atoms: ArrayLike) -> dict[str, float]:
    """Errors of total energies and of energies per atom.

    Args:
        predicted, true: (n_structures,) total energies, eV; at least one.
        n_atoms: (n_structures,)

    Returns:
        Errors per atom in meV, errors of total energies in eV. `p95_meV_per_atom` is the 95th percentile of the
        absolute errors. `standard_error_eV`, named as in Rili (2024), is the standard deviation of the residuals of
        the total energies, with n in the denominator. `outlier_fraction` is the fraction of these residuals more than
        `OUTLIER` standard deviations from their mean.

    Raises:
        ValueError: there are no structures, or the arrays have different shapes.
    """
    residuals = _residuals(predicted, true)
    per_atom = np.abs(residuals_per_atom(predicted, true, n_atoms))
    return _rounded(
        {
            "rmse_meV_per_atom": _rmse(per_atom),
            "mae_meV_per_atom": np.mean(per_atom),
            "p95_meV_per_atom": np.quantile(per_atom, 0.95),
            "max_meV_per_atom": np.max(per_atom),
            "rmse_eV": _rmse(residuals),
            "mae_eV": np.mean(np.abs(residuals)),
            "mean_residual_eV": np.mean(residuals),
            "standard_error_eV": np.std(residuals),
            "outlier_fraction": outlier_fraction(standardized(residuals)),
        }
    )


def force_metrics(predicted: ArrayLike, true: ArrayLike) -> dict[str, float]:
    """Errors of force components.

    Args:
        predicted, true: (n_atoms, 3) eV/Å; at least one atom.

    Returns:
        Errors over all components of all atoms, rather than over the lengths of the error vectors.
    """
    errors = np.abs(np.asarray(predicted, np.float64) - np.asarray(true, np.float64))
    return _rounded(
        {"rmse_eV_per_A": _rmse(errors), "mae_eV_per_A": np.mean(errors), "max_eV_per_A": np.max(errors)}
    )


def stress_metrics(predicted: ArrayLike, true: ArrayLike) -> dict[str, float]:
    """Errors of stress components; each of the six counts once.

    Args:
        predicted, true: (n_structures, 6) eV/Å³, in Voigt's order; at least one structure.
    """
    errors = np.abs(np.asarray(predicted, np.float64) - np.asarray(true, np.float64))
    found = {"rmse": _rmse(errors), "mae": float(np.mean(errors)), "max": float(np.max(errors))}
    in_both = {
        f"{name}_{unit}": scale * value for unit, scale in _STRESS_UNITS for name, value in found.items()
    }
    return {"n_structures": len(errors), **_rounded(in_both)}


def rmse_and_mae(residuals: FloatArray, unit: str) -> dict[str, float]:
    """RMSE and MAE of residuals, under names that end with their unit."""
    return _rounded({f"rmse{unit}": _rmse(residuals), f"mae{unit}": float(np.mean(np.abs(residuals)))})


def force_errors_by_distance(predicted: FloatArray, true: FloatArray, distances: FloatArray) -> list[Entry]:
    """An entry for each nonempty bin of distances, ascending; bins include their lower edge.

    Args:
        predicted, true: (n_atoms, 3) eV/Å.
        distances: (n_atoms,) distance of each atom from the training set; 1 is typical.
    """
    edges = np.array(_DISTANCES)
    bins, group = np.unique(np.searchsorted(edges, distances, side="right") - 1, return_inverse=True)
    return [
        {
            "from_distance": float(edges[k]),
            "to_distance": float(edges[k + 1]) if k + 2 < len(edges) else None,
            "n_atoms": len(errors),
            **_rounded({"rmse_eV_per_A": _rmse(errors)}),
        }
        for k, errors in zip(bins.tolist(), _parts(predicted - true, group), strict=True)
    ]


def force_errors_by_element(
    errors: FloatArray, of_atoms: Sequence[str], elements: Sequence[str]
) -> list[Entry]:
    """An entry for each element that is there.

    Args:
        errors: (n_atoms, 3) predicted minus true force components, eV/Å.
        of_atoms: (n_atoms,) their elements.
        elements: in the order of the entries.
    """
    found = []
    symbols = np.array(of_atoms)
    for element in elements:
        own = errors[symbols == element]
        if len(own):
            numbers = {
                "rmse_eV_per_A": _rmse(own),
                "mae_eV_per_A": np.mean(np.abs(own)),
                "max_eV_per_A": np.abs(own).max(),
            }
            found.append({"element": element, "n_atoms": len(own), **_rounded(numbers)})
    return found


def correlation(spread: ArrayLike, error: ArrayLike) -> dict[str, float | None]:
    """How well the committee spread predicts the size of the error.

    Args:
        spread, error: (n,) nonnegative, n ≥ 1.

    Returns:
        `spearman`: rank correlation; 1 if a larger spread always means a larger error, 0 if they are unrelated or one
        is constant, None for fewer than three values. `error_over_spread`: ratio of their root mean squares; 1 for a
        spread of the right size, None if all spreads are zero.
    """
    first, second = np.asarray(spread, np.float64), np.asarray(error, np.float64)
    scale = _rmse(first)
    ratio = _rounded({"": _rmse(second) / scale})[""] if scale > 0.0 else None
    if len(first) < _FEWEST_RANKED:
        return {"spearman": None, "error_over_spread": ratio}
    varied = np.ptp(first) > 0.0 and np.ptp(second) > 0.0
    rank = float(np.corrcoef(_ranks(first), _ranks(second))[0, 1]) if varied else 0.0
    return {"spearman": _rounded({"": rank})[""], "error_over_spread": ratio}


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - 0.5 * (counts + 1.0))[inverse])


def residuals_per_atom(predicted: ArrayLike, true: ArrayLike, n_atoms: ArrayLike) -> FloatArray:
    """(n_structures,) residuals, meV/atom; arguments and errors as for `energy_metrics`."""
    residuals, sizes = _residuals(predicted, true), np.asarray(n_atoms)
    if sizes.shape != residuals.shape:
        raise ValueError(f"n_atoms: expected shape {residuals.shape}, got {sizes.shape}")
    return np.asarray(residuals / sizes * _MEV)


def standardized(residuals: ArrayLike) -> FloatArray:
    """Residuals minus their mean, in units of their standard deviation; 0 if all are equal."""
    values = np.asarray(residuals, dtype=np.float64)
    deviation = np.std(values)
    return np.asarray((values - np.mean(values)) / deviation) if deviation > 0 else np.zeros_like(values)


def outlier_fraction(standardized_residuals: ArrayLike) -> float:
    """Fraction of standardized residuals beyond ±`OUTLIER`."""
    return float(np.mean(np.abs(standardized_residuals) > OUTLIER))


def errors_by_size(per_atom: FloatArray, n_atoms: ArrayLike) -> list[Entry]:
    """An entry for each number of atoms, ascending.

    Args:
        per_atom: (n_structures,) residuals, meV/atom.
        n_atoms: (n_structures,)
    """
    sizes, group = np.unique(np.asarray(n_atoms), return_inverse=True)
    parts = _parts(per_atom, group)
    return [{"n_atoms": int(size), **_errors(part)} for size, part in zip(sizes, parts, strict=True)]


def errors_by_composition(per_atom: FloatArray, compositions: Sequence[str]) -> list[Entry]:
    """An entry for each composition, most frequent first.

    Args:
        per_atom: (n_structures,) residuals, meV/atom.
        compositions: (n_structures,) reduced formulas.
    """
    names, group = np.unique(np.asarray(compositions, dtype=object), return_inverse=True)
    parts = _parts(per_atom, group)
    entries = [{"composition": name, **_errors(part)} for name, part in zip(names, parts, strict=True)]
    return sorted(entries, key=lambda entry: -int(entry["n_structures"]))


def errors_by_energy(per_atom: FloatArray, cohesive: FloatArray) -> list[Entry]:
    """An entry for each nonempty energy bin, ascending; bins include their lower edge.

    Args:
        per_atom: (n_structures,) residuals, meV/atom.
        cohesive: (n_structures,) true cohesive energies, eV/atom.
    """
    edges = energy_edges(cohesive)
    group = np.clip(np.searchsorted(edges, cohesive, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [
        {
            "from_eV_per_atom": edges[k],
            "to_eV_per_atom": edges[min(k + 1, len(edges) - 1)],
            **_errors(per_atom[group == k]),
        }
        for k in np.unique(group).tolist()
    ]


def errors_by_distance(per_atom: FloatArray, distances: FloatArray) -> list[Entry]:
    """An entry for each quarter of the structures, nearest to the training set first.

    Args:
        per_atom: (n_structures,) residuals, meV/atom.
        distances: (n_structures,) from the training set.
    """
    order = np.argsort(distances, kind="stable")
    return [
        {
            "from_distance": float(f"{distances[part[0]]:.4g}"),
            "to_distance": float(f"{distances[part[-1]]:.4g}"),
            **_errors(per_atom[part]),
        }
        for part in np.array_split(order, _QUARTERS)
        if len(part)
    ]


def energy_edges(energies: FloatArray) -> list[float]:
    """Edges of energy bins: round numbers near fixed quantiles, ascending, that enclose all values.

    The energies of a data set have no common scale: most of those of TiO2 lie within 1 eV/atom, but they reach 30. An
    edge is a quantile rounded to a multiple of 1, 2 or 5 times a power of ten that is at most half the distance to the
    next quantile, so that edges keep their order. Coinciding quantiles give one edge.

    Args:
        energies: (n_values,) eV/atom, at least one.
    """
    used = _QUANTILES[np.minimum(_QUANTILES, 1 - _QUANTILES) * len(energies) >= _FEWEST]
    marks = np.unique(np.quantile(energies, [0.0, *used, 1.0]).round(_DECIMALS))
    if len(marks) == 1:
        return [float(marks[0])]
    gaps = np.diff(marks)
    steps = [_round_step(gap / 2) for gap in np.minimum([gaps[0], *gaps], [*gaps, gaps[-1]])]
    multiples = np.round(marks / steps)
    multiples[0], multiples[-1] = math.floor(marks[0] / steps[0]), math.ceil(marks[-1] / steps[-1])
    # a step may be half the last decimal, hence one more digit; adding 0.0 turns -0.0 into 0.0
    return [round(edge, _DECIMALS + 1) + 0.0 for edge in (multiples * steps).tolist()]


def _round_step(largest: float) -> float:
    """The largest number 1, 2 or 5 times a power of ten that does not exceed `largest`."""
    power = 10.0 ** math.floor(math.log10(largest))
    return max((factor * power for factor in _ROUND if factor * power <= largest), default=power)


def _residuals(predicted: ArrayLike, true: ArrayLike) -> FloatArray:
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(
            f"energies: expected two arrays of equal shape (n_structures,), got {a.shape} and {b.shape}"
        )
    return np.asarray(a - b)


def _rmse(residuals: FloatArray) -> float:
    return math.sqrt(float(np.mean(np.square(residuals))))


def _parts(values: FloatArray, group: NDArray[np.integer]) -> list[FloatArray]:
    """The values of each group, from group 0, in their order; one sort, as there may be as many groups as values."""
    order = np.argsort(group, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(group))[:-1])


def _errors(per_atom: FloatArray) -> dict[str, float]:
    errors = {"rmse_meV_per_atom": _rmse(per_atom), "mae_meV_per_atom": np.mean(np.abs(per_atom))}
    return {"n_structures": len(per_atom), **_rounded(errors)}


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    return {key: float(f"{value:.{_DIGITS}g}") for key, value in values.items()}
