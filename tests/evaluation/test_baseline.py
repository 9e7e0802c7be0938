from __future__ import annotations

from functools import partial

import pytest

from tio2nn.evaluation.baseline import Comparison, about_training

plenty = partial(about_training, {"Ti": 900, "O": 900}, 0, True, 9000)
few = partial(about_training, {"Cu": 12}, 0, True, 9000)
# energies learned, forces not
IN_TRAINING = Comparison(2.0, 30.0, 0.8, 0.85)
PLENTY = plenty()
WELL = plenty(Comparison(2.0, 30.0, 0.1, 0.85))
POORLY = plenty(IN_TRAINING)


def test_a_good_fit_says_by_what_factors_it_is_better() -> None:
    found = Comparison(2.0, 30.0, 0.1, 0.85)
    assert found.sentence() == (
        "better than reference energies alone by a factor of 15 (RMSE 30.00 meV/atom) and than zero forces by a "
        "factor of 8.5 (RMSE 0.8500 eV/Å)"
    )
    assert found.warning(PLENTY) is None
    assert found.as_dict() == {
        "reference_rmse_meV_per_atom": 30.0,
        "better_by_factor": 15.0,
        "zero_force_rmse_eV_per_A": 0.85,
        "forces_better_by_factor": 8.5,
    }


def test_without_forces_nothing_is_said_of_them() -> None:
    found = Comparison(2.0, 30.0)
    assert "forces" not in found.sentence()
    assert found.as_dict()["forces_better_by_factor"] is None


def test_errors_of_zero_have_no_factor() -> None:
    found = Comparison(0.0, 30.0, 0.0, 1.0)
    assert (found.factor, found.force_factor) == (None, None)
    assert found.sentence().startswith("better than reference energies alone (RMSE 30.00")
    assert Comparison(0.0, 0.0, 0.0, 0.0).warning({}) is not None


def test_forces_that_are_zero_by_symmetry_are_not_compared() -> None:
    found = Comparison(2.0, 30.0, 3e-9, 2e-9)
    assert found.warning(PLENTY) is None
    assert found.sentence() == "better than reference energies alone by a factor of 15 (RMSE 30.00 meV/atom)"
    assert found.as_dict()["forces_better_by_factor"] is None
    warning = Comparison(90.0, 33.0, 0.0, 0.0).warning(PLENTY)
    assert warning is not None
    assert "zero forces" not in warning
    assert "or zero forces" in str(Comparison(90.0, 33.0, 2e-5, 1e-5).warning(PLENTY))


@pytest.mark.parametrize(
    ("found", "about", "far", "reason"),
    [
        (
            Comparison(1108.0, 33.0),
            about_training({"Au": 40, "Cu": 12}, 0, True, 9000),
            False,
            "only 12 training structures contain Cu",
        ),
        (
            Comparison(90.0, 33.0),
            about_training({"Au": 40, "Cu": 1}, 0, True, 9000),
            False,
            "only 1 training structure contains Cu",
        ),
        (
            Comparison(90.0, 33.0),
            about_training({"Cu": 12}, 2, True, 9000),
            False,
            "2 gross outliers are in the training set; leave them out",
        ),
        (
            Comparison(90.0, 33.0),
            about_training({"Cu": 12}, 1, True, 9000),
            False,
            "1 gross outlier is in the training set; leave it out",
        ),
        (Comparison(0.3, 0.2), PLENTY, False, "next to nothing to learn"),
        (Comparison(90.0, 33.0), PLENTY, True, "unlike all training structures"),
        (Comparison(3.0, 33.0, 2.0, 1.0), PLENTY, False, "forces are not in eV/Å"),
        (
            Comparison(3.0, 33.0, 2.0, 1.0),
            about_training({"Cu": 900}, 0, False, 9000),
            False,
            "trained on energies alone",
        ),
        (Comparison(90.0, 33.0, 2.0, 1.0), PLENTY, False, "energies from different methods"),
        (
            Comparison(90.0, 33.0),
            about_training({"Cu": 12}, 0, True, 40),
            False,
            "training was too short (40 steps)",
        ),
        (
            Comparison(3.0, 33.0, 2.0, 1.0),
            about_training({"Cu": 12}, 0, True, 40),
            False,
            "training was too short",
        ),
        (Comparison(3.0, 33.0, 2.0, 1.0), few(), False, "too few structures"),
        (Comparison(3.0, 33.0, 2.0, 1.0), WELL, False, "lacks structures of these kinds"),
        (Comparison(90.0, 33.0), WELL, False, "lacks structures of these kinds, or energies are from"),
        (Comparison(3.0, 33.0, 2.0, 1.0), POORLY, False, "forces are not in eV/Å"),
        (Comparison(3.0, 33.0, 2.0, 1.0), few(IN_TRAINING), False, "zero where they are unknown"),
        (
            Comparison(90.0, 33.0),
            few(Comparison(25.0, 30.0, 0.1, 0.85)),
            False,
            "forces that contradict them",
        ),
        (Comparison(90.0, 33.0), few(IN_TRAINING), False, "only 12 training structures contain Cu"),
        (
            Comparison(3.0, 33.0, 2.0, 1.0),
            about_training({"Cu": 12}, 0, False, 9000, doubts=["forces"]),
            False,
            "trained on energies alone: the forces of the data set do not match",
        ),
        (
            Comparison(90.0, 33.0, 0.1, 1.0),
            few(doubts=["forces"]),
            False,
            "forces of the data set do not match its energies",
        ),
        (Comparison(90.0, 33.0, 0.1, 1.0), few(doubts=["energies"]), False, "the energies are wrong"),
        (Comparison(3.0, 33.0, 2.0, 1.0), few(doubts=["energies"]), False, "the energies are wrong"),
        (Comparison(32.9, 33.0), PLENTY, False, "energies from different methods"),
        (Comparison(3.0, 33.0, 0.99, 1.0), PLENTY, False, "forces are not in eV/Å"),
        (Comparison(90.0, 33.0), {}, False, "energies from different methods"),
    ],
)
def test_a_fit_that_is_no_better_says_so_with_one_likely_reason(
    found: Comparison, about: dict[str, object], far: bool, reason: str
) -> None:
    warning = found.warning(about, mostly_far=far)
    assert warning is not None
    assert reason in warning
    assert warning.startswith("no better than ")
    assert warning.count("likely reason") == 1
