from __future__ import annotations

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.evaluation.metrics import (
    correlation,
    energy_edges,
    energy_metrics,
    errors_by_composition,
    errors_by_distance,
    errors_by_energy,
    errors_by_size,
    force_errors_by_distance,
    force_errors_by_element,
    force_metrics,
    outlier_fraction,
    residuals_per_atom,
    standardized,
)

# eV/atom, as any reference energies may give them
ENERGIES = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=60).map(np.array)


def test_errors_of_four_structures_are_those_worked_out_by_hand() -> None:
    true = np.array([-10.0, -20.0, -40.0, -40.0])
    predicted = true + np.array([0.01, -0.04, 0.12, 0.0])
    metrics = energy_metrics(predicted, true, [2, 4, 4, 4])
    # residuals per atom: 5, -10, 30, 0 meV
    assert metrics["rmse_meV_per_atom"] == pytest.approx(math.sqrt((25 + 100 + 900 + 0) / 4))
    assert metrics["mae_meV_per_atom"] == pytest.approx(45 / 4)
    assert metrics["p95_meV_per_atom"] == pytest.approx(10 + 0.85 * 20)
    assert metrics["max_meV_per_atom"] == pytest.approx(30)
    assert metrics["rmse_eV"] == pytest.approx(math.sqrt((1 + 16 + 144 + 0) / 4) / 100)
    assert metrics["mae_eV"] == pytest.approx(0.17 / 4)
    assert metrics["mean_residual_eV"] == pytest.approx(0.09 / 4)
    variance = (0.0001 + 0.0016 + 0.0144) / 4 - (0.09 / 4) ** 2
    assert metrics["standard_error_eV"] == pytest.approx(math.sqrt(variance))
    # (0.12 - 0.0225) / 0.059 = 1.66
    assert metrics["outlier_fraction"] == 0.25


def test_one_structure_has_no_standard_error_and_is_no_outlier() -> None:
    metrics = energy_metrics([-1.5], [-1.0], [5])
    assert metrics["rmse_meV_per_atom"] == metrics["max_meV_per_atom"] == metrics["p95_meV_per_atom"] == 100.0
    assert metrics["mean_residual_eV"] == -0.5
    assert metrics["standard_error_eV"] == 0.0
    assert metrics["outlier_fraction"] == 0.0


def test_small_errors_of_large_totals_keep_their_digits() -> None:
    true = np.full(3, -19960.6617326)
    metrics = energy_metrics(true + np.array([1e-6, -1e-6, 1e-6]), true, [24, 24, 24])
    assert metrics["rmse_eV"] == pytest.approx(1e-6, rel=1e-4)


@pytest.mark.parametrize(
    ("predicted", "true", "n_atoms"),
    [([1.0, 2.0], [1.0], [1, 1]), ([], [], []), ([1.0, 2.0], [1.0, 2.0], [1]), ([[1.0]], [[1.0]], [[1]])],
)
def test_arrays_that_do_not_belong_together_are_refused(
    predicted: list[float], true: list[float], n_atoms: list[int]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        energy_metrics(predicted, true, n_atoms)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50).map(np.array))
def test_standardized_residuals_do_not_depend_on_unit_or_offset(residuals: np.ndarray) -> None:
    if residuals.std() < 1e-3:
        return
    z = standardized(residuals)
    assert z.mean() == pytest.approx(0.0, abs=1e-9)
    assert z.std() == pytest.approx(1.0)
    np.testing.assert_allclose(standardized(7.0 * residuals + 3.0), z, atol=1e-6)


def test_standardized_residuals_that_are_all_alike_are_zero() -> None:
    np.testing.assert_array_equal(standardized([0.3, 0.3]), [0.0, 0.0])


def test_a_normal_distribution_has_13_percent_beyond_one_and_a_half_sigma() -> None:
    residuals = np.random.default_rng(0).normal(0.2, 5.0, size=100_000)
    assert outlier_fraction(standardized(residuals)) == pytest.approx(
        math.erfc(1.5 / math.sqrt(2)), abs=0.005
    )


def test_errors_by_size_tell_small_from_large_structures() -> None:
    per_atom = residuals_per_atom([0.1, 0.4, -0.2], [0.0, 0.0, 0.0], [10, 2, 10])
    assert errors_by_size(per_atom, [10, 2, 10]) == [
        {"n_atoms": 2, "n_structures": 1, "rmse_meV_per_atom": 200.0, "mae_meV_per_atom": 200.0},
        {"n_atoms": 10, "n_structures": 2, "rmse_meV_per_atom": 15.811388, "mae_meV_per_atom": 15.0},
    ]


def test_errors_by_composition_name_the_most_frequent_first_and_then_go_by_name() -> None:
    entries = errors_by_composition(np.array([1.0, 2.0, -4.0, 0.0]), ["TiO2", "Ti2O3", "TiO2", "TiO"])
    assert [(entry["composition"], entry["n_structures"]) for entry in entries] == [
        ("TiO2", 2),
        ("Ti2O3", 1),
        ("TiO", 1),
    ]
    assert entries[0]["mae_meV_per_atom"] == 2.5


def test_energy_bins_of_a_skewed_distribution_have_round_edges_and_separate_the_few_high_energies() -> None:
    fractions = (np.arange(2000) + 0.5) / 2000
    energies = -0.5 * np.log1p(-fractions) - 0.7  # eV/atom; exponential
    edges = energy_edges(energies)
    assert edges == [-0.7, -0.64, -0.56, -0.4, 0.0, 0.4, 1.5, 3.5]
    bins = errors_by_energy(np.ones(2000), energies)
    assert [entry["from_eV_per_atom"] for entry in bins] == edges[:-1]
    assert [entry["to_eV_per_atom"] for entry in bins] == edges[1:]
    assert [entry["n_structures"] for entry in bins] == [226, 262, 414, 605, 271, 197, 25]


@given(ENERGIES)
def test_energy_edges_ascend_and_enclose_all_energies(energies: np.ndarray) -> None:
    edges = energy_edges(energies)
    assert all(low < high for low, high in itertools.pairwise(edges))
    # energies are told apart to 1e-6 eV/atom
    assert edges[0] <= energies.min() + 1e-6
    assert edges[-1] >= energies.max() - 1e-6


@given(ENERGIES, st.randoms(use_true_random=False))
def test_every_structure_is_in_one_energy_bin_whatever_their_order(
    energies: np.ndarray, random: Random
) -> None:
    per_atom = np.arange(1.0, len(energies) + 1.0)
    bins = errors_by_energy(per_atom, energies)
    assert sum(entry["n_structures"] for entry in bins) == len(energies)
    total = sum(entry["n_structures"] * entry["mae_meV_per_atom"] for entry in bins)
    assert total == pytest.approx(per_atom.sum(), rel=1e-6)
    for entry in bins:
        inside = (energies >= entry["from_eV_per_atom"] - 1e-6) & (energies <= entry["to_eV_per_atom"] + 1e-6)
        assert np.count_nonzero(inside) >= entry["n_structures"] > 0
    order = list(range(len(energies)))
    random.shuffle(order)
    assert errors_by_energy(per_atom[order], energies[order]) == [
        {key: pytest.approx(value, rel=1e-6) for key, value in entry.items()} for entry in bins
    ]


def test_few_structures_get_few_energy_bins() -> None:
    assert len(errors_by_energy(np.ones(3), np.array([0.1, 0.2, 0.9]))) == 1
    assert len(errors_by_energy(np.ones(1), np.array([0.1]))) == 1
    assert len(errors_by_energy(np.ones(12), np.linspace(0.0, 1.0, 12))) == 4


# --- forces, spread, distance -------------------------------------------------------------------------------


def test_errors_of_forces_count_components_not_vectors() -> None:
    found = force_metrics([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], np.zeros((2, 3)))
    assert found == {
        "rmse_eV_per_A": pytest.approx(math.sqrt(25 / 6), rel=1e-7),
        "mae_eV_per_A": pytest.approx(7 / 6, rel=1e-7),
        "max_eV_per_A": 4.0,
    }


def test_a_spread_that_grows_with_the_error_has_rank_correlation_one() -> None:
    assert correlation([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])["spearman"] == pytest.approx(1.0)
    assert correlation([3.0, 2.0, 1.0], [1.0, 4.0, 9.0])["spearman"] == pytest.approx(-1.0)
    assert correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])["spearman"] == 0.0
    for n in (1, 2):
        assert correlation([2.0, 4.0][:n], [1.0, 2.0][:n]) == {"spearman": None, "error_over_spread": 0.5}
    assert correlation([0.0, 0.0], [1.0, 2.0])["error_over_spread"] is None


def test_the_rank_correlation_does_not_depend_on_the_order_of_equal_spreads() -> None:
    found = {
        correlation([1, 1, 1, 2], [*error, 2])["spearman"] for error in itertools.permutations((1, 2, 3))
    }
    assert len(found) == 1


def test_many_compositions_take_one_pass_over_the_structures() -> None:
    class Counted(np.ndarray):
        taken = 0

        def __getitem__(self, key: object) -> np.ndarray:
            found = np.asarray(self)[key]
            Counted.taken += np.size(key) if isinstance(key, np.ndarray) else np.size(found)
            return found

    n = 300
    per_atom = np.arange(float(n)).view(Counted)
    compositions = [f"A{(7 * k) % n // 2}B" for k in range(n)]
    found = errors_by_composition(per_atom, compositions)
    assert len(found) == n // 2
    assert Counted.taken <= 4 * n
    assert {entry["composition"]: entry["mae_meV_per_atom"] for entry in found} == {
        name: pytest.approx(np.mean([k for k in range(n) if compositions[k] == name]))
        for name in compositions
    }


def test_errors_are_shown_for_quarters_by_distance() -> None:
    distances = np.array([4.0, 1.0, 3.0, 2.0, 8.0, 5.0, 7.0, 6.0])
    found = errors_by_distance(10.0 * distances, distances)
    assert [(part["from_distance"], part["to_distance"], part["n_structures"]) for part in found] == [
        (1.0, 2.0, 2),
        (3.0, 4.0, 2),
        (5.0, 6.0, 2),
        (7.0, 8.0, 2),
    ]
    assert found[0]["mae_meV_per_atom"] == pytest.approx(15.0)


def test_errors_of_forces_are_told_by_the_distance_of_the_atom() -> None:
    true = np.zeros((5, 3))
    predicted = np.array([[0.3, 0, 0], [0, 0.3, 0], [3.0, 0, 0], [0, 0, 30.0], [0, 0, 0]])
    found = force_errors_by_distance(predicted, true, np.array([0.0, 0.099, 2.0, 1e6, 1.99]))
    assert found == [
        {"from_distance": 0.0, "to_distance": 0.1, "n_atoms": 2, "rmse_eV_per_A": pytest.approx(0.1732051)},
        {"from_distance": 1.0, "to_distance": 2.0, "n_atoms": 1, "rmse_eV_per_A": 0.0},
        {"from_distance": 2.0, "to_distance": 5.0, "n_atoms": 1, "rmse_eV_per_A": pytest.approx(1.7320508)},
        {
            "from_distance": 100.0,
            "to_distance": None,
            "n_atoms": 1,
            "rmse_eV_per_A": pytest.approx(17.320508),
        },
    ]


def test_force_errors_by_element_are_those_of_its_atoms() -> None:
    errors = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -3.0]])
    assert force_errors_by_element(errors, ["O", "Ti", "O"], ["Ti", "O", "H"]) == [
        {"element": "Ti", "n_atoms": 1, **_errors(4 / 3, 2 / 3, 2.0)},
        {"element": "O", "n_atoms": 2, **_errors(10 / 6, 4 / 6, 3.0)},
    ]


def _errors(mean_square: float, mean: float, largest: float) -> dict[str, object]:
    return {
        "rmse_eV_per_A": pytest.approx(mean_square**0.5, rel=1e-5),
        "mae_eV_per_A": pytest.approx(mean, rel=1e-5),
        "max_eV_per_A": largest,
    }
