from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import Chebyshev, Polynomial, polynomial
from numpy.typing import NDArray

from tio2nn.descriptors.attenuation import (
    Attenuation,
    Gaussian,
    TripletGaussian,
    _in_powers,
    cosine_cutoff,
    cutoff_polynomial,
    short_cutoff_polynomial,
)

FloatArray = NDArray[np.float64]


def _attenuation(fit: Attenuation, t: FloatArray) -> FloatArray:
    """What the kernels make of a fit, in plain NumPy."""
    values = polynomial.polyval(t, fit.polynomial)
    if fit.squarings:
        values = values ** (2**fit.squarings) * polynomial.polyval(t, cutoff_polynomial())
    return np.asarray(t**2 * values)


def _gaussian(fit: Gaussian, u: FloatArray) -> FloatArray:
    return np.asarray(
        polynomial.polyval((u - fit.shift) ** 2 * fit.scale, fit.polynomial) ** (2**fit.squarings)
    )


def test_the_cutoff_function_falls_from_one_to_zero_as_half_a_cosine() -> None:
    np.testing.assert_allclose(
        cosine_cutoff([0.0, 1.0, 2.0, 3.0, 4.0, 7.0], 4.0),
        [1.0, 0.5 + 0.25 * math.sqrt(2.0), 0.5, 0.5 - 0.25 * math.sqrt(2.0), 0.0, 0.0],
        atol=1e-15,
    )


def test_the_cutoff_function_keeps_the_shape_of_its_argument() -> None:
    assert cosine_cutoff(np.ones((2, 3)), 4.0).shape == (2, 3)
    assert float(cosine_cutoff(2.0, 4.0)) == pytest.approx(0.5)


@given(st.lists(st.floats(-1e3, 1e3).filter(lambda value: abs(value) > 1e-100), min_size=2, max_size=20))
def test_series_are_converted_to_the_bits_of_numpy(series: list[float]) -> None:
    expected = Chebyshev(series, domain=[0, 1]).convert(kind=Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    found = _in_powers(np.array(series))
    # NumPy leaves out zeros at the end
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert not found[len(expected) :].any()


@given(st.floats(0.0, 20.0), st.floats(0.5, 12.0))
def test_attenuations_are_accurate_for_any_width_and_cutoff(eta: float, cutoff: float) -> None:
    r = np.linspace(0.0, cutoff, 400)
    t = 1.0 - (r / cutoff) ** 2
    exact = np.exp(-eta * r**2) * cosine_cutoff(r, cutoff)
    # each squaring doubles the error, and there is one for each doubling of the exponent
    tolerance = 1e-13 + 2e-15 * eta * cutoff**2
    np.testing.assert_allclose(_attenuation(Attenuation.fit(eta, cutoff), t), exact, rtol=0, atol=tolerance)


@given(st.floats(0.0, 60.0))
def test_an_attenuation_vanishes_at_the_cutoff_as_the_square_of_the_distance_to_it(exponent: float) -> None:
    t = np.array([0.0, 1e-8, 1e-6, 1e-4])
    # f_c / t² → π²/16 as t → 0
    expected = t**2 * (math.pi / 4.0) ** 2 * math.exp(-exponent)
    values = _attenuation(Attenuation.fit(exponent, 1.0), t)
    assert values[0] == 0.0
    np.testing.assert_allclose(values, expected, rtol=0.02, atol=1e-12 * t[3] ** 2)


@given(st.floats(0.0, 20.0), st.one_of(st.just(0.0), st.floats(0.0, 20.0)), st.floats(0.5, 12.0))
def test_shifted_gaussians_are_accurate_for_any_width_center_and_cutoff(
    eta: float, r_s: float, cutoff: float
) -> None:
    r = np.linspace(0.0, cutoff, 400)
    exact = np.exp(-eta * (r - r_s) ** 2)
    tolerance = 5e-15 + 1e-15 * eta * max(r_s, abs(cutoff - r_s)) ** 2
    values = _gaussian(Gaussian.fit(eta, r_s, cutoff), r / cutoff)
    np.testing.assert_allclose(values, exact, rtol=0, atol=tolerance)


@given(st.floats(0.0, 20.0), st.floats(0.0, 8.0))
def test_polynomials_of_gaussians_stay_inside_their_interval(eta: float, r_s: float) -> None:
    fit = Gaussian.fit(eta, r_s, 5.0)
    y = (np.linspace(0.0, 1.0, 50) - fit.shift) ** 2 * fit.scale
    assert y.min() >= 0.0
    assert y.max() == pytest.approx(1.0)


def test_wide_gaussians_need_no_squaring() -> None:
    assert Attenuation.fit(0.089277, 6.5).squarings == 0
    assert Attenuation.fit(20.0, 6.5).squarings > 5
    assert Gaussian.fit(0.0, 3.0, 6.5).squarings == 0


def test_the_short_cutoff_polynomial_is_accurate_where_its_factor_counts() -> None:
    t = np.linspace(0.0, 1.0, 2001)
    found = t**2 * polynomial.polyval(t, short_cutoff_polynomial())
    np.testing.assert_allclose(found, cosine_cutoff(np.sqrt(1.0 - t), 1.0), rtol=0, atol=5e-15)


@given(st.floats(0.0, 400.0))
def test_the_attenuation_of_a_triplet_is_as_accurate_as_it_is_small(exponent: float) -> None:
    tolerance, tau = 1e-13, np.linspace(0.0, 3.0, 2001)
    fit = TripletGaussian.fit(exponent, tolerance, is_relative=True)
    found = polynomial.polyval(tau, fit.polynomial) ** (2**fit.squarings)
    expected = np.exp(-exponent * (3.0 - tau))
    rtol = 2.0 * tolerance + 4e-15 * max(1.0, exponent)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-16 * rtol)


@given(st.floats(0.0, 400.0), st.sampled_from((5e-15, 1e-13)))
def test_the_attenuation_of_a_triplet_is_accurate_for_any_width(exponent: float, tolerance: float) -> None:
    t = np.random.default_rng(4).uniform(0.0, 1.0, (3, 3000))
    t[:, :1000] **= 0.01  # all three close
    factors = cosine_cutoff(np.sqrt(1.0 - t), 1.0).prod(axis=0)
    fit, tau = TripletGaussian.fit(exponent, tolerance), t.sum(axis=0)
    found = polynomial.polyval(tau, fit.polynomial) ** (2**fit.squarings)
    # each squaring doubles the error, and there is one for each doubling of the exponent
    np.testing.assert_allclose(
        factors * found,
        factors * np.exp(-exponent * (3.0 - tau)),
        rtol=0,
        atol=2.0 * tolerance + 4e-15 * max(1.0, exponent),
    )
