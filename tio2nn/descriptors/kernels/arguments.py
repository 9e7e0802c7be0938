"""What travels through the kernels: named tuples of arrays, which compiled code reads like separate arguments.

Numba compiles a kernel for each type of its arguments, so every builder makes C-contiguous, writable arrays of the
types that stand here, and plain floats and ints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray, IntArray

IndexArray = NDArray[np.uint32]


class Around(NamedTuple):
    """The neighbors of consecutive centers, as one sort of functions sees them."""

    first: IntArray  # (n_centers * n_kinds + 1,) where the neighbors of each (center, kind) begin in the arrays below
    vectors: FloatArray  # (n_pairs, 3) from center to neighbor, Å
    weights: FloatArray  # (n_pairs,) factor of each neighbor in every sum
    n_kinds: int  # kinds of neighbors that have sums of their own


class AtomIndices(NamedTuple):
    """Where neighbors and centers are in their structures."""

    neighbors: IntArray  # (n_pairs,) index in its structure of the atom that each neighbor is an image of
    centers: IntArray  # (n_centers,) index of each center in its structure
    n_atoms: IntArray  # (n_centers,) size of the structure of each center


class RadialTables(NamedTuple):
    """The radial functions: exp(-η (R - R_s)²) is a polynomial in y = (R/R_c - shift)² · scale, squared."""

    cutoff: float  # R_c, Å
    cutoff_polynomial: FloatArray  # (N_TERMS,) f_c / t² in powers of t = 1 - R²/R_c²
    polynomials: FloatArray  # (n_functions, N_TERMS) in powers of y
    squarings: IntArray  # (n_functions,) how often the polynomial is squared
    shifts: FloatArray  # (n_functions,) R_s / R_c
    scales: FloatArray  # (n_functions,) 1 / the largest ((R - R_s) / R_c)²
    decays: FloatArray  # (n_functions,) η R_c²


class TripletTables(NamedTuple):
    """The angular functions as sums over triplets: each is one Gaussian, one for each distinct η, times one power."""

    cutoff: float  # R_c, Å
    cutoff_polynomial: FloatArray  # (terms,) f_c / t² in powers of t = 1 - R²/R_c²
    polynomials: FloatArray  # (n_eta, MOST_TERMS) in powers of τ (`attenuation.TripletGaussian`)
    terms: IntArray  # (n_eta,) of each polynomial
    squarings: IntArray  # (n_eta,) how often the polynomial is squared
    decays: FloatArray  # (n_eta,) η R_c²
    recipe: IntArray  # (n_power, 2) how the powers are made (`tables.power_recipe`); n_power is even
    exponents: FloatArray  # (n_power,) ζ of each power
    eta_rows: IntArray  # (n_functions,) the Gaussian of each function
    power_rows: IntArray  # (n_functions,) the power of each function


class CosinePolynomials(NamedTuple):
    """The powers ((1 + λ cosθ)/2)^ζ in powers of cosθ, for whole ζ up to `triplets.MOST_POWERS`."""

    degree: int  # 0 where a ζ is not whole, or larger: then powers are summed as they are
    coefficients: FloatArray  # (n_functions, degree + 1)


class AngularTables(NamedTuple):
    """The attenuations of angular functions, one for each distinct η, as Jacobians take them."""

    cutoff: float  # R_c, Å
    cutoff_polynomial: FloatArray  # (N_TERMS,) f_c / t² in powers of t = 1 - R²/R_c²
    polynomials: FloatArray  # (n_eta, N_TERMS) of each attenuation (`attenuation.Attenuation`)
    squarings: IntArray  # (n_eta,) how often the polynomial is squared
    decays: FloatArray  # (n_eta,) η R_c²
    eta_rows: IntArray  # (n_functions,) the attenuation of each function


class Slopes(NamedTuple):
    """What the derivatives of angular functions need beyond the values, with more powers; u = (1 + λ cosθ)/2."""

    recipe: IntArray  # (n_power, 2) how all powers that derivatives need are made; n_power is even
    exponents: FloatArray  # (n_power,) of each power
    power_rows: IntArray  # (n_functions,) the row of u^ζ of each function
    slope_rows: IntArray  # (n_functions,) the row of u^(ζ-1)
    lambdas: FloatArray  # (n_functions,) λ
    zetas: FloatArray  # (n_functions,) ζ
    powers: IntArray  # rows that serve as u^ζ
    slopes: IntArray  # rows that serve as u^(ζ-1)
    pairs: IntArray  # (n_kinds, n_kinds) position of a pair of kinds among the columns of a function
