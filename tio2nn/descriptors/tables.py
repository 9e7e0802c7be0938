"""What the compiled loops need to know of a parameter set, as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.attenuation import (
    Attenuation,
    Gaussian,
    TripletGaussian,
    cutoff_polynomial,
    short_cutoff_polynomial,
)
from tio2nn.descriptors.kernels.arguments import (
    AngularTables,
    CosinePolynomials,
    RadialTables,
    Slopes,
    TripletTables,
)
from tio2nn.descriptors.kernels.polynomials import N_TERMS
from tio2nn.descriptors.kernels.triplets import MOST_POWERS, MOST_TERMS
from tio2nn.parameters.parameter_set import AngularFunction, RadialFunction


def radial_tables(functions: Sequence[RadialFunction], cutoff: float) -> RadialTables:
    """Of radial functions; the cutoff in Å."""
    fits = [Gaussian.fit(f.eta, f.r_s, cutoff) for f in functions]
    return RadialTables(
        cutoff=float(cutoff),
        cutoff_polynomial=cutoff_polynomial(),
        polynomials=np.array([fit.polynomial for fit in fits]).reshape(-1, N_TERMS),
        squarings=np.array([fit.squarings for fit in fits], dtype=np.int64),
        shifts=np.array([fit.shift for fit in fits]),
        scales=np.array([fit.scale for fit in fits]),
        decays=np.array([f.eta * cutoff**2 for f in functions]),
    )


class Precision(NamedTuple):
    """How accurate the attenuation of a triplet is, see `TripletGaussian.fit`."""

    tolerance: float
    is_relative: bool


def triplet_tables(
    functions: Sequence[AngularFunction], cutoff: float, precision: Precision
) -> TripletTables:
    """Of angular functions; the cutoff in Å."""
    etas = sorted({f.eta for f in functions})
    fits = [
        TripletGaussian.fit(eta * cutoff**2, precision.tolerance, is_relative=precision.is_relative)
        for eta in etas
    ]
    polynomials = np.zeros((len(etas), MOST_TERMS))
    for row, fit in zip(polynomials, fits, strict=True):
        row[: len(fit.polynomial)] = fit.polynomial
    recipe, exponents, rows = power_recipe([(f.lambda_, f.zeta) for f in functions])
    return TripletTables(
        cutoff=float(cutoff),
        cutoff_polynomial=short_cutoff_polynomial(),
        polynomials=polynomials,
        terms=np.array([len(fit.polynomial) for fit in fits], dtype=np.int64),
        squarings=np.array([fit.squarings for fit in fits], dtype=np.int64),
        decays=np.array([eta * cutoff**2 for eta in etas]),
        recipe=recipe,
        exponents=exponents,
        eta_rows=np.array([etas.index(f.eta) for f in functions], dtype=np.int64),
        power_rows=rows,
    )


def cosine_polynomials(functions: Sequence[AngularFunction]) -> CosinePolynomials:
    """The powers of angular functions in powers of the cosine."""
    zetas = [f.zeta for f in functions]
    if any(zeta != int(zeta) or zeta > MOST_POWERS for zeta in zetas) or not functions:
        return CosinePolynomials(0, np.zeros((len(functions), 1)))
    degree = int(max(zetas))
    coefficients = np.zeros((len(functions), degree + 1))
    for row, f in zip(coefficients, functions, strict=True):
        for k in range(int(f.zeta) + 1):
            row[k] = math.comb(int(f.zeta), k) * float(f.lambda_) ** k / 2.0**f.zeta
    return CosinePolynomials(degree, coefficients)


def angular_tables(functions: Sequence[AngularFunction], cutoff: float) -> AngularTables:
    """Of angular functions; the cutoff in Å."""
    etas = sorted({f.eta for f in functions})
    fits = [Attenuation.fit(eta, cutoff) for eta in etas]
    return AngularTables(
        cutoff=float(cutoff),
        cutoff_polynomial=cutoff_polynomial(),
        polynomials=np.array([fit.polynomial for fit in fits]).reshape(-1, N_TERMS),
        squarings=np.array([fit.squarings for fit in fits], dtype=np.int64),
        decays=np.array([eta * cutoff**2 for eta in etas]),
        eta_rows=np.array([etas.index(f.eta) for f in functions], dtype=np.int64),
    )


def power_recipe(powers: Sequence[tuple[int, float]]) -> tuple[IntArray, FloatArray, IntArray]:
    """How to make all ((1 + λ cosθ)/2)^ζ with few products.

    Args:
        powers: (λ, ζ) of each function; λ = 0 stands for the power 0.

    Returns:
        recipe: (n_power, 2), n_power even. Row (-1, λ) is (1 + λ cosθ)/2, but 1 for λ = 0; (a, b) is row a times
            row b; (a, -1) is row a raised to `exponents` of the row.
        exponents: (n_power,) ζ of each row.
        rows: (len(powers),) the row that holds each function's power.
    """
    row_of: dict[tuple[int, float], int] = {}
    recipe: list[tuple[int, int]] = []

    def row(lambda_: int, zeta: float) -> int:
        key = (lambda_, zeta)
        if key not in row_of:
            if zeta == 1 or lambda_ == 0:
                step = (-1, lambda_)
            elif zeta != int(zeta):
                step = (row(lambda_, 1.0), -1)
            else:
                half = float(zeta // 2)
                step = (row(lambda_, zeta - half), row(lambda_, half))
            row_of[key] = len(recipe)
            recipe.append(step)
        return row_of[key]

    rows = [row(lambda_, float(zeta)) for lambda_, zeta in powers]
    exponents = [zeta for _, zeta in row_of]
    if len(recipe) % 2:
        # the kernel sums two rows at a time
        recipe.append(recipe[0])
        exponents.append(exponents[0])
    return (
        np.array(recipe, dtype=np.int64).reshape(-1, 2),
        np.array(exponents),
        np.array(rows, dtype=np.int64),
    )


def slope_tables(functions: Sequence[AngularFunction], n_kinds: int) -> Slopes:
    """What derivatives of angular functions need beyond the tables of the values.

    Args:
        functions: in the order of `angular_tables`.
        n_kinds: kinds of neighbors that have sums of their own.
    """
    powers = [(f.lambda_, f.zeta) for f in functions]
    slopes = [(f.lambda_ if f.zeta != 1 else 0, f.zeta - 1) for f in functions]
    recipe, exponents, rows = power_recipe(powers + slopes)
    power_rows, slope_rows = rows[: len(functions)], rows[len(functions) :]
    pairs = np.zeros((n_kinds, n_kinds), dtype=np.int64)
    for position, (a, b) in enumerate(combinations_with_replacement(range(n_kinds), 2)):
        pairs[a, b] = pairs[b, a] = position
    return Slopes(
        recipe=recipe,
        exponents=exponents,
        power_rows=power_rows,
        slope_rows=slope_rows,
        lambdas=np.array([float(f.lambda_) for f in functions]),
        zetas=np.array([float(f.zeta) for f in functions]),
        powers=np.unique(power_rows),
        slopes=np.unique(slope_rows),
        pairs=pairs,
    )
