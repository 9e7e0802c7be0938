"""Polynomials of attenuations, and powers of cosines: values as NumPy has them, slopes as finite differences have."""

from __future__ import annotations

import numpy as np
import pytest

from tio2nn.descriptors.kernels.polynomials import (
    N_TERMS,
    attenuation_and_slope,
    multiply_polynomial,
    polynomial_times_t2_and_slope,
    square,
)
from tio2nn.descriptors.kernels.powers import fill_powers, weighted_powers

T = np.linspace(0.0, 1.0, 23)
N = 20  # of these; what stands behind stays
COEFFICIENTS = np.random.default_rng(4).normal(size=N_TERMS)
CUTOFF_COEFFICIENTS = np.random.default_rng(5).normal(size=N_TERMS)


def polynomial(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.polynomial.polynomial.polyval(t, coefficients)


def derivative(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.polynomial.polynomial.polyval(t, np.polynomial.polynomial.polyder(coefficients))


def test_a_polynomial_multiplies_what_is_there() -> None:
    out = np.full(len(T), 2.0)
    multiply_polynomial(COEFFICIENTS, T, out, N)
    np.testing.assert_allclose(out[:N], 2.0 * polynomial(COEFFICIENTS, T[:N]), rtol=1e-12)
    assert (out[N:] == 2.0).all()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_squares_of_squares(times: int) -> None:
    values = T.copy()
    square(values, times, N)
    np.testing.assert_allclose(values[:N], T[:N] ** (2**times), rtol=1e-14)
    np.testing.assert_array_equal(values[N:], T[N:])


def test_the_cutoff_function_and_its_slope_vanish_at_the_cutoff() -> None:
    value, slope = np.full(len(T), np.nan), np.full(len(T), np.nan)
    polynomial_times_t2_and_slope(CUTOFF_COEFFICIENTS, T, value, slope, N)
    t, whole = T[:N], np.concatenate([[0.0, 0.0], CUTOFF_COEFFICIENTS])
    np.testing.assert_allclose(value[:N], polynomial(whole, t), rtol=1e-12)
    np.testing.assert_allclose(slope[:N], derivative(whole, t), rtol=1e-11)
    assert value[0] == slope[0] == 0.0
    assert np.isnan(value[N:]).all()


@pytest.mark.parametrize("squarings", [1, 2])
def test_an_attenuation_of_a_squared_gaussian_has_the_slope_of_its_value(squarings: int) -> None:
    """The Gaussian is exp(-decay (1 - t)), of which a 2^squarings-th root is a polynomial."""
    decay = 5.0
    rate = decay / 2**squarings
    powers = np.arange(N_TERMS)
    root = np.exp(-rate) * rate**powers / np.array([float(np.prod(np.arange(1, k + 1))) for k in powers])
    step = 1e-6
    values = []
    for t in (T, T - step, T + step):
        value, slope = np.empty(len(T)), np.empty(len(T))
        attenuation_and_slope(root, squarings, decay, CUTOFF_COEFFICIENTS, t, value, slope, len(T))
        values.append((value, slope))
    whole = polynomial(np.concatenate([[0.0, 0.0], CUTOFF_COEFFICIENTS]), T)
    np.testing.assert_allclose(values[0][0], np.exp(-decay * (1.0 - T)) * whole, rtol=1e-7, atol=1e-12)
    differences = (values[2][0] - values[1][0]) / (2.0 * step)
    np.testing.assert_allclose(values[0][1], differences, rtol=1e-5, atol=1e-7)


def test_powers_follow_their_recipe() -> None:
    cosine = np.linspace(-1.0, 1.0, 15)
    # 1 + cosθ, 1 - cosθ, ones, the square of the first, a power of the second
    recipe = np.array([[-1, 1], [-1, -1], [-1, 0], [0, 0], [1, -1]])
    exponents = np.array([1.0, 1.0, 0.0, 2.0, 2.5])
    powers = np.full((5, 15), np.nan)
    fill_powers(15, cosine, recipe, exponents, powers)
    plus, minus = 0.5 * (1.0 + cosine), 0.5 * (1.0 - cosine)
    np.testing.assert_allclose(powers, [plus, minus, np.ones(15), plus**2, minus**2.5], atol=1e-15)


def test_weighted_powers_are_two_sums_over_rows() -> None:
    rng = np.random.default_rng(6)
    powers = rng.normal(size=(4, 9))
    weights = np.array([[1.0, 0.0, 2.0, 0.0], [0.5, -1.0, 0.0, 0.0]])
    power, slope = np.full(9, np.nan), np.full(9, np.nan)
    weighted_powers(7, powers, weights, power, slope)
    np.testing.assert_allclose(np.stack([power, slope])[:, :7], (weights @ powers)[:, :7], rtol=1e-14)
    assert np.isnan(power[7:]).all()
