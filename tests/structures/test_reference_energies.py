from __future__ import annotations

import numpy as np
import pytest

from tio2nn.structures.reference_energies import ReferenceEnergies

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


# --- robust -------------------------------------------------------------------------------------------------


def alloys(n: int = 60, seed: int = 1, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compositions, total energies, and the reference energies behind them, eV."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(8, [0.5, 0.3, 0.2], n)
    values = np.array([-433.0, -1626.0, -12.0])
    return counts, counts @ values + 8 * rng.normal(0.0, noise, n), values


THREE = ("O", "Ti", "Cu")


def least_squares(counts: np.ndarray, energies: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.lstsq(counts.astype(float), energies, rcond=None)[0])


@pytest.mark.parametrize("wild", [500.0, -30.0, 1e5])
def test_structures_far_from_all_others_have_no_say(wild: float) -> None:
    counts, energies, _ = alloys()
    energies[[3, 17]] += 8 * wild
    fit = ReferenceEnergies.fit(THREE, counts, energies)
    others = np.delete(np.arange(60), [3, 17])
    np.testing.assert_array_equal(fit.values, least_squares(counts[others], energies[others]))
    assert fit.source == "least squares to all but 2 structures"


def test_a_set_without_such_structures_is_fitted_by_least_squares_to_the_last_bit() -> None:
    counts, energies, _ = alloys()
    fit = ReferenceEnergies.fit(THREE, counts, energies)
    np.testing.assert_array_equal(fit.values, least_squares(counts, energies))
    # a wide tail on one side belongs to its set, and so do both of two phases
    energies += 8 * np.concatenate([np.zeros(40), np.geomspace(0.1, 30.0, 20)])
    assert ReferenceEnergies.fit(THREE, counts, energies).source == "least squares"
    energies += 8 * np.repeat([0.0, 3.0], 30)
    assert ReferenceEnergies.fit(THREE, counts, energies).source == "least squares"


def test_the_only_structure_of_an_element_still_decides_its_energy() -> None:
    counts, energies, values = alloys()
    with_gold = np.vstack([np.hstack([counts, np.zeros((60, 1), int)]), [[4, 2, 1, 1]]])
    total = np.append(energies, [4, 2, 1] @ values - 99.0)
    total[3] += 8 * 500.0
    fit = ReferenceEnergies.fit((*THREE, "Au"), with_gold, total)
    assert not fit.underdetermined
    np.testing.assert_allclose(fit.values, [*values, -99.0], atol=0.5)


def test_what_remains_undetermined_stays_so_beside_an_outlier() -> None:
    counts = np.array([[2, 1]] * 11 + [[4, 2]])
    energies = np.array([-30.0] * 11 + [-60.0 + 6 * 500.0])
    fit = ReferenceEnergies.fit(ELEMENTS, counts, energies)
    assert fit.underdetermined
    np.testing.assert_allclose(fit.values, [-12.0, -6.0], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_few_or_equal_energies_are_fitted_as_ever(n: int) -> None:
    counts = np.ones((n, 1), int)
    fit = ReferenceEnergies.fit(("Cu",), counts, np.arange(float(n)) * 100.0)
    np.testing.assert_allclose(fit.values, [50.0 * (n - 1)], rtol=1e-12)
    equal = ReferenceEnergies.fit(("Cu",), np.full((20, 1), n), np.full(20, -3.7 * n))
    np.testing.assert_allclose(equal.values, [-3.7], rtol=1e-12)


@pytest.mark.parametrize("n", [5, 6, 7])
def test_one_wild_energy_of_few_has_no_say(n: int) -> None:
    counts, energies = np.full((n, 1), 4), 4.0 * (-3.7 + 0.05 * np.arange(n))
    energies[2] += 4 * 500.0
    fit = ReferenceEnergies.fit(("Cu",), counts, energies)
    assert fit.values[0] == pytest.approx(-3.6, abs=0.1)
    assert fit.source == "least squares to all but 1 structure"
