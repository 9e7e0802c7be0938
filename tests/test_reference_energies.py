from __future__ import annotations

import numpy as np
import pytest

from tio2nn.reference_energies import ReferenceEnergies

ELEMENTS = ("O", "Ti")


def test_exact_energies_are_found_again_to_micro_electronvolts() -> None:
    values = np.array([-433.23448532, -1626.66972707])
    compositions = np.array([[2, 1], [4, 2], [15, 8], [62, 32]])
    fit = ReferenceEnergies.fit(ELEMENTS, compositions, compositions @ values)
    np.testing.assert_allclose(fit.values, values, rtol=1e-12)
    assert not fit.underdetermined
    assert fit.source == "least squares"
    np.testing.assert_allclose(fit.baseline(compositions), compositions @ values, rtol=1e-14)
    assert fit.as_dict() == dict(zip(ELEMENTS, fit.values.tolist(), strict=True))


def test_noise_is_averaged_as_least_squares_do() -> None:
    compositions = np.array([[1, 0], [1, 0], [0, 1], [1, 1]])
    energies = np.array([1.0, 3.0, 5.0, 7.0])
    fit = ReferenceEnergies.fit(ELEMENTS, compositions, energies)
    residuals = energies - fit.baseline(compositions)
    np.testing.assert_allclose(compositions.T @ residuals, 0.0, atol=1e-12)


def test_one_composition_leaves_the_smallest_energies_and_says_so() -> None:
    compositions = np.array([[2, 1], [4, 2]])
    fit = ReferenceEnergies.fit(ELEMENTS, compositions, np.array([-10.0, -20.0]))
    assert fit.underdetermined
    np.testing.assert_allclose(fit.values, [-4.0, -2.0], rtol=1e-12)


def test_an_element_that_does_not_occur_is_undetermined() -> None:
    fit = ReferenceEnergies.fit(("O", "Ti", "N"), np.array([[2, 1, 0], [3, 1, 0]]), np.array([-10.0, -13.0]))
    assert fit.underdetermined
    np.testing.assert_allclose(fit.values, [-3.0, -4.0, 0.0], atol=1e-12)


def test_stated_energies_are_taken_as_they_are() -> None:
    reference = ReferenceEnergies.given({"Ti": -1600.5, "O": -430.25})
    assert reference.elements == ("Ti", "O")
    np.testing.assert_array_equal(reference.baseline(np.array([[1, 2]])), [-1600.5 - 860.5])
    assert (reference.source, reference.underdetermined) == ("given", False)


def test_there_is_one_value_for_each_element() -> None:
    with pytest.raises(ValueError, match=r"values: expected shape \(2,\), got \(3,\)"):
        ReferenceEnergies(ELEMENTS, np.zeros(3))
